"""Readers: a folder becomes samples, and everything wrong with it is told at once."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_folders import (
    draw,
    make_carpk,
    make_coco,
    make_fsc147,
    make_own,
    make_shanghaitech,
)
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat, savemat

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.datasets import load_dataset
from clipcount_cli.data.samples import Sample, prepare, prepare_pixels
from clipcount_cli.data.splits import hash_splits
from clipcount_cli.errors import DataError, UsageError

MINI = Path(__file__).parents[1] / "golden" / "mini"
FSC_SPLITS = {"train": ["1.jpg", "2.jpg"], "val": ["3.jpg"], "test": ["4.jpg"]}
FSC_CLASSES = {"1.jpg": "red apples", "2.jpg": "pens", "3.jpg": "sea shells", "4.jpg": "owls"}


@pytest.fixture
def fsc147(tmp_path):
    return make_fsc147(tmp_path / "fsc", FSC_SPLITS, FSC_CLASSES)


def names(samples):
    return [sample.name for sample in samples]


def broken(root, **options):
    with pytest.raises(DataError) as caught:
        load_dataset(root, **options)
    return str(caught.value)


# --- layouts


@pytest.mark.parametrize("spelling", ["FSC147", "FSC_147"])
@pytest.mark.parametrize("nested", [False, True])
def test_fsc147_is_recognised_in_every_layout_in_the_wild(tmp_path, spelling, nested):
    make_fsc147(tmp_path, FSC_SPLITS, FSC_CLASSES, spelling=spelling, nested=nested)

    dataset = load_dataset(tmp_path)

    assert dataset.name == "fsc147"
    assert names(dataset.split("train")) == ["1.jpg", "2.jpg"]
    assert [s.prompt for s in dataset.split("test")] == ["owls"]


def test_pictures_of_fsc147_may_lie_beside_its_annotations(tmp_path):
    make_fsc147(tmp_path, FSC_SPLITS, FSC_CLASSES, nested=True)
    shutil.move(tmp_path / "images_384_VarV2", tmp_path / "FSC_147" / "images_384_VarV2")

    assert len(load_dataset(tmp_path).split("train")) == 2


def test_val_coco_and_test_coco_are_splits_like_the_others():
    dataset = load_dataset(MINI / "fsc147", splits=["val_coco", "test_coco"])

    assert names(dataset.split("val_coco")) == ["5.jpg"]
    assert names(dataset.split("test_coco")) == ["7.jpg"]


def test_a_picture_of_two_splits_is_there_once_when_all_are_asked_for():
    assert len(load_dataset(MINI / "fsc147").split("all")) == 8


def test_dots_and_prompt_of_fsc147_come_with_the_picture():
    (sample, *_) = load_dataset(MINI / "fsc147").split("val")

    assert sample.prompt == "cars parked in rows"
    assert sample.points_px.shape[1] == 2
    assert sample.points_px.dtype == np.float32


@pytest.mark.parametrize("home", [".", "data", "CARPK_devkit/data"])
def test_carpk_counts_its_annotation_lines_as_cars(tmp_path, home):
    make_carpk(tmp_path / home, train=["a", "b"], test=["c"])

    dataset = load_dataset(tmp_path)

    (sample,) = dataset.split("test")
    assert (dataset.name, sample.name, sample.prompt) == ("carpk", "c.png", "car")
    assert sample.points_px.tolist() == [[4, 4], [15, 10]]


@pytest.mark.parametrize("truth", ["ground-truth", "ground_truth"])
@pytest.mark.parametrize("part", ["part_A", "part_A_final"])
def test_shanghaitech_is_recognised_in_every_layout_in_the_wild(tmp_path, truth, part):
    make_shanghaitech(tmp_path, part, truth)

    dataset = load_dataset(tmp_path)

    assert dataset.name == "shanghaitech_A"
    assert [s.prompt for s in dataset.split("test")] == ["people"]
    assert len(dataset.split("test")[0].points_px) == 3


def test_one_part_of_shanghaitech_can_be_the_folder_itself(tmp_path):
    make_shanghaitech(tmp_path, "part_B")

    assert load_dataset(tmp_path / "part_B").name == "shanghaitech_B"


def test_part_chooses_between_the_two_of_shanghaitech():
    assert load_dataset(MINI / "ShanghaiTech", part="B").name == "shanghaitech_B"


def test_without_part_it_is_said_which_one_is_read():
    dataset = load_dataset(MINI / "ShanghaiTech")

    assert dataset.name == "shanghaitech_A"
    assert "--part B" in dataset.notices[0]


def test_a_part_that_is_not_there_is_refused(tmp_path):
    make_shanghaitech(tmp_path, "part_B")

    with pytest.raises(UsageError, match="no part A"):
        load_dataset(tmp_path, part="A")


def test_part_is_refused_where_there_are_no_parts(fsc147):
    with pytest.raises(UsageError, match="for ShanghaiTech"):
        load_dataset(fsc147, part="A")


def test_pictures_of_shanghaitech_come_in_natural_order(tmp_path):
    make_shanghaitech(tmp_path, test=11)

    assert names(load_dataset(tmp_path).split("test"))[:3] == [
        "IMG_1.jpg",
        "IMG_2.jpg",
        "IMG_3.jpg",
    ]


def test_a_tenth_of_train_is_held_out_where_there_is_no_validation_split(tmp_path):
    pictures = [f"p{number}" for number in range(40)]
    make_carpk(tmp_path, train=pictures, test=["t"])

    dataset = load_dataset(tmp_path)

    assert len(dataset.split("val")) == 4
    assert sorted(names([*dataset.split("train"), *dataset.split("val")])) == sorted(
        f"{name}.png" for name in pictures
    )
    assert names(dataset.split("val")) == names(load_dataset(tmp_path).split("val"))


def test_a_folder_of_unknown_layout_is_told_which_are_known(tmp_path):
    with pytest.raises(DataError, match="no data set of a known layout") as caught:
        load_dataset(tmp_path)

    assert all(name in caught.value.hint for name in ("FSC-147", "CARPK", "points.csv"))
    assert max(map(len, f"hint: {caught.value.hint}".splitlines())) < 78


def test_a_folder_that_is_not_there_is_named(tmp_path):
    (tmp_path / "file").touch()

    assert "nowhere does not exist" in broken(tmp_path / "nowhere")
    assert "file is not a folder" in broken(tmp_path / "file")


def test_a_split_that_is_not_there_names_those_that_are(fsc147):
    with pytest.raises(UsageError) as caught:
        load_dataset(fsc147, splits=["holdout"])

    assert "train, val, test" in caught.value.hint


# --- own data


def test_own_points_become_a_sample_for_each_picture_and_prompt(tmp_path):
    rows = ["a.jpg,red apples,3,4", "a.jpg,red apples,5.5,6", "a.jpg,pears,7,8", "b.jpg,pears,1,2"]
    make_own(tmp_path, rows, ["a.jpg", "b.jpg"])

    samples = load_dataset(tmp_path, splits=["all"]).split("all")

    asked = {(s.name, s.prompt): s.points_px.tolist() for s in samples}
    assert asked[("a.jpg", "red apples")] == [[3, 4], [5.5, 6]]
    assert asked[("a.jpg", "pears")] == [[7, 8]]
    assert len(asked) == 3


def test_a_row_without_x_and_y_says_that_the_prompt_names_nothing(tmp_path):
    make_own(tmp_path, ["a.jpg,apples,,", "b.jpg,apples,1,2"], ["a.jpg", "b.jpg"])

    samples = load_dataset(tmp_path, splits=["all"]).split("all")

    assert {s.name: len(s.points_px) for s in samples} == {"a.jpg": 0, "b.jpg": 1}


@pytest.mark.parametrize(
    ("used", "filled"),
    [
        (("train", "val"), {"validation", "test"}),
        (("val",), {"validation"}),
        (("test",), {"test"}),
        (("all",), set()),
    ],
)
def test_an_image_that_fills_an_empty_split_is_named_if_the_split_is_used(used, filled, tmp_path):
    pictures = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]  # by their hashes all in train
    make_own(tmp_path, [f"{name},p,1,1" for name in pictures], pictures)

    notices = load_dataset(tmp_path, splits=used).notices

    pattern = r"the (\w+) split would be empty: using [a-d]\.jpg \(choose with split\.csv\)"
    assert {found[1] for each in notices if (found := re.fullmatch(pattern, each))} == filled


def test_split_csv_decides_where_it_is_there(tmp_path):
    make_own(tmp_path, ["a.jpg,p,1,1", "b.jpg,p,1,1"], ["a.jpg", "b.jpg"])
    (tmp_path / "split.csv").write_text("image,split\na.jpg,val\nb.jpg,train\n")

    dataset = load_dataset(tmp_path)

    assert names(dataset.split("val")) == ["a.jpg"]
    assert names(dataset.split("train")) == ["b.jpg"]
    assert "test" not in dataset.splits


@given(st.sets(st.text(min_size=1), min_size=3, max_size=40), st.sets(st.text(min_size=1)))
def test_a_picture_stays_in_its_split_whatever_is_added(first, more):
    before, after = Findings(), Findings()
    old = hash_splits(sorted(first), before)
    new = hash_splits(sorted(first | more), after)

    assert set(old.values()) == {"train", "val", "test"}
    moved = sum(old[name] != new[name] for name in first)
    assert moved <= len(before.refilled) + len(after.refilled)  # only what an empty split borrowed


def test_hash_split_is_about_eighty_ten_ten():
    splits = list(hash_splits([f"{n}.jpg" for n in range(2000)], Findings()).values())

    assert 1540 < splits.count("train") < 1660
    assert 150 < splits.count("val") < 250


def test_pictures_in_sub_folders_and_with_windows_separators_are_found(tmp_path):
    make_own(tmp_path, ["far\\a.jpg,p,1,1", "b.jpg,p,1,1"], ["far/a.jpg", "b.jpg"])

    assert "far/a.jpg" in names(load_dataset(tmp_path, splits=["all"]).split("all"))


def test_a_spreadsheets_byte_order_mark_and_further_columns_do_not_matter(tmp_path):
    make_own(tmp_path, [], ["a.jpg"])
    (tmp_path / "points.csv").write_text(
        "\N{ZERO WIDTH NO-BREAK SPACE}who, image ,prompt,x,y\nme,a.jpg,p,1,1\n", encoding="utf-8"
    )

    assert names(load_dataset(tmp_path, splits=["all"]).split("all")) == ["a.jpg"]


def test_pictures_that_no_row_names_are_mentioned(tmp_path):
    make_own(tmp_path, ["a.jpg,p,1,1"], ["a.jpg", "forgotten.jpg"])

    notices = load_dataset(tmp_path, splits=["all"]).notices

    assert any("forgotten.jpg" in notice for notice in notices)


def coco(annotations, categories=("apples",)):
    return {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(categories)],
        "annotations": annotations,
    }


def box(image, category=0, bbox=(2, 4, 6, 8), **more):
    return {"id": 1, "image_id": image, "category_id": category, "bbox": list(bbox), **more}


def test_box_centres_of_a_coco_file_are_the_dots_and_category_names_the_prompts(tmp_path):
    make_coco(tmp_path, coco([box(7)]), ["a.jpg", "b.jpg"])

    samples = load_dataset(tmp_path, splits=["all"]).split("all")

    asked = {s.name: (s.prompt, s.points_px.tolist()) for s in samples}
    assert asked == {"a.jpg": ("apples", [[5, 8]]), "b.jpg": ("apples", [])}


def test_coco_crowds_and_unused_categories_are_mentioned(tmp_path):
    data = coco([box(7), box(8), box(8, iscrowd=1)], ["apples", "fruit"])
    make_coco(tmp_path, data, ["a.jpg", "b.jpg"])

    notices = " ".join(load_dataset(tmp_path, splits=["all"]).notices)

    assert "crowds" in notices
    assert "fruit" in notices


def test_a_coco_file_without_its_lists_is_refused(tmp_path):
    make_coco(tmp_path, {"images": []}, [])

    assert "not a COCO file" in broken(tmp_path)


@pytest.mark.parametrize(
    "bbox",
    [
        [None, 1, 2, 3],
        [float("nan"), 1, 2, 3],
        [1e39, 1, 2, 3],
        [10**400, 1, 2, 3],
        [1, 2, 3],
        [[], [], [], []],
        "none",
        None,
    ],
)
def test_a_coco_box_that_is_not_four_numbers_is_named(bbox, tmp_path):
    data = coco([box(7), {**box(8), "bbox": bbox, "id": 33}])
    make_coco(tmp_path, data, ["a.jpg", "b.jpg"])

    message = broken(tmp_path, splits=["all"])

    assert "objects whose position cannot be read (1): annotations.json: annotation 33" in message
    assert message.endswith("annotation 33")


@pytest.mark.parametrize("annotations", [None, ["x"], {"x": 1}, 3])
def test_a_coco_file_whose_annotations_are_no_objects_is_refused(annotations, tmp_path):
    make_coco(tmp_path, coco(annotations), [])

    message = broken(tmp_path)

    assert "annotations.json is not a COCO file" in message
    assert "'annotations' as a list of objects" in message


def test_a_coco_id_that_is_a_list_is_an_unknown_one(tmp_path):
    make_coco(tmp_path, coco([box(7), box([8])]), ["a.jpg", "b.jpg"])

    assert "unknown image or category" in broken(tmp_path, splits=["all"])


# --- everything wrong, at once


def test_all_that_is_wrong_comes_in_one_message(fsc147):
    images = fsc147 / "images_384_VarV2"
    (images / "1.jpg").unlink()
    annotation = fsc147 / "annotation_FSC147_384.json"
    dots = json.loads(annotation.read_text())
    dots["2.jpg"]["points"].append([9999, 3])
    dots["3.jpg"]["points"] = [[1, 2, 3]]
    annotation.write_text(json.dumps(dots))
    with (fsc147 / "ImageClasses_FSC147.txt").open("a") as file:
        file.write("77.jpg\tghosts\n")

    message = broken(fsc147)

    assert "missing images (1): images_384_VarV2/1.jpg" in message
    assert "points outside their image (1): 2.jpg (x 9999, y 3 in 32 x 32)" in message
    assert "unreadable points in annotation_FSC147_384.json (1): 3.jpg" in message
    assert "classes without images in any split (1): ghosts" in message


def test_images_without_dots_or_class_are_named(fsc147):
    (fsc147 / "ImageClasses_FSC147.txt").write_text("1.jpg\tpens\n2.jpg\tpens\n3.jpg\tpens\n")
    annotation = fsc147 / "annotation_FSC147_384.json"
    dots = json.loads(annotation.read_text())
    del dots["2.jpg"]
    annotation.write_text(json.dumps(dots))

    message = broken(fsc147)

    assert "images without a class in ImageClasses_FSC147.txt (1): 4.jpg" in message
    assert "images without points in annotation_FSC147_384.json (1): 2.jpg" in message


def test_a_long_list_is_cut_after_twenty_names(tmp_path):
    pictures = [f"{number}.jpg" for number in range(50)]
    root = make_fsc147(
        tmp_path, {"train": pictures, "val": ["v.jpg"]}, dict.fromkeys([*pictures, "v.jpg"], "pens")
    )
    for name in pictures:
        (root / "images_384_VarV2" / name).unlink()

    message = broken(root)

    assert "missing images (50)" in message
    assert message.endswith("images_384_VarV2/19.jpg and 30 more")


def test_an_empty_split_is_refused(tmp_path):
    root = make_fsc147(tmp_path, {"train": ["1.jpg"], "val": []}, {"1.jpg": "pens"})

    assert "empty splits (1): val" in broken(root)


def test_only_the_splits_in_use_need_their_pictures(fsc147):
    (fsc147 / "images_384_VarV2" / "1.jpg").unlink()

    assert names(load_dataset(fsc147, splits=["test"]).split("test")) == ["4.jpg"]


def test_a_data_set_without_any_dot_is_refused(tmp_path):
    make_own(tmp_path, ["a.jpg,p,,", "b.jpg,p,,"], ["a.jpg", "b.jpg"])

    assert "no points at all" in broken(tmp_path, splits=["all"])


def test_classes_of_train_that_stand_in_test_are_said_and_not_refused(tmp_path):
    root = make_fsc147(tmp_path, FSC_SPLITS, {**FSC_CLASSES, "4.jpg": "pens"})

    assert any("are also in test: pens" in notice for notice in load_dataset(root).notices)


def test_rows_of_points_csv_that_make_no_sense_are_told_with_their_lines(tmp_path):
    rows = ["a.jpg,p,1,1", "a.jpg,p,one,2", "a.jpg,p,3,", ",p,1,1", "a.jpg,p,,", "a.jpg,p,33,1"]
    rows += ["a.jpg,p,1e39,1", "a.jpg,p,nan,1"]
    make_own(tmp_path, rows, ["a.jpg"])

    message = broken(tmp_path, splits=["all"])

    assert "line 3 ('one', '2'), line 4 ('3', ''), line 8 ('1e39', '1'), line 9" in message
    assert "without image or prompt (1): line 5" in message
    assert "although the prompt has points elsewhere (1): line 6" in message
    assert "a.jpg (x 33, y 1 in 32 x 32)" in message


def test_points_csv_without_its_columns_says_what_its_first_line_is(tmp_path):
    make_own(tmp_path, [], [])
    (tmp_path / "points.csv").write_text("image;prompt;place\n")

    assert "lacks the columns x, y: its first line is 'image;prompt;place'" in broken(tmp_path)


def test_split_csv_is_checked_against_the_points(tmp_path):
    make_own(tmp_path, ["a.jpg,p,1,1", "b.jpg,p,1,1"], ["a.jpg", "b.jpg"])
    (tmp_path / "split.csv").write_text("image,split\na.jpg,trian\nc.jpg,val\n")

    message = broken(tmp_path)

    assert "line 2 ('trian')" in message
    assert "images/c.jpg (in split.csv)" in message
    assert "images without a split in split.csv (2): a.jpg, b.jpg" in message


def test_broken_annotations_of_carpk_are_named(tmp_path):
    make_carpk(tmp_path, train=["a", "b"], test=["c"])
    (tmp_path / "Annotations" / "a.txt").write_bytes(
        b"1 2 3\nnan 1 20 20 1\n\xff 1 20 20 1\n1e39 1 20 20 1\n"
    )
    (tmp_path / "Annotations" / "b.txt").unlink()

    message = broken(tmp_path)

    assert "unreadable annotation lines (4): a.txt:1, a.txt:2, a.txt:3, a.txt:4" in message
    assert "images without annotation (1): b.txt" in message


def test_byte_order_marks_in_carpk_do_not_matter(tmp_path):
    make_carpk(tmp_path, train=["a", "b"], test=["c"])
    for path in (tmp_path / "Annotations" / "c.txt", tmp_path / "ImageSets" / "test.txt"):
        path.write_text(path.read_text(), encoding="utf-8-sig")

    (sample,) = load_dataset(tmp_path).split("test")

    assert len(sample.points_px) == 2


def test_broken_ground_truth_of_shanghaitech_is_named(tmp_path):
    make_shanghaitech(tmp_path)
    (tmp_path / "part_A/train_data/ground-truth/GT_IMG_1.mat").write_bytes(b"not matlab")
    (tmp_path / "part_A/test_data/images/IMG_1.jpg").unlink()

    message = broken(tmp_path, splits=["train", "test"])

    assert "unreadable ground truth (1): GT_IMG_1.mat" in message
    assert "part_A/test_data/images/IMG_1.jpg" in message


@pytest.mark.parametrize("name", ["image_info", "another"])
def test_ground_truth_that_inflates_without_end_is_refused(tmp_path, name):
    make_shanghaitech(tmp_path)
    truth = tmp_path / "part_A/train_data/ground-truth/GT_IMG_1.mat"
    savemat(truth, {name: np.zeros((40 << 20, 1), np.uint8)}, do_compression=True)

    message = broken(tmp_path)

    assert truth.stat().st_size < 100_000
    assert "unreadable ground truth (1): GT_IMG_1.mat (more than 32 MiB" in message


def test_compressed_ground_truth_of_shanghaitech_is_read(tmp_path):
    make_shanghaitech(tmp_path)
    truth = tmp_path / "part_A/test_data/ground-truth/GT_IMG_1.mat"
    savemat(truth, {"image_info": loadmat(truth)["image_info"]}, do_compression=True)

    (sample,) = load_dataset(tmp_path, splits=["test"]).split("test")

    assert len(sample.points_px) == 3


def test_broken_json_is_told_with_its_place(fsc147):
    (fsc147 / "Train_Test_Val_FSC_147.json").write_text('{"train": [')

    assert "line 1 column 12" in broken(fsc147)


def test_the_size_of_a_picture_is_that_of_the_upright_one(tmp_path):
    make_own(tmp_path, ["a.jpg,p,30,60", "b.jpg,p,1,1"], ["b.jpg"])
    exif = Image.Exif()
    exif[0x0112] = 6  # lying: 64 wide and 32 high in the file, 32 x 64 once turned
    draw(tmp_path / "images" / "a.jpg", 64, 32, exif=exif)

    assert len(load_dataset(tmp_path, splits=["all"]).split("all")) == 2


def test_dots_just_outside_a_published_picture_are_said_and_kept(tmp_path):
    root = make_fsc147(tmp_path, FSC_SPLITS, FSC_CLASSES, points=[(32.4, 3.0)])

    dataset = load_dataset(root)

    assert any("just outside" in notice for notice in dataset.notices)


# --- protocols


def test_fsc147_is_rounded_down_to_multiples_of_sixteen_and_its_dots_move_along_in_x():
    sample = Sample("a", Path("a"), "p", np.array([[40.0, 10.0]], np.float32), "fsc147")

    prepared = prepare_pixels(sample, np.zeros((33, 50, 3), np.uint8))

    assert prepared.pixels.shape == (32, 48, 3)
    np.testing.assert_allclose(prepared.points_px, [[38.4, 10.0]], rtol=1e-6)


def test_two_dots_in_one_pixel_of_fsc147_are_one_object():
    points = np.array([[10.2, 5.1], [10.8, 5.9], [11.0, 5.0], [49.9, 90.0]], np.float32)
    pixels = np.zeros((32, 48, 3), np.uint8)

    assert prepare_pixels(Sample("a", Path("a"), "p", points, "fsc147"), pixels).truth == 3
    assert prepare_pixels(Sample("a", Path("a"), "p", points, "own"), pixels).truth == 4


def test_a_portrait_of_shanghaitech_is_turned_together_with_its_dots():
    pixels = np.zeros((64, 32, 3), np.uint8)
    pixels[50, 10] = 255
    sample = Sample("a", Path("a"), "people", np.array([[10, 50]], np.float32), "shanghaitech")

    prepared = prepare_pixels(sample, pixels)

    assert prepared.pixels.shape == (32, 64, 3)
    x, y = prepared.points_px[0].astype(int)
    assert prepared.pixels[y, x, 0] == 255


def test_dots_of_a_prepared_sample_lie_inside_its_pixels():
    sample = load_dataset(MINI / "fsc147").split("train")[0]

    prepared = prepare(sample)

    height, width = prepared.pixels.shape[:2]
    assert (prepared.points_px >= 0).all()
    assert (prepared.points_px < (width, height)).all()
