"""Stacks in a batch: a row per page, one page, a projection or a channel."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from photo_folders import batch
from PIL import Image

from clipcount_cli.batch.messages import decode_jobs, encode_jobs
from clipcount_cli.batch.plan import Job

STACK = np.random.default_rng(4).integers(0, 256, (3, 64, 80, 3), dtype=np.uint8)


def save_stack(path, pages=STACK):
    first, *others = (Image.fromarray(page) for page in pages)
    first.save(path, save_all=True, append_images=others)


@pytest.fixture
def stacks(tmp_path):
    """A stack of three pages, an image of one, and a broken one."""
    folder = tmp_path / "stacks"
    folder.mkdir()
    save_stack(folder / "a.tif")
    Image.fromarray(STACK[0]).save(folder / "b.png")
    (folder / "c.tif").write_bytes(b"II*\0 broken")
    return folder


@pytest.fixture
def rows(weights, tmp_path):
    def run(folder, *options):
        table = tmp_path / "out.csv"
        done = batch(weights, folder, "--prompt", "dots", "--csv", table, "--overwrite", *options)
        assert done.exit_code in (0, 3), done.output
        return list(csv.DictReader(table.open(encoding="utf-8")))

    return run


def test_every_page_of_a_stack_has_its_row(rows, stacks, tmp_path):
    parts = tmp_path / "parts"
    parts.mkdir()
    for number, page in enumerate(STACK, start=1):
        Image.fromarray(page).save(parts / f"{number}.png")

    found = rows(stacks, "--page", "all")

    assert [row["image"] for row in found] == ["a.tif#1", "a.tif#2", "a.tif#3", "b.png", "c.tif"]
    assert [row["status"] for row in found] == ["ok"] * 4 + ["failed"]
    assert not any("page" in row["message"] for row in found[:4])
    alone = rows(parts)
    assert [row["count"] for row in found[:3]] == [row["count"] for row in alone]


@pytest.fixture
def listed(weights, stacks, tmp_path):
    """Count what a table of prompts names; (image, prompt, status) of each row."""

    def run(*lines: str, page: tuple[str, ...] = ("--page", "all")):
        (tmp_path / "list.csv").write_text("\n".join(["image,prompt", *lines]), encoding="utf-8")
        words = ("--prompts", tmp_path / "list.csv", "--csv", tmp_path / "out.csv", *page)
        done = batch(weights, stacks, *words)
        if not (tmp_path / "out.csv").exists():
            return done, []
        with (tmp_path / "out.csv").open(encoding="utf-8") as file:
            found = [(r["image"], r["prompt"], r["status"]) for r in csv.DictReader(file)]
        return done, found

    return run


def test_prompts_of_a_stack_are_those_of_all_its_pages(listed):
    _, found = listed("a.tif,dots", "b.png,beads")

    pages = [(f"a.tif#{page}", "dots", "ok") for page in (1, 2, 3)]
    assert found == [*pages, ("b.png", "beads", "ok")]


def test_prompts_of_a_page_are_counted_in_it_alone(listed):
    _, found = listed("a.tif#3,dots", "./A.TIF#2,nuts", "a.TIF#3,beads", "b.png#1,dots")

    assert found[:2] == [("a.tif#3", "dots", "ok"), ("a.tif#3", "beads", "ok")]
    assert ("b.png", "dots", "ok") in found
    assert ("A.TIF#2", "nuts", "failed") in found  # another file, where names have cases


def test_prompts_of_all_pages_and_of_one_join(listed):
    _, found = listed("a.tif#2,beads", "a.tif,dots")

    prompts = {name: [p for image, p, _ in found if image == name] for name, *_ in found}
    assert prompts == {"a.tif#1": ["dots"], "a.tif#2": ["dots", "beads"], "a.tif#3": ["dots"]}


def test_a_page_that_prompts_name_and_a_file_lacks_is_a_failed_row(listed):
    done, found = listed("a.tif#9,dots", "b.png,dots")

    assert found == [("a.tif#9", "dots", "failed"), ("b.png", "dots", "ok")]
    assert done.exit_code == 3


def test_naming_a_page_without_counting_pages_says_how(listed):
    done, _ = listed("a.tif#2,dots", page=())

    assert done.exit_code == 1
    assert '"a.tif#2" (to count in a page: --page all)' in done.stderr


def test_an_animation_has_a_row_per_frame(rows, tmp_path):
    (tmp_path / "films").mkdir()
    save_stack(tmp_path / "films" / "a.gif", STACK[:2])

    found = rows(tmp_path / "films", "--page", "all")

    assert [row["image"] for row in found] == ["a.gif#1", "a.gif#2"]


@pytest.mark.parametrize(("page", "pixels"), [("2", STACK[1]), ("max", STACK.max(axis=0))])
def test_one_page_or_the_brightest_of_all_is_counted(rows, stacks, tmp_path, page, pixels):
    (tmp_path / "part").mkdir()
    Image.fromarray(pixels).save(tmp_path / "part" / "a.png")

    found = rows(stacks, "--page", page)

    assert [row["image"] for row in found] == ["a.tif", "b.png", "c.tif"]
    assert found[0]["count"] == rows(tmp_path / "part")[0]["count"]


def test_a_page_that_an_image_lacks_is_a_failed_row(rows, stacks):
    found = rows(stacks, "--page", "3")

    assert [row["status"] for row in found] == ["ok", "failed", "failed"]
    assert "has 1 page, no page 3" in found[1]["message"]


def test_a_channel_is_counted_in_every_page(rows, stacks, tmp_path):
    (tmp_path / "green").mkdir()
    save_stack(tmp_path / "green" / "a.tif", STACK[..., 1])

    in_colour = rows(stacks, "--page", "all", "--channel", "2")

    in_gray = rows(tmp_path / "green", "--page", "all")
    assert [row["count"] for row in in_colour[:3]] == [row["count"] for row in in_gray]


def test_pages_are_resumed_one_by_one(weights, stacks, tmp_path):
    (stacks / "c.tif").unlink()
    table = tmp_path / "out.csv"
    words = (stacks, "--prompt", "dots", "--csv", table, "--page", "all")
    batch(weights, *words)
    whole = table.read_bytes()
    table.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))  # a.tif#1 and a.tif#2

    resumed = batch(weights, *words, "--resume")

    assert resumed.exit_code == 0, resumed.output
    assert table.read_bytes() == whole


@pytest.mark.parametrize("options", [(), ("--page", "2"), ("--page", "all", "--channel", "1")])
def test_resuming_with_another_page_or_channel_is_refused(weights, stacks, tmp_path, options):
    words = (stacks, "--prompt", "dots", "--csv", tmp_path / "out.csv")
    batch(weights, *words, "--page", "all")

    resumed = batch(weights, *words, *options, "--resume")

    assert resumed.exit_code == 2
    assert "channel: " in resumed.stderr or "page: " in resumed.stderr


def test_heatmaps_of_pages_have_files_of_their_own(weights, stacks, tmp_path):
    batch(
        weights, stacks, "--prompt", "dots", "--csv", tmp_path / "out.csv",
        "--page", "all", "--heatmaps", tmp_path / "maps",
    )  # fmt: skip

    assert len([path for path in (tmp_path / "maps").rglob("*") if path.is_file()]) == 4


def test_jobs_keep_their_page_and_channel_between_processes():
    jobs = [
        Job("a.tif#2", "a.tif", ("dots",), page=2, channel=1),
        Job("b.tif", "b.tif", ("dots",), page="max"),
        Job("c.png", "c.png", ("dots",)),
    ]

    assert decode_jobs(encode_jobs(jobs)) == jobs
