"""Annotations of single pages of a stack, named `a.tif#3` as `batch --page all` names them."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
from photo_folders import batch, save_weights
from PIL import Image
from typer.testing import CliRunner

from clipcount_cli.cli import app
from clipcount_cli.data.datasets import load_dataset
from clipcount_cli.data.samples import read_pixels
from clipcount_cli.errors import DataError
from clipcount_cli.evaluation.evaluate import evaluate
from clipcount_cli.training.photos import PixelCache, read_photos

LEVELS = (10, 90, 200)
SIZES = ((60, 40), (60, 40), (30, 80))  # (width, height); the last page is of another size


def save_stack(path, levels=LEVELS, sizes=SIZES):
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = zip(levels, sizes, strict=True)
    first, *others = (Image.new("RGB", size, (level, 0, 0)) for level, size in shapes)
    first.save(path, save_all=True, append_images=others)


@pytest.fixture
def data(tmp_path):
    """Make a data set of `a.tif` with three pages, `b.png` and what a table says of them."""

    def make(*lines, table="points.csv", columns="image,prompt,x,y"):
        save_stack(tmp_path / "images" / "a.tif")
        Image.new("RGB", (60, 40), (33, 0, 0)).save(tmp_path / "images" / "b.png")
        (tmp_path / table).write_text("\n".join([columns, *lines]), encoding="utf-8")
        return tmp_path

    return make


def read(root, split="all"):
    samples = load_dataset(root, splits=(split,)).split(split)
    return sorted(samples, key=lambda sample: sample.name)


def refusal(root):
    with pytest.raises(DataError) as caught:
        read(root)
    return str(caught.value)


def test_a_row_names_a_page_and_its_pixels(data):
    samples = read(data("a.tif#1,beads,1,2", "a.tif#3,beads,20,70", "b.png,beads,5,5"))

    assert [sample.name for sample in samples] == ["a.tif#1", "a.tif#3", "b.png"]
    assert [int(read_pixels(sample)[0, 0, 0]) for sample in samples] == [10, 200, 33]
    assert read_pixels(samples[1]).shape == (80, 30, 3)


@pytest.mark.parametrize("name", ["a.TIF#3", "./a.tif#3", "images\\a.tif#3", "a.tif%233"])
def test_a_page_is_found_under_all_spellings_of_its_file(data, name):
    (sample,) = read(data(f"{name},beads,20,70"))

    assert sample.source == (data().joinpath("images", "a.tif"), 3)


def test_other_formats_name_pages_too(data):
    folder = data()
    (folder / "points.csv").unlink()
    images = [{"id": page, "file_name": f"a.tif#{page}"} for page in (2, 3)]
    marks = [
        {"id": i["id"], "image_id": i["id"], "category_id": 1, "bbox": [1, 1, 4, 4]} for i in images
    ]
    coco = {"images": images, "annotations": marks, "categories": [{"id": 1, "name": "beads"}]}
    (folder / "annotations.json").write_text(json.dumps(coco))

    assert [sample.page for sample in read(folder)] == [2, 3]


def test_a_file_of_that_name_comes_first(data):
    folder = data("a.tif#3,beads,5,5")
    Image.new("RGB", (60, 40), (77, 0, 0)).save(folder / "images" / "a.tif#3", "PNG")

    (sample,) = read(folder)

    assert (sample.page, int(read_pixels(sample)[0, 0, 0])) == (None, 77)


def test_the_bare_name_and_page_one_are_one_image(data):
    (sample,) = read(data("a.tif,beads,1,2", "a.tif#1,beads,7,7", "a.tif#1,beads,1,2"))

    assert sample.truth == 2


def test_pages_that_do_not_exist_are_listed(data):
    said = refusal(data("a.tif#4,beads,1,2", "b.png#1,beads,1,2", "b.png#2,beads,1,2"))

    assert "pages that do not exist (2): " in said
    assert "a.tif#4 (of 3 pages)" in said
    assert "b.png#2 (of 1 page)" in said


def test_a_page_of_a_file_that_is_missing_is_a_missing_image(data):
    assert 'images/bb.png#2 (did you mean "images/b.png"?)' in refusal(data("bb.png#2,beads,1,2"))


def test_positions_are_held_against_the_size_of_their_own_page(data):
    assert "a.tif#3 (x 50, y 20 in 30 x 80)" in refusal(data("a.tif#3,beads,50,20"))


def test_only_a_name_without_page_is_warned_about(data):
    named = load_dataset(data("a.tif#1,beads,1,2"), splits=("all",))
    bare = load_dataset(data("a.tif,beads,1,2"), splits=("all",))

    assert not any("first page" in warning for warning in named.warnings)
    assert any("a.tif (3)" in warning for warning in bare.warnings)


def split_of(folder):
    dataset = load_dataset(folder, splits=("all",))
    return {sample.name: name for name, samples in dataset.splits.items() for sample in samples}


def test_split_csv_names_pages_or_all_of_a_file(data):
    pages = [f"a.tif#{page},beads,1,2" for page in (1, 2, 3)]
    folder = data(*pages, "b.png,beads,1,1")

    (folder / "split.csv").write_text("image,split\na.tif,test\nb.png,train\n")
    whole = split_of(folder)
    (folder / "split.csv").write_text(
        "image,split\na.tif#1,train\na.tif#2,val\na.tif#3,test\nb.png,train\n"
    )
    single = split_of(folder)

    assert whole == {**dict.fromkeys(["a.tif#1", "a.tif#2", "a.tif#3"], "test"), "b.png": "train"}
    assert single == {"a.tif#1": "train", "a.tif#2": "val", "a.tif#3": "test", "b.png": "train"}
    (folder / "split.csv").write_text("image,split\na.tif,test\nb.png,train\na.tif#2,val\n")
    assert "images in two splits (1): a.tif#2 (test, val)" in refusal(folder)


def test_pages_of_a_file_share_a_split_if_there_are_files_enough(data):
    stacks = [f"{name}.tif" for name in "cdef"]
    folder = data(*(f"{name}#{page},beads,1,2" for name in stacks for page in (1, 2, 3)))
    for name in stacks:
        save_stack(folder / "images" / name)

    by_page = split_of(folder)

    for name in stacks:
        assert len({by_page[f"{name}#{page}"] for page in (1, 2, 3)}) == 1
    assert set(by_page.values()) == {"train", "val", "test"}


def test_pages_of_one_file_are_divided_with_a_warning(data):
    folder = data(*(f"a.tif#{page},beads,1,2" for page in (1, 2, 3)))

    assert sorted(split_of(folder).values()) == ["test", "train", "val"]
    assert "pages of one file are divided" in load_dataset(folder, splits=("all",)).warnings[0]


class Brightness:
    """A counter that returns the red of the first pixel."""

    def count_pixels(self, pixels, prompts, tiles):
        class Result:
            prompt, count = prompts[0], float(pixels[0, 0, 0])

        return [Result]

    def size_notice(self, pixels, tiles):
        return None


def test_counts_of_pages_are_evaluated_page_by_page(data):
    rows = ("a.tif#2,beads,90", "a.tif#3,beads,201", "b.png#1,beads,33")
    samples = read(data(*rows, table="counts.csv", columns="image,prompt,count"), "test")

    found = [row for rows in evaluate(Brightness(), samples) for row in rows]

    assert [(row.image, row.error) for row in found] == [
        ("a.tif#2", 0), ("a.tif#3", -1), ("b.png#1", 0),
    ]  # fmt: skip
    assert len({row.source for row in found}) == 3


def test_training_reads_each_page(data, tmp_path):
    samples = read(data(*(f"a.tif#{page},beads,1,2" for page in (1, 2, 3))))

    images = read_photos(samples, PixelCache(1e9, tmp_path), "reading")

    assert [int(image.pixels[0, 0, 0]) for image in images] == list(LEVELS)
    assert len({image.source for image in images}) == 3


HYPERSTACK = "ImageJ=1.54f\nimages=6\nchannels=2\nslices=3\nhyperstack=true\n"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--page", "all"), [f"a.tif#{page}" for page in range(1, 7)]),
        (("--page", "2"), ["a.tif#2"]),
        (("--page", "all", "--channel", "2"), ["a.tif#2", "a.tif#4", "a.tif#6"]),
        (("--page", "2", "--channel", "1"), ["a.tif#3"]),
        (
            (
                "--channel",
                "2",
            ),
            ["a.tif#2"],
        ),
        ((), ["a.tif"]),
    ],
)
def test_positions_are_named_after_the_pages_that_were_counted(tmp_path, options, names):
    weights = save_weights(tmp_path / "small.safetensors")
    (tmp_path / "stacks").mkdir()
    first, *others = (Image.new("L", (60, 40), 40 * page) for page in range(6))
    stack = tmp_path / "stacks" / "a.tif"
    first.save(stack, save_all=True, append_images=others, description=HYPERSTACK)
    places = ("--points", tmp_path / "points", "--csv", tmp_path / "out.csv")

    batch(weights, tmp_path / "stacks", "--prompt", "beads", *options, *places)

    positions = tmp_path / "points" / "points.csv"
    assert named(positions) == names
    if "all" not in options:
        words = ["count", stack, "beads", *options, "--points", tmp_path / "p.csv"]
        CliRunner().invoke(app, [str(word) for word in (*words, "--weights", weights)])
        assert named(tmp_path / "p.csv") == names
    shutil.copy(positions, tmp_path / "stacks")
    with (tmp_path / "stacks" / "points.csv").open("a", newline="") as file:
        csv.writer(file).writerows((name, "dots", 1, 2) for name in names)
    dataset = load_dataset(tmp_path / "stacks", splits=("all",))
    samples = [sample for sample in dataset.split("all") if sample.prompt == "dots"]
    assert sorted(sample.name for sample in samples) == names
    assert any("across all channels" in said for said in dataset.warnings) == ("#" in names[0])


def named(table):
    with table.open(newline="") as file:
        return list(dict.fromkeys(row["image"] for row in csv.DictReader(file)))
