"""The benchmarks run, on the smallest networks: what they measure is of no interest here."""

from __future__ import annotations

import json
import sys

import benchmark
from benchmarks import machine
from benchmarks.network import make_scene, plain_call, run_fast
from benchmarks.start import EXAMPLE, STAGED_COUNT
from small_models import save_small
from typer.testing import CliRunner

from clipcount_cli import cli
from clipcount_cli.api import load_counter


def test_the_staged_count_takes_the_steps_of_count(tmp_path, monkeypatch, capsys):
    weights = save_small(tmp_path / "small.safetensors")
    monkeypatch.setattr(sys, "argv", ["-c", str(EXAMPLE), str(weights), "cpu", "fp32"])
    monkeypatch.setattr(cli, "leave", lambda code: None)

    exec(STAGED_COUNT, {})

    shown = capsys.readouterr()
    number, prompt = shown.out.split("\t")
    assert float(number) >= 0
    assert prompt == "coins\n"
    said = json.loads(shown.err.splitlines()[-1])
    assert said["marks"] == sorted(said["marks"])
    assert said["weights_mb"] > 0


def test_the_network_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "MATRIX_SIDES", {"cpu": (8,)})
    weights = save_small(tmp_path / "small.safetensors")

    shown = CliRunner().invoke(
        benchmark.app,
        ["network", "--weights", str(weights), "--device", "cpu", "--repeats", "1",
         "--precision", "fp32", "--windows", "1", "--prompts", "1"],
    )  # fmt: skip

    assert shown.exit_code == 0, shown.output
    assert "of peak" in shown.output
    assert "ten prompts" in shown.output


def test_compact_towers_are_held_against_themselves_in_fp32():
    counter = load_counter("tiny", "cpu", "fp32")
    scene = make_scene(1, 1)

    assert (plain_call(counter)(*scene) == run_fast(counter, *scene)).all()
