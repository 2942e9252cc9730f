"""The script for the day a GPU is available, as a dry run of every part."""

from __future__ import annotations

import json
import warnings

import gpu_check
import pytest


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu") / "check.json"
    parts = [part.name for part in gpu_check.PARTS if part.name != "tests"]  # they run anyway
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gpu_check.main(out, "cpu", ",".join(parts))
    return json.loads(out.read_text())


def test_no_part_fails_in_a_dry_run(report):
    failed = [row for row in report["rows"] if "failed" in row["measured"]]

    assert failed == []


def test_every_goal_stands_beside_a_figure(report):
    goals = {row["goal"]: row for row in report["rows"] if row["goal"]}

    assert goals.keys() == {"45%", "1500 images/s", "10 min"}
    assert "of the peak" in goals["45%"]["measured"]
    assert float(goals["1500 images/s"]["measured"].split()[0]) >= 0
    assert goals["10 min"]["measured"].endswith("min")


def test_the_report_names_the_machine_and_its_versions(report):
    assert report["versions"].keys() == {"python", "torch", "cuda", "cores"}
    assert report["seconds"] > 0


def test_missing_packages_are_named_as_pip_calls_them(monkeypatch):
    assert gpu_check.missing_packages() == []

    requires = gpu_check.metadata.requires

    def as_if_some_were_missing(name):
        if name in ("open_clip_torch", "mdurl"):  # the second is needed by what rich needs
            raise gpu_check.metadata.PackageNotFoundError
        return requires(name)

    monkeypatch.setattr(gpu_check.metadata, "requires", as_if_some_were_missing)

    assert gpu_check.missing_packages() == ["mdurl", "open_clip_torch"]
