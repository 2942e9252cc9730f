"""`batch --masks` and `--points`: counts per region, positions that `train` reads."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from photo_folders import batch, draw, draw_folder
from PIL import Image

from clipcount_cli.batch.results import ResultsFile

PROMPTS = ("--prompt", "apples", "--prompt", "figs")


@pytest.fixture
def photos(tmp_path):
    folder = draw_folder(tmp_path / "photos", 2)
    draw(folder / "sub" / "3.png", seed=3)
    return folder


@pytest.fixture
def masks(tmp_path):
    """Two labels that cover each image."""
    labels = np.ones((64, 96), np.uint8)
    labels[:, 40:] = 7
    for name in ("1.png", "2.tif", "sub/3.png"):
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(tmp_path / "masks" / name)
    return tmp_path / "masks"


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_label_has_its_row_and_all_add_up(weights, photos, masks, tmp_path):
    out = tmp_path / "out.csv"
    batch(weights, photos, *PROMPTS, "--csv", tmp_path / "whole.csv")

    result = batch(weights, photos, *PROMPTS, "--csv", out, "--masks", masks)

    rows = read(out)
    assert result.exit_code == 0, result.output
    assert list(rows[0])[-1] == "region"
    assert [row["region"] for row in rows] == ["1", "7"] * 6
    for whole in read(tmp_path / "whole.csv"):
        key = (whole["image"], whole["prompt"])
        parts = [float(row["count"]) for row in rows if (row["image"], row["prompt"]) == key]
        assert sum(parts) == pytest.approx(float(whole["count"]), abs=0.02)


def test_an_image_without_its_mask_or_with_one_of_another_size_fails_alone(
    weights, photos, masks, tmp_path
):
    (masks / "1.png").unlink()
    Image.new("L", (5, 5), 255).save(masks / "2.tif")

    result = batch(
        weights,
        photos,
        *PROMPTS,
        "--csv",
        tmp_path / "out.csv",
        "--masks",
        masks,
        "--report",
        tmp_path / "out.html",
    )

    status = {row["image"]: (row["status"], row["message"]) for row in read(tmp_path / "out.csv")}
    assert result.exit_code == 3, result.output
    assert "no mask 1.png or 1.tif" in status["1.png"][1]
    assert "5 x 5" in status["2.png"][1]
    assert status["sub/3.png"] == ("ok", "")


def test_a_run_with_masks_resumes_to_the_same_bytes(weights, photos, masks, tmp_path):
    out = tmp_path / "out.csv"
    words = (photos, *PROMPTS, "--csv", out, "--masks", masks)
    batch(weights, *words)
    whole = out.read_bytes()

    for rows in (1, 2, 3, 6, 7, 12):
        out.write_bytes(b"".join(whole.splitlines(True)[: 1 + rows]))
        result = batch(weights, *words, "--resume")
        assert result.exit_code == 0, result.output
        assert out.read_bytes() == whole


def test_a_part_killed_between_the_regions_of_its_last_image_is_not_joined(
    weights, photos, masks, tmp_path, monkeypatch
):
    parts = [tmp_path / "1.csv", tmp_path / "2.csv"]
    words = [
        (photos, "--prompt", "figs", "--csv", part, "--masks", masks, "--shard", f"{n}/2")
        for n, part in enumerate(parts, start=1)
    ]
    append = ResultsFile.append

    def die_within(results, rows):
        append(results, rows[:1] if rows[0].image == "sub/3.png" else rows)
        if rows[0].image == "sub/3.png":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResultsFile, "append", die_within)
        batch(weights, *words[0])
    batch(weights, *words[1])
    join = ("--merge", *parts, "--csv", tmp_path / "joined.csv")

    torn = batch(weights, *join)
    batch(weights, *words[0], "--resume")
    whole = batch(weights, *join)

    assert (torn.exit_code, whole.exit_code) == (1, 0)
    assert "1.csv is not finished" in torn.stderr
    assert [row["region"] for row in read(tmp_path / "joined.csv")] == ["1", "7"] * 3


def test_a_page_has_its_own_mask_else_that_of_the_stack(weights, tmp_path):
    (tmp_path / "stacks").mkdir()
    (tmp_path / "masks").mkdir()
    pages = [Image.fromarray(np.full((64, 96, 3), level, np.uint8)) for level in (50, 90, 130)]
    for name in ("a", "b"):
        pages[0].save(tmp_path / "stacks" / f"{name}.tif", save_all=True, append_images=pages[1:])
    for name, label in (("a", 5), ("a#2", 6)):
        labels = np.full((64, 96), label, np.uint8)
        labels[:, 48:] = 1
        Image.fromarray(labels).save(tmp_path / "masks" / f"{name}.png")
    of_pages = [Image.fromarray(np.eye(64, 96, dtype=np.uint8) * n + 7) for n in (1, 2, 3)]
    of_pages[0].save(tmp_path / "masks" / "b.tif", save_all=True, append_images=of_pages[1:])

    words = (tmp_path / "stacks", "--prompt", "figs", "--csv", tmp_path / "out.csv")
    result = batch(weights, *words, "--page", "all", "--masks", tmp_path / "masks")

    assert result.exit_code == 0, result.output
    regions: dict[str, list[str]] = {}
    for row in read(tmp_path / "out.csv"):
        regions.setdefault(row["image"], []).append(row["region"])
    assert regions == {
        "a.tif#1": ["1", "5"], "a.tif#2": ["1", "6"], "a.tif#3": ["1", "5"],
        "b.tif#1": ["7", "8"], "b.tif#2": ["7", "9"], "b.tif#3": ["7", "10"],
    }  # fmt: skip


def test_masks_are_not_counted_and_must_not_lie_among_the_images(weights, photos, masks, tmp_path):
    inner = masks.rename(photos / "masks")

    result = batch(weights, photos, *PROMPTS, "--csv", tmp_path / "out.csv", "--masks", inner)
    beside = batch(weights, photos, "--csv", tmp_path / "o.csv", "--masks", photos)

    assert result.exit_code == 0, result.output
    assert {row["image"] for row in read(tmp_path / "out.csv")} == {"1.png", "2.png", "sub/3.png"}
    assert (beside.exit_code, "lie among the images" in beside.stderr) == (2, True)


def test_positions_are_as_many_as_the_counts_and_joined_for_training(weights, photos, tmp_path):
    points, out = tmp_path / "points", tmp_path / "out.csv"
    words = (photos, *PROMPTS, "--csv", out, "--points", points)
    batch(weights, *words)
    joined = (points / "points.csv").read_bytes()
    found = read(points / "points.csv")
    for row in read(out):
        key = (row["image"], row["prompt"])
        positions = [p for p in found if (p["image"], p["prompt"]) == key]
        assert len(positions) == pytest.approx(float(row["count"]), abs=0.51)
        assert all(0 <= float(p["x"]) < 96 and 0 <= float(p["y"]) < 64 for p in positions)
    refused = batch(weights, *words[:-3], tmp_path / "other.csv", "--points", points)
    out.write_bytes(b"".join(out.read_bytes().splitlines(True)[:3]))

    result = batch(weights, *words, "--resume")

    assert list(found[0]) == ["image", "prompt", "x", "y"]
    assert refused.exit_code == 2
    assert result.exit_code == 0, result.output
    assert (points / "points.csv").read_bytes() == joined
