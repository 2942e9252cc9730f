"""scripts/score_photos.py and score_scenes.py: the figures that README reports."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import score_photos
import score_positions
import score_scenes
import score_tiles
import typer
from dot_counter import DotCounter, draw_dots
from PIL import Image
from typer.testing import CliRunner, Result

import clipcount_cli

pytestmark = pytest.mark.slow

EXAMPLES = Path(clipcount_cli.__file__).parent / "assets" / "examples"


def run(script, *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(script.main)
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def photos(tmp_path) -> Path:
    for name in ("coins.jpg", "smarties.jpg"):
        shutil.copy(EXAMPLES / name, tmp_path / name)
    return tmp_path


def score(photos: Path, rows: list[str], *options: str) -> str:
    labels = photos / "labels.csv"
    labels.write_text("\n".join(["image,prompt,count", *rows]), encoding="utf-8")
    return run(score_photos, "--photos", photos, "--labels", labels, *options).output


def test_photos_are_ranked_by_their_error(photos):
    printed = score(photos, ["coins.jpg,coins,200", "smarties.jpg,candies,14"])

    assert printed.index("smarties.jpg") < printed.index("coins.jpg")
    assert re.search(r"rows +2\b", printed)
    assert re.search(r"Spearman correlation +1\.00", printed)


def test_absent_prompts_are_those_of_others_that_share_nothing_with_a_photo(photos):
    rows = ["coins.jpg,coins,24", "smarties.jpg,green candies,3", "smarties.jpg,candies,14"]

    printed = score(photos, rows, "--absent")

    assert re.search(r"NMN \(absent prompts over truth\) +\d+\.\d\d", printed)


def test_what_is_there_but_uncounted_is_never_absent(photos):
    rows = ["coins.jpg,coins,24", "coins.jpg,candies,", "smarties.jpg,coins,"]
    rows += ["smarties.jpg,candies,14"]

    printed = score(photos, rows, "--absent")

    assert re.search(r"rows +2\b", printed)
    assert re.search(r"NMN \(absent prompts over truth\) +-", printed)


def test_scenes_are_scored_by_noun_and_by_what_their_prompts_name(tmp_path):
    pictures = tmp_path / "ranks.png"
    sizes = ("--two-sizes", 1, "--material-share", 1)

    printed = run(score_scenes, "--scenes", 6, "--side-px", 96, "--pictures", pictures, *sizes)

    assert re.search(r"scenes +6\b", printed.output)
    assert re.search(r"NMN: absent count over true count +\d", printed.output)
    for wording in ("noun", "colour", "size", "objects"):
        assert re.search(rf"{wording} +\d+ +\d\.\d\d", printed.output)
    with Image.open(pictures) as sheet:
        assert sheet.width >= 3 * 96


@pytest.fixture
def dotty(monkeypatch):
    """Scripts count with a counter that needs no weights."""
    for script in (score_tiles, score_positions):
        monkeypatch.setattr(script, "load_counter", lambda *_, **__: DotCounter(smallest_px=8))
    monkeypatch.setenv("COLUMNS", "80")


def test_automatic_tiles_are_compared_with_fixed_ones_at_every_distance(
    dotty, tmp_path, monkeypatch
):
    monkeypatch.setattr(score_tiles, "COPIES", (1, 3))
    monkeypatch.setattr(score_tiles, "LAYOUTS", (score_tiles.ENLARGED, 1, 3))
    pixels, centres = draw_dots(384, 384, pitch_px=48, size_px=12)
    Image.fromarray(pixels).save(tmp_path / "tray.png")
    labels = tmp_path / "labels.csv"
    labels.write_text(f"image,prompt,count\ntray.png,dots,{len(centres)}\n", encoding="utf-8")
    options = ("--scenes", 0, "--photos", tmp_path, "--labels", labels, "--calibrate")

    printed = run(score_tiles, *options).output

    assert max(map(len, printed.splitlines())) <= 80
    assert "median relative error of 1 image" in printed
    median = dict(re.findall(r"(enlarged|\d x \d) +(.*)", printed.partition("mean")[0]))
    assert median["3 x 3"].split()[-2:] == ["0.00", "-"]
    assert float(median["3 x 3"].split()[0]) == 1
    assert re.search(r"3 x 3 +3 \(1 image\)", printed)
    assert "in use" in printed


def test_positions_are_scored_by_precision_and_recall(dotty):
    printed = run(score_positions, "--scenes", 1).output

    assert max(map(len, printed.splitlines())) <= 80
    assert re.search(r"precision +\d\.\d\d", printed)
    assert re.search(r"recall +\d\.\d\d", printed)


@pytest.mark.parametrize(
    ("prompt", "wording"),
    [
        ("peas", "noun"),
        ("green peas", "kind, synonym, singular"),
        ("green apples", "colour"),
        ("wooden spoons", "material"),
        ("large green apples", "size"),
        ("green objects", "objects"),
        ("fruit", "kind, synonym, singular"),
    ],
)
def test_the_most_telling_word_of_a_prompt_decides(prompt, wording):
    assert score_scenes.wording_of(prompt, {"peas", "apples", "spoons"}) == wording
