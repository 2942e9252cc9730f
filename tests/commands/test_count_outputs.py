"""`clipcount count`: notices, regions and positions, on an image whose dots are known."""

import csv
import json

import numpy as np
import pytest
from dot_counter import DotCounter, draw_dots
from PIL import Image
from typer.testing import CliRunner

from clipcount_cli.cli import app

WIDTH, HEIGHT, DOTS = 480, 384, 48  # 8 columns of 6 dots


@pytest.fixture
def dots(tmp_path):
    pixels, _ = draw_dots(WIDTH, HEIGHT, pitch_px=60, size_px=30)
    Image.fromarray(pixels).save(tmp_path / "dots.png")
    return tmp_path / "dots.png"


@pytest.fixture
def count(monkeypatch):
    def with_counter(*arguments, counter=None):
        monkeypatch.setattr(
            "clipcount_cli.commands.count.open_counter", lambda *_: counter or DotCounter()
        )
        return CliRunner().invoke(app, ["count", *map(str, arguments)])

    return with_counter


def large(tmp_path):
    pixels, centres = draw_dots(2048, 1536, pitch_px=32, size_px=22)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    return tmp_path / "large.png", len(centres)


def test_a_photo_shrunk_fourfold_says_so_and_names_tiles(count, tmp_path):
    photo, _ = large(tmp_path)

    result = count(photo, "dots", "--json")

    answer = json.loads(result.stdout)
    assert "shrunk 4x" in result.stderr
    assert "--tiles 2" in result.stderr
    assert answer["tiles"] == 1
    assert any("--tiles 2" in notice for notice in answer["notices"])


def test_auto_counts_what_a_photo_shrunk_fourfold_hides_and_says_what_it_chose(count, tmp_path):
    photo, truth = large(tmp_path)

    result = count(photo, "dots", "--tiles", "auto", "--json")

    answer = json.loads(result.stdout)
    assert answer["results"][0]["count"] == pytest.approx(truth, rel=0.1)
    assert answer["tiles"] in (2, 4)
    assert answer["notices"] == [f"--tiles auto chose {answer['tiles']}"]
    assert f"auto chose {answer['tiles']}" in result.stderr


@pytest.mark.parametrize("tiles", ["0", "17", "-1", "two", "1.5", ""])
def test_what_is_no_number_of_tiles_is_a_usage_error(tiles, count, dots):
    result = count(dots, "dots", "--tiles", tiles)

    assert result.exit_code == 2
    assert "auto" in result.stderr


def test_a_name_that_fits_few_objects_gets_a_hint(count, dots):
    result = count(dots, "cookies", "dots", counter=DotCounter(cookies=0.1))

    assert "warning: dotty recognizes few of about 48 objects as cookies" in result.stderr
    assert "as dots" not in result.stderr


def test_doubts_survive_quiet_but_what_was_chosen_or_read_does_not(count, dots, tmp_path):
    tall = Image.open(dots).resize((3000, 3000))
    tall.save(tmp_path / "stack.tif", save_all=True, append_images=[tall])

    loud = count(tmp_path / "stack.tif", "cookies", counter=DotCounter(cookies=0.1)).stderr
    quiet = count(tmp_path / "stack.tif", "cookies", "-q", counter=DotCounter(cookies=0.1)).stderr

    assert "stack.tif: counting page 1 of 2 (choose with --page)\n" in loud
    assert "warning: the image was shrunk 8x: if its objects are small, try --tiles 4" in quiet
    assert "warning: dotty recognizes few" in quiet
    assert "page" not in quiet
    assert set(quiet.splitlines()) < set(loud.splitlines())


@pytest.mark.parametrize(
    ("shares", "prompt", "hinted"),
    [
        ({"white dots": 0.1}, "white dots", False),  # dots are there, but none is white
        ({"white cookies": 0.1, "cookies": 0.1}, "white cookies", True),
        ({"white cookies": 0.1}, "white cookies", True),
        ({"white cookies": 0.9}, "white cookies", False),
        ({"white objects": 0.1}, "white objects", False),
        ({"white": 0.1}, "white", True),  # the last word is the noun, whatever it is
        ({"old dots": 0.1}, "old dots", True),  # not a word that these weights leave out
    ],
)
def test_a_described_prompt_gets_a_hint_only_if_its_noun_fails(count, dots, shares, prompt, hinted):
    result = count(dots, prompt, counter=DotCounter(describing="white small", **shares))

    assert (f" objects as {prompt};" in result.stderr) == hinted
    assert result.stdout.endswith(f"\t{prompt}\n")
    assert len(result.stdout.splitlines()) == 1


def test_weights_without_a_generic_prompt_say_nothing_about_names(count, dots):
    result = count(dots, "dots", "cookies", counter=DotCounter(taught=("dots", "cookies")))

    assert "objects" not in result.stderr


def test_an_image_among_the_prompts_is_refused_with_the_command_for_several(count, dots, tmp_path):
    other = tmp_path / "other one.png"
    other.write_bytes(dots.read_bytes())

    result = count(dots, other, "dots")

    assert result.exit_code == 2
    assert "clipcount batch" in result.stderr
    assert f"'{other}' --prompt dots" in result.stderr.replace("\n", " ")


def test_an_image_without_a_suffix_is_no_prompt_either(count, dots, tmp_path):
    bare = tmp_path / "bare"
    bare.write_bytes(dots.read_bytes())

    assert count(dots, bare).exit_code == 2


def test_an_image_after_its_prompt_is_refused_with_the_right_order(count, dots):
    result = count("dots", dots)

    assert result.exit_code == 2
    assert f"clipcount count {dots} dots" in result.stderr.replace("\n", " ")


def test_a_file_that_is_no_image_may_be_named_like_a_prompt(count, dots, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dots").write_text("notes")

    assert count(dots, "dots").exit_code == 0


def test_regions_are_counted_one_by_one(count, dots):
    result = count(dots, "dots", "--region", "0,0,240,384", "--region", "240,0,60,60")

    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert lines == [["24.0", "dots", "0,0,240,384"], ["1.0", "dots", "240,0,60,60"]]


def test_labels_are_counted_one_by_one_and_add_up(count, dots, tmp_path):
    labels = np.ones((HEIGHT, WIDTH), np.uint8)
    labels[:, 240:] = 2
    labels[180:, 240:] = 3
    Image.fromarray(labels).save(tmp_path / "labels.png")

    whole = json.loads(count(dots, "dots", "--json").stdout)["results"]
    parts = json.loads(count(dots, "dots", "--json", "--mask", tmp_path / "labels.png").stdout)[
        "results"
    ]

    assert list(whole[0]) == ["prompt", "count"]
    assert [part["region"] for part in parts] == ["1", "2", "3"]
    assert [round(part["count"]) for part in parts] == [24, 12, 12]
    assert sum(part["count"] for part in parts) == pytest.approx(whole[0]["count"], rel=1e-6)


def test_a_black_and_white_mask_limits_counts_density_and_positions(count, dots, tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:120] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    points, maps = tmp_path / "p.csv", tmp_path / "d.npy"

    result = count(
        dots, "dots", "--mask", tmp_path / "mask.png", "--points", points, "--density", maps
    )

    number, *names = result.stdout.rstrip("\n").split("\t")
    assert names == ["dots", "inside"]
    assert float(number) == pytest.approx(16, abs=0.2)
    assert np.load(maps).sum() == pytest.approx(float(number), abs=0.06)
    assert len(points.read_text().splitlines()) == 1 + 16


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--region", "1,2,3"], "not a region"),
        (["--region", "0,0,900,10"], "480 x 384"),
        (["--region", "0,0,9,9", "--mask", "wells.png"], "exclude"),
        (["--mask", "{dots}", "--points", "{dots}"], "is an input"),
        (["--density", "map.txt"], ".npy"),
        (["--points", "points.xlsx"], ".csv"),
    ],
)
def test_options_that_cannot_be_met_are_usage_errors(options, said, count, dots):
    result = count(dots, "dots", *(option.format(dots=dots) for option in options))

    assert result.exit_code == 2
    assert said in result.stderr


def test_a_mask_of_another_size_is_refused(count, dots, tmp_path):
    Image.new("L", (WIDTH // 2, HEIGHT // 2), 255).save(tmp_path / "small.png")

    result = count(dots, "dots", "--mask", tmp_path / "small.png")

    assert result.exit_code == 1
    assert "240 x 192" in result.stderr


def test_points_lie_on_the_objects_in_pixels_of_the_image(count, dots, tmp_path):
    count(dots, "dots", "cookies", "--points", tmp_path / "p.csv")

    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    _, centres = draw_dots(WIDTH, HEIGHT, pitch_px=60, size_px=30)
    found = np.array([(row["x"], row["y"]) for row in rows if row["x"]], dtype=float)
    distances = np.linalg.norm(found[:, None] - centres[None], axis=2)
    assert list(rows[0]) == ["image", "prompt", "x", "y"]
    assert len(found) == DOTS
    assert len(set(distances.argmin(axis=1).tolist())) == DOTS
    assert distances.min(axis=1).max() < 15
    assert rows[-1] == {"image": "dots.png", "prompt": "cookies", "x": "", "y": ""}


def test_points_are_data_that_train_reads(count, dots, tmp_path):
    from clipcount_cli.data.datasets import load_dataset

    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "images" / "dots.png").write_bytes(dots.read_bytes())

    count(dots, "dots", "--points", data / "points.csv")

    [sample] = load_dataset(data, None, ["all"]).split("all")
    assert (sample.prompt, len(sample.points_px)) == ("dots", DOTS)
