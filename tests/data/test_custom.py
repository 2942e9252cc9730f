"""The user's own data: units, sizes, names and splits that could spoil a truth in silence."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_folders import draw, make_coco, make_fsc147, make_own
from image_files import tiff
from PIL import Image

from clipcount_cli.data.datasets import load_dataset
from clipcount_cli.errors import DataError

POINTS = [(10, 12), (40, 50), (90, 20.5), (110, 80), (55, 33)]
NAMES = [f"{number}.jpg" for number in range(6)]


def rows(scale=lambda x, y: (x, y), names=NAMES):
    return [f"{n},beads,{x},{y}" for n in names for x, y in (scale(*p) for p in POINTS)]


def own(root: Path, lines: list[str], names: list[str] = NAMES) -> Path:
    make_own(root, lines, [])
    for name in names:
        draw(root / "images" / name, 320, 240)
    return root


def read(root, splits=("all",)):
    return load_dataset(root, splits=splits)


def refusal(root):
    with pytest.raises(DataError) as caught:
        read(root)
    return str(caught.value)


def truths(dataset):
    return {(s.name, s.prompt): s.truth for s in dataset.split("all")}


# --- units


def test_positions_in_pixels_are_taken_as_they_are(tmp_path):
    dataset = read(own(tmp_path, rows()))

    assert set(truths(dataset).values()) == {5}
    assert dataset.warnings == ()


def test_positions_as_fractions_of_the_sides_are_refused(tmp_path):
    own(tmp_path, rows(lambda x, y: (x / 320, y / 240)))

    assert "all lie in 0 to 1: pixels are needed, not fractions (6)" in refusal(tmp_path)


def test_one_image_in_fractions_among_others_in_pixels_is_refused(tmp_path):
    lines = rows(names=NAMES[1:]) + rows(lambda x, y: (x / 320, y / 240), names=NAMES[:1])

    assert "not fractions (1): 0.jpg" in refusal(own(tmp_path, lines))


def test_fractions_of_objects_at_the_edge_may_exceed_one(tmp_path):
    lines = [*rows(lambda x, y: (x / 320, y / 240)), *[f"{name},beads,1.01,1" for name in NAMES]]

    assert "not fractions (6)" in refusal(own(tmp_path, lines))


def test_an_image_with_some_positions_in_fractions_is_refused(tmp_path):
    lines = [*rows(), "0.jpg,beads,0.25,0.5", "0.jpg,beads,0.75,0.5"]

    assert "not fractions (1): 0.jpg" in refusal(own(tmp_path, lines))


def test_fractions_in_a_published_layout_are_refused_too(tmp_path):
    make_fsc147(tmp_path, {"test": ["1.jpg", "2.jpg"]}, {"1.jpg": "a", "2.jpg": "a"}, [(0.2, 0.7)])

    assert "not fractions (2)" in refusal(tmp_path)


def test_one_object_in_the_corner_of_an_image_is_no_fraction(tmp_path):
    own(tmp_path, [*rows(names=NAMES[1:]), "0.jpg,beads,0.5,0.5"])

    assert truths(read(tmp_path))[("0.jpg", "beads")] == 1


def test_positions_that_are_all_zero_are_refused(tmp_path):
    assert "not fractions" in refusal(own(tmp_path, [f"{name},beads,0,0" for name in NAMES]))


def test_positions_in_percent_are_a_warning(tmp_path):
    dataset = read(own(tmp_path, rows(lambda x, y: (x / 3.2, y / 2.4))))

    assert any("percent" in warning for warning in dataset.warnings)


def test_percent_of_objects_at_the_edge_may_exceed_a_hundred(tmp_path):
    lines = [*rows(lambda x, y: (x / 3.2, y / 2.4)), "0.jpg,beads,100.5,50"]

    assert any("percent" in warning for warning in read(own(tmp_path, lines)).warnings)


def test_few_positions_near_the_corner_are_no_warning(tmp_path):
    assert read(own(tmp_path, ["0.jpg,beads,90,90"], NAMES[:1])).warnings == ()


# --- sizes


def coco(width: int, height: int) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": width, "height": height}],
        "categories": [{"id": 1, "name": "beads"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 5, 6, 7]}],
    }


def test_an_image_of_another_size_than_stated_is_refused(tmp_path):
    make_coco(tmp_path, coco(32, 24), [])
    draw(tmp_path / "images" / "a.jpg", 64, 48)

    assert "a.jpg (32 x 24 stated, 64 x 48)" in refusal(tmp_path)


def test_an_image_of_two_stated_sizes_is_refused(tmp_path):
    data = coco(64, 48)
    data["images"].append({**data["images"][0], "id": 2, "width": 32, "height": 24})
    make_coco(tmp_path, data, [])
    draw(tmp_path / "images" / "a.jpg", 64, 48)

    assert "stated differently in two places (1): a.jpg" in refusal(tmp_path)


def test_rows_of_one_image_that_state_two_sizes_are_refused(tmp_path):
    (tmp_path / "boxes.csv").write_text(
        "image,label,xmin,ymin,xmax,ymax,width,height\n"
        "a.jpg,bead,2,2,8,8,64,48\na.jpg,bead,20,20,30,30,128,96\n"
    )
    draw(tmp_path / "images" / "a.jpg", 64, 48)

    assert "stated differently in two places (1): a.jpg (boxes.csv: line 3)" in refusal(tmp_path)


def test_dots_that_fit_an_image_only_before_exif_turns_it_say_so(tmp_path):
    own(tmp_path, [f"0.jpg,beads,{x},20" for x in (40, 200, 310)], [])
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(tmp_path / "images" / "0.jpg", 320, 240, exif=exif)

    assert "points outside their image, but inside it as it is stored, before EXIF turns it" in (
        refusal(tmp_path)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize(("orientation", "size"), [(1, (50, 20)), (3, (50, 20)), (6, (20, 50))])
def test_an_oriented_tiff_has_the_size_that_its_pixels_have(tmp_path, dtype, orientation, size):
    data = coco(*size)
    data["images"][0]["file_name"] = "a.tif"
    make_coco(tmp_path, data, [])
    path = tmp_path / "images" / "a.tif"
    path.parent.mkdir()
    path.write_bytes(tiff(np.zeros((20, 50), dtype), tags={274: [orientation]}).getvalue())

    assert read(tmp_path).split("all")[0].stated_size == size


def test_an_image_annotated_as_stored_and_turned_by_exif_is_refused_by_name(tmp_path):
    make_coco(tmp_path, coco(64, 48), [])
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(tmp_path / "images" / "a.jpg", 64, 48, exif=exif)

    message = refusal(tmp_path)
    assert "EXIF" in message
    assert "a.jpg (64 x 48 stated, 48 x 64 upright" in message


@pytest.mark.parametrize("size", [(64, 48), (0, 0)])
def test_the_right_size_and_no_size_are_accepted(tmp_path, size):
    make_coco(tmp_path, coco(*size), [])
    draw(tmp_path / "images" / "a.jpg", 64, 48)

    assert len(read(tmp_path).split("all")) == 1


def test_dots_up_to_a_hundredth_outside_are_moved_to_the_edge_and_counted(tmp_path):
    lines = [*rows(), "0.jpg,beads,320.4,50", "0.jpg,beads,50,-2", "1.jpg,beads,323,10"]

    dataset = read(own(tmp_path, lines))

    assert truths(dataset)[("0.jpg", "beads")] == 7
    notice = next(each for each in dataset.notices if "just outside" in each)
    assert "(3)" in notice
    assert "0.jpg (2), 1.jpg (1)" in notice


def test_a_dot_exactly_a_hundredth_outside_is_moved_too(tmp_path):
    dataset = read(own(tmp_path, [*rows(), f"{NAMES[0]},beads,323.2,20"]))

    assert truths(dataset)[NAMES[0], "beads"] == len(POINTS) + 1


def test_dots_further_outside_are_refused(tmp_path):
    assert "0.jpg (x 324, y 50" in refusal(own(tmp_path, [*rows(), "0.jpg,beads,324,50"]))


def test_images_with_several_pages_are_a_warning(tmp_path):
    own(tmp_path, ["stack.tif,beads,4,5"], [])
    pages = [Image.fromarray(np.full((24, 32), level, np.uint8)) for level in (7, 90, 200)]
    (tmp_path / "images").mkdir()
    pages[0].save(tmp_path / "images" / "stack.tif", save_all=True, append_images=pages[1:])

    (warning,) = read(tmp_path).warnings
    assert "first page" in warning
    assert "stack.tif (3)" in warning


# --- one image under several names


def test_one_image_under_two_names_is_one_image_in_one_split(tmp_path):
    lines = [f"{'images/' if number % 2 else ''}{line}" for number, line in enumerate(rows())]

    dataset = read(own(tmp_path, lines))

    assert list(truths(dataset).values()) == [5] * 6
    assert truths(read(own(tmp_path / "plain", rows()))).keys() >= {("0.jpg", "beads")}
    assert any("listed twice" in notice for notice in dataset.notices)


def test_the_spelling_of_a_name_does_not_move_an_image_to_another_split(tmp_path):
    plain = read(own(tmp_path / "plain", rows()))
    other = read(own(tmp_path / "other", [f"images/{line}" for line in rows()]))

    def by_split(dataset):
        return {split: [s.image.name for s in each] for split, each in dataset.splits.items()}

    assert by_split(plain) == by_split(other)


def test_rows_listed_twice_count_once_and_it_is_said(tmp_path):
    dataset = read(own(tmp_path, rows() * 2))

    assert set(truths(dataset).values()) == {5}
    assert any("listed twice" in notice and "0.jpg (5)" in notice for notice in dataset.notices)


def test_a_link_to_an_image_is_that_image(tmp_path):
    own(tmp_path, [*rows(), "link.jpg,beads,200,200"])
    (tmp_path / "images" / "link.jpg").symlink_to(tmp_path / "images" / "0.jpg")

    assert truths(read(tmp_path))[("0.jpg", "beads")] == 6


def test_a_coco_file_that_lists_an_image_twice_has_it_once(tmp_path):
    data = coco(0, 0)
    data["images"].append({"id": 2, "file_name": "images\\a.jpg"})
    data["annotations"].append({"id": 2, "image_id": 2, "category_id": 1, "bbox": [4, 5, 6, 7]})
    data["annotations"].append({"id": 3, "image_id": 2, "category_id": 1, "bbox": [9, 9, 6, 7]})
    make_coco(tmp_path, data, ["a.jpg"])

    dataset = read(tmp_path)

    assert truths(dataset) == {("a.jpg", "beads"): 2}
    assert any("a.jpg (also as images/a.jpg)" in notice for notice in dataset.notices)


def test_prompts_that_differ_in_case_or_spaces_are_one(tmp_path):
    lines = [*rows(), "0.jpg,Beads,200,200", "0.jpg, beads ,220,220"]

    dataset = read(own(tmp_path, lines))

    assert truths(dataset)[("0.jpg", "beads")] == 7
    assert {prompt for _, prompt in truths(dataset)} == {"beads"}
    assert any('"Beads" = "beads"' in notice for notice in dataset.notices)


def test_one_object_rounded_differently_in_two_rows_counts_once(tmp_path):
    dataset = read(own(tmp_path, [*rows(), "0.jpg,beads,10.001,11.999"]))

    assert truths(dataset)[("0.jpg", "beads")] == 5


@pytest.mark.parametrize("other", ["images/0.jpg,beads", "0.jpg,Beads"])
def test_two_counts_of_one_image_under_two_spellings_are_refused(tmp_path, other):
    draw(tmp_path / "images" / "0.jpg")
    (tmp_path / "counts.csv").write_text(f"image,prompt,count\n0.jpg,beads,3\n{other},4\n")

    assert "prompts with two different counts in counts.csv (1): 0.jpg" in refusal(tmp_path)


def test_split_csv_may_spell_names_in_its_own_way(tmp_path):
    own(tmp_path, rows(names=["käfer.jpg", "b.jpg"]), [])
    for name in (unicodedata.normalize("NFD", "käfer.jpg"), "b.JPG"):
        draw(tmp_path / "images" / name, 320, 240)
    text = "Image;Split\r\nimages\\käfer.jpg;Valid\r\n\r\nb.jpg;train\r\n"
    (tmp_path / "split.csv").write_bytes(text.encode("utf-16"))

    dataset = read(tmp_path, ("train", "val"))

    assert [s.image.name for s in dataset.split("train")] == ["b.JPG"]
    assert len(dataset.split("val")) == 1


def test_one_image_in_two_splits_under_two_names_is_refused(tmp_path):
    own(tmp_path, rows(names=["a.jpg"]), ["a.jpg"])
    (tmp_path / "split.csv").write_text("image,split\na.jpg,train\nimages/a.jpg,test\n")

    assert "images in two splits (1)" in refusal(tmp_path)


def test_a_missing_image_comes_with_the_name_that_may_be_meant(tmp_path):
    own(tmp_path, rows(names=["IMG_001.jpeg"]), ["IMG_001.jpg"])

    assert 'images/IMG_001.jpeg (did you mean "images/IMG_001.jpg"?)' in refusal(tmp_path)


def test_two_files_that_annotate_an_image_differently_are_refused(tmp_path):
    make_own(tmp_path, [], ["a.jpg"])
    (tmp_path / "points.csv").unlink()
    for name, x in (("first.csv", 3), ("second.csv", 9)):
        (tmp_path / name).write_text(f"image,prompt,x,y\na.jpg,beads,{x},5\n")

    assert "two files annotate differently (1): a.jpg (beads: first.csv, second.csv)" in refusal(
        tmp_path
    )


# --- numbers and names in tables


def test_points_with_decimal_commas_between_semicolons_are_read(tmp_path):
    lines = [";".join(line.split(",")).replace(".", ",").replace(",jpg", ".jpg") for line in rows()]
    own(tmp_path, [])
    for name in NAMES:
        draw(tmp_path / "images" / name, 320, 240)
    text = "\r\n".join(["Image;Prompt;X;Y", *lines, ";;;", ""])
    (tmp_path / "points.csv").write_bytes(text.encode("utf-8-sig"))

    (sample, *_) = read(tmp_path).split("all")

    assert sample.points_px.tolist() == [list(map(float, point)) for point in POINTS]


def test_decimal_commas_between_commas_are_refused_instead_of_shifting_cells(tmp_path):
    assert "more cells than its header" in refusal(own(tmp_path, ["0.jpg,beads,12,5,30,25"]))


# --- splits of folders


def test_images_in_folders_named_after_splits_are_split_so(tmp_path):
    names = [f"{folder}/{n}.jpg" for folder in ("train", "valid", "test") for n in range(2)]
    make_own(tmp_path, rows(lambda x, y: (x / 4, y / 4), names), [])
    for name in names:
        draw(tmp_path / "images" / name, 64, 48)

    dataset = load_dataset(tmp_path, splits=["train", "val", "test"])

    assert [len(dataset.split(split)) for split in ("train", "val", "test")] == [2, 2, 2]


def test_without_a_folder_for_validation_a_tenth_of_train_is_held_out(tmp_path):
    names = [f"train/{n}.jpg" for n in range(10)] + ["test/0.jpg"]
    make_own(tmp_path, rows(lambda x, y: (x / 4, y / 4), names), [])
    for name in names:
        draw(tmp_path / "images" / name, 64, 48)

    dataset = load_dataset(tmp_path, splits=["train", "val", "test"])

    assert [len(dataset.split(split)) for split in ("train", "val", "test")] == [9, 1, 1]


def test_a_folder_called_train_alone_may_show_trains(tmp_path):
    names = [f"train/{n}.jpg" for n in range(6)]
    make_own(tmp_path, rows(lambda x, y: (x / 4, y / 4), names), [])
    for name in names:
        draw(tmp_path / "images" / name, 64, 48)

    assert set(load_dataset(tmp_path).splits) == {"train", "val", "test"}


# --- counts without positions


def test_counts_alone_are_a_test_split(tmp_path):
    make_own(tmp_path, [], ["a.jpg", "b.jpg"])
    (tmp_path / "points.csv").unlink()
    (tmp_path / "counts.csv").write_text(
        "image;prompt;count\na.jpg;beads;12,0\nb.jpg;beads;0\nb.jpg;ants;\n"
    )

    dataset = load_dataset(tmp_path, splits=["test"])

    assert truths(dataset) == {("a.jpg", "beads"): 12, ("b.jpg", "beads"): 0}
    assert any("without a count" in notice for notice in dataset.notices)


def test_counts_are_found_beside_the_images_unless_the_folder_has_its_own(tmp_path):
    make_own(tmp_path, [], ["a.jpg"])
    (tmp_path / "points.csv").unlink()
    (tmp_path / "images" / "counts.csv").write_text("image,prompt,count\na.jpg,beads,3\n")
    (tmp_path / "images" / "survey.csv").write_text("image,prompt,count\na.jpg,beads,7\n")
    assert truths(load_dataset(tmp_path, splits=["test"])) == {("a.jpg", "beads"): 3}

    (tmp_path / "counts.csv").write_text("image,prompt,count\na.jpg,beads,9\n")
    assert truths(load_dataset(tmp_path, splits=["test"])) == {("a.jpg", "beads"): 9}


@pytest.mark.parametrize("count", ["-1", "2.5", "many", '"1,234"', "nan"])
def test_a_count_that_is_not_whole_is_refused(tmp_path, count):
    make_own(tmp_path, [], ["a.jpg"])
    (tmp_path / "points.csv").unlink()
    (tmp_path / "counts.csv").write_text(f"image,prompt,count\na.jpg,beads,{count}\n")

    assert "not a whole number" in refusal(tmp_path)


def test_training_on_counts_alone_is_refused_with_what_is_needed(tmp_path):
    make_own(tmp_path, [], ["a.jpg"])
    (tmp_path / "points.csv").unlink()
    (tmp_path / "counts.csv").write_text("image,prompt,count\na.jpg,beads,3\n")

    with pytest.raises(DataError, match="not for training") as caught:
        load_dataset(tmp_path)

    assert "points.csv" in str(caught.value.hint)


# --- hostile files


@pytest.mark.parametrize(
    ("header", "what"),
    [("image,promt,x,y", "column promt"), ("image,prompt,x,y,x", "the column x twice")],
)
def test_a_misspelt_or_repeated_column_is_refused(tmp_path, header, what):
    own(tmp_path, [])
    (tmp_path / "points.csv").write_text(f"{header}\n{NAMES[0]},beads,5,6\n")

    assert what in refusal(tmp_path)


def test_fractions_are_found_out_in_images_that_pillow_cannot_open(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    make_own(tmp_path, ["a.tif,beads,0.5,0.25", "a.tif,beads,0.1,0.9"], [])
    (tmp_path / "images").mkdir(exist_ok=True)
    tifffile.imwrite(tmp_path / "images" / "a.tif", np.zeros((24, 32)))

    assert "all lie in 0 to 1" in refusal(tmp_path)


def test_json_nested_without_end_is_refused(tmp_path):
    make_own(tmp_path, [], ["a.jpg"])
    (tmp_path / "points.csv").unlink()
    (tmp_path / "annotations.json").write_text("[" * 200_000)

    assert "cannot be read as JSON" in refusal(tmp_path)


def test_a_json_that_is_no_annotation_says_what_is_missing(tmp_path):
    make_own(tmp_path, [], ["a.jpg"])
    (tmp_path / "points.csv").unlink()
    (tmp_path / "annotations.json").write_text(json.dumps(["a"]))

    assert "not a COCO file" in refusal(tmp_path)
