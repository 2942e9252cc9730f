"""Annotations as their tools write them: each file below is laid out like a real export."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from dataset_folders import draw
from PIL import Image

from clipcount_cli.data.datasets import load_dataset
from clipcount_cli.data.samples import Dataset
from clipcount_cli.errors import DataError

Centres = dict[tuple[str, str], list[list[float]]]


def write(root: Path, files: dict[str, str], images: Iterable[str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    for name in images:
        draw(root / name, 64, 48)
    return root


def read(root: Path) -> Dataset:
    """The data set in a folder, which must be the same if the folder is named by another path."""
    dataset = load_dataset(root, splits=["all"])
    before = Path.cwd()
    os.chdir(root)
    try:
        assert outline(load_dataset(Path(), splits=["all"])) == outline(dataset)
        assert outline(load_dataset(Path("..", root.name), splits=["all"])) == outline(dataset)
    finally:
        os.chdir(before)
    return dataset


def outline(dataset: Dataset) -> dict[str, list[object]]:
    return {
        split: [(s.name, s.image.resolve(), s.prompt, s.points_px.tolist()) for s in samples]
        for split, samples in dataset.splits.items()
    }


def centres(dataset: Dataset, split: str = "all") -> Centres:
    """(image, prompt) -> centres, rounded to a tenth of a pixel."""
    return {
        (Path(s.name).name, s.prompt): [[round(float(v), 1) for v in p] for p in s.points_px]
        for s in dataset.split(split)
    }


def recognised(dataset: Dataset) -> str:
    """The one line that says what was recognised."""
    return dataset.notices[0]


# --- COCO

ROBOFLOW_COCO = """{"info":{"year":"2024","version":"1","description":"Exported from roboflow.com",
"contributor":"","url":"https://public.roboflow.com/object-detection/undefined","date_created":
"2024-05-06T10:00:00+00:00"},"licenses":[{"id":1,"url":"https://creativecommons.org/licenses/by/4.0/",
"name":"CC BY 4.0"}],"categories":[{"id":0,"name":"fruits","supercategory":"none"},{"id":1,"name":
"apple","supercategory":"fruits"}],"images":[{"id":0,"license":1,"file_name":
"IMG_1_jpg.rf.0123456789abcdef.jpg","height":48,"width":64,"date_captured":"2024-05-06T10:00:00+00:00"
,"extra":{"name":"IMG_1.jpg"}},{"id":1,"license":1,"file_name":"IMG_2_jpg.rf.fedcba9876543210.jpg",
"height":48,"width":64,"date_captured":"2024-05-06T10:00:00+00:00","extra":{"name":"IMG_2.jpg"}}],
"annotations":[{"id":0,"image_id":0,"category_id":1,"bbox":[10,8,12,10],"area":120,"segmentation":[],
"iscrowd":0},{"id":1,"image_id":0,"category_id":1,"bbox":[30.5,20,5,6.5],"area":32.5,"segmentation":
[[30.5,20,35.5,20,35.5,26.5]],"iscrowd":0}]}"""


def test_coco_folders_of_roboflow_keep_their_splits_and_empty_images_are_negatives(tmp_path):
    names = ("IMG_1_jpg.rf.0123456789abcdef.jpg", "IMG_2_jpg.rf.fedcba9876543210.jpg")
    folders = ("train", "valid", "test")
    files = {f"{folder}/_annotations.coco.json": ROBOFLOW_COCO for folder in folders}
    write(tmp_path, files, [f"{folder}/{name}" for folder in folders for name in names])

    dataset = read(tmp_path)

    for split in ("train", "val", "test"):
        assert centres(dataset, split) == {
            (names[0], "apple"): [[16, 13], [33, 23.2]],
            (names[1], "apple"): [],
        }
    assert "COCO (3 files): 6 images, 6 objects; prompts: apple" in recognised(dataset)
    assert any("fruits" in notice for notice in dataset.notices)


def test_coco_of_cvat_finds_its_images_in_the_folder_of_their_subset(tmp_path):
    instances = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "url": "", "year": ""},
        "categories": [{"id": 1, "name": "cell", "supercategory": ""}],
    }
    image = {"id": 1, "width": 64, "height": 48, "file_name": "a.jpg", "license": 0,
             "flickr_url": "", "coco_url": "", "date_captured": 0}  # fmt: skip
    box = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [], "area": 100.0,
           "iscrowd": 0, "attributes": {"occluded": False, "rotation": 0.0}}  # fmt: skip
    files = {}
    for subset, x in (("Train", 10.0), ("Test", 30.0)):
        annotation = {**box, "bbox": [x, 10.0, 10.0, 10.0]}
        data = {**instances, "images": [image], "annotations": [annotation]}
        files[f"annotations/instances_{subset}.json"] = json.dumps(data)
    write(tmp_path, files, ["images/Train/a.jpg", "images/Test/a.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset, "test") == {("a.jpg", "cell"): [[35, 15]]}
    assert centres(dataset, "train") == {("a.jpg", "cell"): [[15, 15]]}


def coco(annotations: list[dict[str, object]], **image: object) -> str:
    images = [{"id": "7", "file_name": "images\\a.jpg", **image}]
    categories = [{"id": "1", "name": "apples"}]
    shared = {"image_id": 7, "category_id": 1}
    return json.dumps(
        {
            "images": images,
            "categories": categories,
            "annotations": [{"id": n, **shared, **each} for n, each in enumerate(annotations)],
        }
    )


def test_coco_with_ids_as_text_backslashes_polygons_and_keypoints_is_read(tmp_path):
    polygon = {"segmentation": [[10, 10, 20, 10, 20, 30, 10, 30]]}
    keypoints = {"keypoints": [40, 20, 2, 44, 24, 1, 0, 0, 0], "num_keypoints": 2, "bbox": []}
    empty_box = {"bbox": [0, 0, 0, 0], "segmentation": [[1, 1, 3, 1, 3, 3]]}
    text = coco([polygon, keypoints, empty_box])
    write(tmp_path, {"annotations.json": text}, ["images/a.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "apples"): [[15, 20], [42, 22], [2, 2]]}


@pytest.mark.parametrize("box", [[0, 0, 0, 0], [5, 6, 0, 0], [5, 6, 0, 7], [9, 9, -4, -4]])
def test_a_coco_box_without_width_or_height_is_refused(tmp_path, box):
    write(tmp_path, {"annotations.json": coco([{"bbox": box}])}, ["images/a.jpg"])

    with pytest.raises(DataError, match=r"boxes without width or height \(1\): .*annotation 0"):
        read(tmp_path)


def test_one_coco_id_for_two_images_is_refused(tmp_path):
    data = json.loads(coco([{"bbox": [1, 1, 2, 2]}]))
    data["images"].append({"id": 7, "file_name": "b.jpg"})
    write(tmp_path, {"annotations.json": json.dumps(data)}, ["images/a.jpg", "images/b.jpg"])

    with pytest.raises(DataError, match="ids given twice"):
        read(tmp_path)


# A mask of 48 x 64 pixels, marked in columns 10 to 12 and rows 5 to 9; packed by pycocotools.
MASK_RUNS = [485, 5, 43, 5, 43, 5, 2486]


@pytest.mark.parametrize("counts", [MASK_RUNS, "U?5[1000[\\2"], ids=["runs", "packed"])
def test_a_coco_object_that_is_only_a_mask_is_centred_on_it(tmp_path, counts):
    text = coco([{"segmentation": {"size": [48, 64], "counts": counts}}])
    write(tmp_path, {"annotations.json": text}, ["images/a.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "apples"): [[11.5, 7.5]]}


@pytest.mark.parametrize("counts", [[], [3072], [1, 2], [4000, -928], "not runs", [[1]]])
def test_a_coco_mask_without_pixels_or_of_another_size_is_refused(tmp_path, counts):
    text = coco([{"segmentation": {"size": [48, 64], "counts": counts}}])
    write(tmp_path, {"annotations.json": text}, ["images/a.jpg"])

    with pytest.raises(DataError, match="whose position cannot be read"):
        read(tmp_path)


def test_an_image_of_which_coco_marks_only_a_crowd_is_no_image_without_objects(tmp_path):
    data = json.loads(coco([{"bbox": [1, 1, 2, 2]}, {"bbox": [5, 5, 4, 4], "iscrowd": 1}]))
    data["images"].append({**data["images"][0], "id": 77, "file_name": "crowd.jpg"})
    data["annotations"][1]["image_id"] = 77
    write(tmp_path, {"annotations.json": json.dumps(data)}, ["images/a.jpg", "images/crowd.jpg"])

    dataset = read(tmp_path)

    assert [name for name, _ in centres(dataset)] == ["a.jpg"]
    assert not any("without any object" in notice for notice in dataset.notices)


@pytest.mark.parametrize(("marked", "left"), [([0], [[4, 4]]), ([0, 1], [[2, 2], [4, 4]])])
def test_coco_crowds_are_left_out_unless_all_objects_are_marked_so(tmp_path, marked, left):
    boxes = [{"bbox": [1, 1, 2, 2]}, {"bbox": [3, 3, 2, 2]}]
    text = coco([{**box, "iscrowd": int(n in marked)} for n, box in enumerate(boxes)])
    write(tmp_path, {"annotations.json": text}, ["images/a.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == {("a.jpg", "apples"): left}
    assert any("crowds" in notice for notice in dataset.notices)


@pytest.mark.parametrize(
    ("written", "image"),
    [
        ("https://host/set/a.jpg?w=9&sig=b%2Fc", "a.jpg"),
        ("file:///C:/set/my%20a.jpg", "my a.jpg"),
        ("my%20a.jpg", "my a.jpg"),
        ("50%25.jpg", "50%25.jpg"),
        (r"C:\data\set\a.jpg", "a.jpg"),
        (r"\\server\share\a.jpg", "a.jpg"),
    ],
)
def test_coco_names_images_by_addresses_and_paths_of_other_machines(tmp_path, written, image):
    text = coco([{"bbox": [1, 1, 2, 2]}], file_name=written)
    write(tmp_path, {"annotations.json": text}, [f"images/{image}"])

    (sample,) = read(tmp_path).split("all")

    assert sample.image.name == image


def without_classes(data):
    del data["categories"]
    for annotation in data["annotations"]:
        del annotation["category_id"]


@pytest.mark.parametrize(
    "change",
    [
        without_classes,
        lambda data: data.pop("categories"),
        lambda data: data.update(categories=[]),
        lambda data: data.update(categories=[{"id": 1, "name": None}]),
    ],
)
def test_coco_objects_of_one_class_without_a_name_are_objects(tmp_path, change):
    data = json.loads(coco([{"bbox": [1, 1, 2, 2]}]))
    change(data)
    write(tmp_path, {"annotations.json": json.dumps(data)}, ["images/a.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "objects"): [[2, 2]]}


def test_coco_objects_of_several_classes_without_names_are_refused(tmp_path):
    data = json.loads(coco([{"bbox": [1, 1, 2, 2]}, {"bbox": [3, 3, 2, 2], "category_id": 2}]))
    del data["categories"]
    write(tmp_path, {"annotations.json": json.dumps(data)}, ["images/a.jpg"])

    with pytest.raises(DataError, match="lacks 'categories'"):
        read(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_coco_is_read_in_the_encodings_of_windows(tmp_path, encoding):
    write(tmp_path, {}, ["images/a.jpg"])
    text = coco([{"bbox": [1, 1, 2, 2]}])
    (tmp_path / "annotations.json").write_text(text, encoding=encoding)

    assert centres(read(tmp_path)) == {("a.jpg", "apples"): [[2, 2]]}


def test_coco_without_any_object_says_so(tmp_path):
    write(tmp_path, {"annotations.json": coco([])}, ["images/a.jpg"])

    with pytest.raises(DataError, match="names no object in any image"):
        read(tmp_path)


# --- YOLO

ROBOFLOW_YAML = """train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: ['apple', 'no']

roboflow:
  workspace: orchard
  project: apples
  version: 1
  license: CC BY 4.0
  url: https://universe.roboflow.com/orchard/apples/dataset/1
"""


def test_yolo_folders_of_roboflow_keep_their_splits(tmp_path):
    files = {"data.yaml": ROBOFLOW_YAML, "README.dataset.txt": "# apples > 2024-05-06\n"}
    for folder in ("train", "valid", "test"):
        files[f"{folder}/labels/a.txt"] = "0 0.5 0.25 0.1 0.1\n1 0.25 0.75 0.125 0.25\n"
        files[f"{folder}/labels/b.txt"] = ""
    images = [f"{folder}/images/{n}.jpg" for folder in ("train", "valid", "test") for n in "ab"]
    write(tmp_path, files, images)

    dataset = read(tmp_path)

    for split in ("train", "val", "test"):
        assert centres(dataset, split) == {
            ("a.jpg", "apple"): [[32, 12]],
            ("a.jpg", "no"): [[16, 36]],
            ("b.jpg", "apple"): [],
            ("b.jpg", "no"): [],
        }
    assert "read as YOLO (6 files)" in recognised(dataset)


def test_yolo_of_cvat_reads_polygons_and_oriented_boxes(tmp_path):
    yaml = "path: ./\ntrain: train.txt\nval: val.txt\n\nnames:\n  0: seed\n  1: pod\n"
    files = {
        "data.yaml": yaml,
        "train.txt": "data/images/train/a.jpg\n",
        "val.txt": "data/images/val/b.jpg\n",
        "labels/train/a.txt": "0 0.25 0.25 0.5 0.25 0.5 0.5\n",
        "labels/val/b.txt": "1 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75\n",
    }
    write(tmp_path, files, ["images/train/a.jpg", "images/val/b.jpg"])

    dataset = load_dataset(tmp_path)

    assert centres(dataset, "train") == {("a.jpg", "seed"): [[24, 18]]}
    assert centres(dataset, "val") == {("b.jpg", "pod"): [[32, 24]]}


def test_yolo_of_labelimg_lies_beside_its_images(tmp_path):
    files = {"a.txt": "0 0.5 0.5 0.25 0.25\n", "classes.txt": "nut\nbolt\n"}
    write(tmp_path, files, ["a.jpg", "unlabelled.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == {("a.jpg", "nut"): [[32, 24]]}
    assert any("unlabelled.jpg" in notice for notice in dataset.notices)


def test_darknet_folders_of_cvat_are_read_by_their_lists(tmp_path):
    files = {
        "obj.data": "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n",
        "obj.names": "car\n",
        "train.txt": "data/obj_train_data/a.jpg\n",
        "valid.txt": "data/obj_valid_data/b.jpg\n",
        "obj_train_data/a.txt": "0 0.500000 0.500000 0.100000 0.100000\n",
        "obj_valid_data/b.txt": "0 0.250000 0.250000 0.100000 0.100000\n",
    }
    write(tmp_path, files, ["obj_train_data/a.jpg", "obj_valid_data/b.jpg"])

    dataset = load_dataset(tmp_path)

    assert centres(dataset, "train") == {("a.jpg", "car"): [[32, 24]]}
    assert centres(dataset, "val") == {("b.jpg", "car"): [[16, 12]]}


def test_yolo_poses_are_centred_on_their_boxes(tmp_path):
    yaml = "kpt_shape: [2, 3]\nnames: [ant]\nnc: 1\n"
    files = {"data.yaml": yaml, "labels/a.txt": "0 0.5 0.5 0.2 0.2 0.1 0.1 2 0.2 0.2 2\n"}
    write(tmp_path, files, ["images/a.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "ant"): [[32, 24]]}


def test_yolo_labels_without_names_of_their_classes_say_what_to_add(tmp_path):
    write(tmp_path, {"labels/a.txt": "3 0.5 0.5 0.1 0.1\n"}, ["images/a.jpg"])

    with pytest.raises(DataError, match="no names") as caught:
        read(tmp_path)

    assert "classes.txt" in str(caught.value.hint)


def test_yolo_labels_without_their_image_are_named(tmp_path):
    label = "0 0.5 0.5 0.1 0.1\n"
    files = {"labels/a.txt": label, "labels/gone.txt": label, "classes.txt": "nut\n"}
    write(tmp_path, files, ["images/a.jpg"])

    with pytest.raises(DataError, match=r"missing images \(1\): .*labels/gone.txt"):
        read(tmp_path)


@pytest.mark.parametrize("label", ["0 30 20 8 8", "0 0.5 0.5 8 8"])
def test_yolo_labels_in_pixels_are_refused(tmp_path, label):
    files = {"labels/a.txt": f"{label}\n", "classes.txt": "nut\n"}
    write(tmp_path, files, ["images/a.jpg"])

    with pytest.raises(DataError, match="are they pixels"):
        read(tmp_path)


# --- Pascal VOC

LABELIMG = """<annotation>
\t<folder>images</folder>
\t<filename>{name}</filename>
\t<path>C:\\Users\\ann\\images\\{name}</path>
\t<source>
\t\t<database>Unknown</database>
\t</source>
\t<size>
\t\t<width>64</width>
\t\t<height>48</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
\t<object>
\t\t<name>bolt</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>0</truncated>
\t\t<difficult>0</difficult>
\t\t<bndbox>
\t\t\t<xmin>10</xmin>
\t\t\t<ymin>20</ymin>
\t\t\t<xmax>20</xmax>
\t\t\t<ymax>30</ymax>
\t\t</bndbox>
\t</object>
</annotation>
"""
EMPTY_VOC = "<annotation><folder></folder><filename>b.jpg</filename></annotation>"


def test_voc_of_labelimg_lies_beside_its_images(tmp_path):
    write(
        tmp_path, {"a.xml": LABELIMG.format(name="a.jpg"), "b.xml": EMPTY_VOC}, ["a.jpg", "b.jpg"]
    )

    dataset = read(tmp_path)

    assert centres(dataset) == {("a.jpg", "bolt"): [[15, 25]], ("b.jpg", "bolt"): []}
    assert "read as Pascal VOC (2 files)" in recognised(dataset)


def test_a_voc_box_of_corner_and_size_instead_of_corners_is_refused(tmp_path):
    text = LABELIMG.format(name="a.jpg").replace("<xmax>20<", "<xmax>9<")
    write(tmp_path, {"a.xml": text}, ["a.jpg"])

    with pytest.raises(DataError, match=r"end before they begin.*\(1\): a.xml: object 1"):
        read(tmp_path)


def test_voc_folders_are_split_by_their_image_sets(tmp_path):
    files = {
        f"Annotations/{name}.xml": LABELIMG.format(name=f"{name}.jpg") for name in ("a", "b", "c")
    }
    for split, name in (("train", "a"), ("val", "b"), ("test", "c"), ("trainval", "a")):
        files[f"ImageSets/Main/{split}.txt"] = f"{name}\n"
    write(tmp_path, files, [f"JPEGImages/{name}.jpg" for name in ("a", "b", "c")])

    dataset = load_dataset(tmp_path, splits=["train", "val", "test"])

    assert [len(dataset.split(split)) for split in ("train", "val", "test")] == [1, 1, 1]
    assert centres(dataset, "test") == {("c.jpg", "bolt"): [[15, 25]]}


def test_images_renamed_together_with_their_xml_are_found(tmp_path):
    write(tmp_path, {"new.xml": LABELIMG.format(name="old.jpg")}, ["new.jpg"])

    (sample,) = read(tmp_path).split("all")

    assert sample.image == tmp_path / "new.jpg"


def test_xml_that_expands_without_end_is_refused(tmp_path):
    entities = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {new} "{f"&{old};" * 10}">'
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    bomb = LABELIMG.format(name="&i;")
    write(tmp_path, {"a.xml": f"<!DOCTYPE x [{entities}]>{bomb}"}, ["a.jpg"])

    with pytest.raises(DataError, match="declares XML entities"):
        read(tmp_path)


# --- CVAT

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <job><id>1</id><size>2</size><mode>annotation</mode><labels><label><name>egg</name>
    <color>#ff0000</color><type>any</type><attributes></attributes></label></labels></job>
    <dumped>2024-05-06 10:00:00.000000+00:00</dumped>
  </meta>
  <image id="0" name="a.jpg" width="64" height="48">
    <box label="egg" source="manual" occluded="0" xtl="10.00" ytl="10.00" xbr="20.00" ybr="20.00"
      z_order="0">
    </box>
    <polygon label="egg" source="manual" occluded="0" points="30.0,10.0;40.0,10.0;40.0,14.0"
      z_order="0">
    </polygon>
    <points label="egg" source="manual" occluded="0" points="5.0,6.0;7.0,8.0" z_order="0">
    </points>
    <ellipse label="nest" source="manual" occluded="0" cx="50.0" cy="30.0" rx="4.0" ry="2.0"
      z_order="0">
    </ellipse>
    <mask label="nest" source="manual" occluded="0" rle="3, 5" left="20" top="30"
      width="4" height="2" z_order="0">
    </mask>
    <tag label="egg" source="manual">
    </tag>
  </image>
  <image id="1" name="b.jpg" width="64" height="48">
  </image>
</annotations>
"""


def test_cvat_xml_gives_the_centres_of_all_its_shapes(tmp_path):
    write(tmp_path, {"annotations.xml": CVAT}, ["images/a.jpg", "images/b.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == {
        ("a.jpg", "egg"): [[15, 15], [35, 12], [5, 6], [7, 8]],
        ("a.jpg", "nest"): [[50, 30], [22, 31]],
        ("b.jpg", "egg"): [],
        ("b.jpg", "nest"): [],
    }
    assert "read as CVAT XML (annotations.xml)" in recognised(dataset)


def test_subsets_of_a_cvat_project_are_its_splits(tmp_path):
    xml = CVAT.replace('name="a.jpg"', 'name="a.jpg" subset="Train"')
    xml = xml.replace('name="b.jpg"', 'name="b.jpg" subset="Validation"')
    write(tmp_path, {"annotations.xml": xml}, ["images/Train/a.jpg", "images/Validation/b.jpg"])

    dataset = load_dataset(tmp_path)

    assert [s.name for s in dataset.split("val")] == ["b.jpg", "b.jpg"]


def test_cvat_for_videos_names_the_export_to_choose(tmp_path):
    track = '<track id="0" label="egg"><box frame="0" xtl="1" ytl="1" xbr="2" ybr="2"/></track>'
    xml = f"<annotations><version>1.1</version><meta/>{track}</annotations>"
    write(tmp_path, {"annotations.xml": xml}, ["images/frame_000000.png"])

    with pytest.raises(DataError, match="for videos") as caught:
        read(tmp_path)

    assert "CVAT for images 1.1" in str(caught.value.hint)


# --- LabelMe


def labelme(shapes: list[dict[str, object]], **more: object) -> str:
    fixed: dict[str, object] = {"group_id": None, "description": "", "flags": {}, "mask": None}
    data: dict[str, object] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [{**each, **fixed} for each in shapes],
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": 48,
        "imageWidth": 64,
    }
    return json.dumps({**data, **more}, indent=2)


def test_labelme_gives_the_centres_of_all_its_shapes(tmp_path):
    square = [[10.0, 10.0], [20.0, 10.0], [20.0, 20.0], [10.0, 20.0]]
    shapes = [
        {"label": "leaf", "points": square, "shape_type": "polygon"},
        {"label": "leaf", "points": [[40.0, 30.0], [30.0, 20.0]], "shape_type": "rectangle"},
        {"label": "leaf", "points": [[50.0, 20.0], [55.0, 20.0]], "shape_type": "circle"},
        {"label": "bud", "points": [[7.0, 8.0]], "shape_type": "point"},
    ]
    files = {"a.json": labelme(shapes), "b.json": labelme([], imagePath="b.jpg")}
    write(tmp_path, files, ["a.jpg", "b.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == {
        ("a.jpg", "leaf"): [[15, 15], [35, 25], [50, 20]],
        ("a.jpg", "bud"): [[7, 8]],
        ("b.jpg", "bud"): [],
        ("b.jpg", "leaf"): [],
    }
    assert "read as LabelMe (2 files)" in recognised(dataset)


def test_labelme_files_in_a_folder_of_their_own_name_images_from_there(tmp_path):
    point = {"label": "leaf", "points": [[5.0, 6.0]], "shape_type": "point"}
    text = labelme([point], imagePath="..\\images\\a.jpg")
    write(tmp_path, {"labels/a.json": text}, ["images/a.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "leaf"): [[5, 6]]}


def test_one_broken_file_among_those_of_labelme_is_named(tmp_path):
    point = {"label": "leaf", "points": [[5.0, 6.0]], "shape_type": "point"}
    write(tmp_path, {"a.json": labelme([point]), "b.json": '{"shapes": ['}, ["a.jpg", "b.jpg"])

    with pytest.raises(DataError, match=r"files that cannot be read \(1\): .*b.json"):
        read(tmp_path)


# --- VIA


def via_regions(regions: object) -> dict[str, object]:
    return {
        "a.jpg1234": {"filename": "a.jpg", "size": 1234, "regions": regions, "file_attributes": {}},
        "b.jpg99": {"filename": "b.jpg", "size": 99, "regions": [], "file_attributes": {}},
    }


REGIONS = [
    {
        "shape_attributes": {"name": "rect", "x": 10, "y": 10, "width": 10, "height": 20},
        "region_attributes": {"ripe": "yes", "class": "berry"},
    },
    {
        "shape_attributes": {"name": "circle", "cx": 30, "cy": 20, "r": 4.5},
        "region_attributes": {"ripe": "no", "class": "berry"},
    },
    {
        "shape_attributes": {
            "name": "polygon",
            "all_points_x": [40, 44, 44],
            "all_points_y": [30, 30, 34],
        },
        "region_attributes": {"ripe": "", "class": "leaf"},
    },
    {
        "shape_attributes": {"name": "point", "cx": 5, "cy": 6},
        "region_attributes": {"ripe": "", "class": "leaf"},
    },
]
BERRIES: Centres = {
    ("a.jpg", "berry"): [[15, 20], [30, 20]],
    ("a.jpg", "leaf"): [[42, 32], [5, 6]],
    ("b.jpg", "berry"): [],
    ("b.jpg", "leaf"): [],
}


@pytest.mark.parametrize("kind", ["annotations", "project", "version 1"])
def test_via_json_gives_the_centres_of_all_its_regions(tmp_path, kind):
    regions = {str(n): each for n, each in enumerate(REGIONS)} if kind == "version 1" else REGIONS
    data = via_regions(regions)
    if kind == "project":
        settings = {"ui": {}, "core": {}, "project": {"name": "berries"}}
        data = {
            "_via_settings": settings,
            "_via_img_metadata": data,
            "_via_attributes": {"region": {}, "file": {}},
            "_via_data_format_version": "2.0.10",
            "_via_image_id_list": list(data),
        }
    write(tmp_path, {"via_project.json": json.dumps(data)}, ["images/a.jpg", "images/b.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == BERRIES
    assert "read as VIA (via_project.json)" in recognised(dataset)


def test_via_csv_gives_the_centres_of_all_its_regions(tmp_path):
    head = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
    lines = [head + "region_attributes"]
    for n, region in enumerate(REGIONS):
        cells = (region["shape_attributes"], region["region_attributes"])
        quoted = ('"' + json.dumps(cell).replace('"', '""') + '"' for cell in cells)
        lines.append(f'a.jpg,1234,"{{}}",4,{n},' + ",".join(quoted))
    lines.append('b.jpg,99,"{}",0,0,"{}","{}"')
    write(tmp_path, {"via_export_csv.csv": "\n".join(lines)}, ["images/a.jpg", "images/b.jpg"])

    assert centres(read(tmp_path)) == BERRIES


def test_the_header_of_older_via_csv_files_begins_with_a_hash(tmp_path):
    text = (
        "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
        "region_attributes\n"
        'a.jpg,1,"{}",1,0,"{""name"":""point"",""cx"":3,""cy"":4}","{""name"":""ant""}"\n'
    )
    write(tmp_path, {"via.csv": text}, ["a.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "ant"): [[3, 4]]}


def test_regions_without_a_class_are_objects(tmp_path):
    region = {"shape_attributes": {"name": "point", "cx": 3, "cy": 4}, "region_attributes": {}}
    write(tmp_path, {"via.json": json.dumps(via_regions([region]))}, ["a.jpg", "b.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == {("a.jpg", "objects"): [[3, 4]], ("b.jpg", "objects"): []}
    assert any("without a class" in notice for notice in dataset.notices)


def via3(metadata: dict[str, dict[str, object]], attribute: dict[str, dict[str, object]]) -> str:
    creator = "VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)"
    files = {str(n): {"fid": str(n), "fname": name, "type": 2, "loc": 1, "src": name}
             for n, name in ((1, "a.jpg"), (2, "b.jpg"))}  # fmt: skip
    fixed = {"anchor_id": "FILE1_Z0_XY1", "desc": "", "default_option_id": ""}
    data = {
        "project": {"pid": "__VIA_PROJECT_ID__", "rev": "__VIA_PROJECT_REV_ID__",
                    "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__", "pname": "berries",
                    "creator": creator, "created": 1715000000000, "vid_list": ["1", "2"]},
        "config": {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}, "ui": {}},
        "attribute": {key: {**fixed, **each} for key, each in attribute.items()},
        "file": files,
        "metadata": {key: {"flg": 0, "z": [], **each} for key, each in metadata.items()},
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
    }  # fmt: skip
    return json.dumps(data)


def test_a_project_of_via_3_gives_the_centres_of_all_its_shapes(tmp_path):
    attribute = {
        "1": {"aname": "remark", "type": 1, "options": {}},
        "2": {"aname": "class", "type": 4, "options": {"0": "berry", "1": "leaf"}},
    }
    metadata = {
        "1_a": {"vid": "1", "xy": [2, 10, 10, 10, 20], "av": {"1": "ripe", "2": "0"}},
        "1_b": {"vid": "1", "xy": [3, 30, 20, 4.5], "av": {"2": "0"}},
        "1_c": {"vid": "1", "xy": [7, 40, 30, 44, 30, 44, 34], "av": {"2": "1"}},
        "1_d": {"vid": "1", "xy": [1, 5, 6], "av": {"2": "1"}},
        "1_e": {"vid": "1", "xy": [], "av": {"1": "a remark about the whole image"}},
    }
    files = {"via_project_6May2024_10h00m00s.json": via3(metadata, attribute)}
    write(tmp_path, files, ["images/a.jpg", "images/b.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == BERRIES
    assert "read as VIA 3 (via_project" in recognised(dataset)


def test_a_text_attribute_of_via_3_is_the_class_itself(tmp_path):
    metadata = {"1_a": {"vid": "1", "xy": [1, 5, 6], "av": {"1": "ant"}}}
    text = via3(metadata, {"1": {"aname": "name", "type": 1, "options": {}}})
    write(tmp_path, {"via.json": text}, ["a.jpg", "b.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "ant"): [[5, 6]], ("b.jpg", "ant"): []}


# --- Label Studio


def region(kind: str, number: int, **value: object) -> dict[str, object]:
    """A region of an image of 64 x 48 pixels; shapes are in percent."""
    labels = {f"{kind}labels": value.pop("labels")} if kind != "relation" else {}
    return {"id": f"r{number}", "type": f"{kind}labels", "from_name": "label", "origin": "manual",
            "to_name": "image", "original_width": 64, "original_height": 48, "image_rotation": 0,
            "value": {**value, **labels}}  # fmt: skip


def label_studio_task(number: int, upload: str, *annotations: object) -> dict[str, object]:
    done = [
        {"id": 10 * number + n, "completed_by": 1, "result": result, "was_cancelled": False,
         "ground_truth": False, "created_at": "2024-05-06T10:00:00.000000Z", "lead_time": 9.5}
        for n, result in enumerate(annotations)
    ]  # fmt: skip
    return {"id": number, "annotations": done, "file_upload": upload, "drafts": [],
            "predictions": [], "data": {"image": f"/data/upload/1/{upload}"}, "meta": {},
            "project": 1, "updated_by": 1, "inner_id": number}  # fmt: skip


def test_label_studio_gives_the_centres_of_all_its_shapes(tmp_path):
    square = {"x": 25.0, "y": 25.0, "width": 25.0, "height": 50.0}
    result = [
        region("rectangle", 1, **square, rotation=0, labels=["cup"]),
        region("rectangle", 2, **square, rotation=90, labels=["cup"]),
        region("polygon", 3, points=[[50, 50], [75, 50], [75, 75]], closed=True, labels=["cup"]),
        region("keypoint", 4, x=12.5, y=25.0, width=0.8, labels=["lid"]),
        region("ellipse", 5, x=50, y=50, radiusX=5, radiusY=9, rotation=0, labels=["lid"]),
        {"type": "relation", "from_id": "r1", "to_id": "r4", "direction": "right"},
        {"id": "c", "type": "choices", "from_name": "good", "to_name": "image",
         "value": {"choices": ["yes"]}},
    ]  # fmt: skip
    tasks = [
        label_studio_task(1, "0a1b2c3d-a.jpg", result),
        label_studio_task(2, "4e5f6071-b%20c.jpg", []),
        label_studio_task(3, "8899aabb-unfinished.jpg"),
    ]
    files = {"project-1-at-2024-05-06-10-00-0a1b2c3d.json": json.dumps(tasks)}
    write(tmp_path, files, ["a.jpg", "4e5f6071-b c.jpg", "8899aabb-unfinished.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == {
        ("a.jpg", "cup"): [[24, 24], [4, 20], [40, 30]],
        ("a.jpg", "lid"): [[8, 12], [32, 24]],
        ("4e5f6071-b c.jpg", "cup"): [],
        ("4e5f6071-b c.jpg", "lid"): [],
    }
    assert "read as Label Studio (project-1-at" in recognised(dataset)
    assert any("unfinished.jpg" in notice for notice in dataset.notices)


def test_label_studio_with_labels_apart_from_shapes_joins_them_by_region(tmp_path):
    shape = region("rectangle", 1, x=25, y=25, width=25, height=50, labels=[])
    label = {**shape, "type": "labels", "value": {"labels": ["cup"]}}
    second = [region("keypoint", 2, x=50, y=50, labels=["lid"])]
    task = label_studio_task(1, "0a1b2c3d-a.jpg", [shape, label], second)
    task["data"] = {"image": "/data/local-files/?d=shots/a.jpg"}
    write(tmp_path, {"export.json": json.dumps([task])}, ["shots/a.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == {("a.jpg", "cup"): [[24, 24]]}
    assert "of tasks with several annotations the first is read: task 1" in dataset.notices


def test_the_reduced_json_of_label_studio_is_read(tmp_path):
    shape = {"x": 25, "y": 25, "width": 25, "height": 50, "rotation": 0,
             "rectanglelabels": ["cup"], "original_width": 64, "original_height": 48}  # fmt: skip
    task = {"image": "s3://bucket/shots/a.jpg", "id": 1, "label": [shape], "annotator": 1}
    write(tmp_path, {"min.json": json.dumps([task])}, ["images/a.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "cup"): [[24, 24]]}


def test_a_brush_of_label_studio_is_refused_with_its_task(tmp_path):
    mask = region("brush", 1, format="rle", rle=[0, 1, 2], labels=["cup"])
    task = label_studio_task(1, "0a1b2c3d-a.jpg", [mask])
    write(tmp_path, {"export.json": json.dumps([task])}, ["a.jpg"])

    with pytest.raises(DataError, match=r"position cannot be read.*task 1, region 1"):
        read(tmp_path)


# --- CreateML


@pytest.mark.parametrize("names", [("image", "annotations"), ("imagefilename", "annotation")])
def test_createml_folders_of_roboflow_give_the_centres_of_boxes(tmp_path, names):
    box = {"label": "tree", "coordinates": {"x": 12, "y": 25, "width": 4, "height": 10}}
    images = [{names[0]: "a.jpg", names[1]: [box]}, {names[0]: "b.jpg", names[1]: []}]
    folders = ("train", "valid", "test")
    files = {f"{folder}/_annotations.createml.json": json.dumps(images) for folder in folders}
    write(tmp_path, files, [f"{folder}/{n}.jpg" for folder in folders for n in "ab"])

    dataset = read(tmp_path)

    for split in ("train", "val", "test"):
        assert centres(dataset, split) == {("a.jpg", "tree"): [[12, 25]], ("b.jpg", "tree"): []}
    assert "read as CreateML (3 files)" in recognised(dataset)


# --- DotDotGoose


def dotdotgoose(points: dict[str, dict[str, list[list[float]]]], **more: object) -> str:
    marked = {
        image: {name: [{"x": x, "y": y} for x, y in each] for name, each in classes.items()}
        for image, classes in points.items()
    }
    return json.dumps(
        {
            "classes": ["gull", "tern"],
            "points": marked,
            "colors": {"gull": [255, 0, 0], "tern": [0, 0, 0]},
            "metadata": {"survey_id": "S1", "coordinates": {"a.jpg": {"x": "4.5", "y": "52"}}},
            **more,
        },
        indent=2,
    )


LATER_KEYS = {
    "custom_fields": {"fields": [["observer", "line"]], "data": {"observer": {"a.jpg": "MK"}}},
    "ui": {"grid": {"size": 200, "color": [255, 255, 255]}, "point": {"radius": 25}},
}


@pytest.mark.parametrize("more", [{}, LATER_KEYS])
@pytest.mark.parametrize("folder", ["", "images/", "survey/2024/"])
def test_a_project_of_dotdotgoose_gives_its_points_beside_its_images(tmp_path, folder, more):
    points = {
        "a.jpg": {"gull": [[10.25, 20], [30, 12]], "tern": [[5, 6]]},
        "b.jpg": {"gull": [[7, 8]]},
    }
    write(tmp_path, {f"{folder}survey.pnt": dotdotgoose(points, **more)},
          [f"{folder}{name}.jpg" for name in "ab"])  # fmt: skip

    dataset = read(tmp_path)

    assert centres(dataset) == {
        ("a.jpg", "gull"): [[10.2, 20], [30, 12]],
        ("a.jpg", "tern"): [[5, 6]],
        ("b.jpg", "gull"): [[7, 8]],
    }
    assert "read as DotDotGoose" in recognised(dataset)


def test_a_class_of_dotdotgoose_whose_points_were_deleted_is_not_in_the_image(tmp_path):
    points = {"a.jpg": {"gull": [[10, 20]]}, "b.jpg": {"gull": []}}
    write(tmp_path, {"survey.pnt": dotdotgoose(points)}, ["a.jpg", "b.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "gull"): [[10, 20]], ("b.jpg", "gull"): []}


def test_images_that_dotdotgoose_lists_without_any_class_are_left_out_and_named(tmp_path):
    points = {"a.jpg": {"gull": [[10, 20]]}, "b.jpg": {}, "moved.jpg": {}}
    write(tmp_path, {"survey.pnt": dotdotgoose(points)}, ["a.jpg", "b.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == {("a.jpg", "gull"): [[10, 20]]}
    (notice,) = (notice for notice in dataset.notices if "b.jpg" in notice)
    assert "images in which survey.pnt marks nothing are not taken as empty (2)" in notice
    assert "1 image, 1 object" in recognised(dataset)


def test_two_projects_of_dotdotgoose_may_share_the_images_of_a_folder(tmp_path):
    files = {
        "first.pnt": dotdotgoose({"a.jpg": {"gull": [[10, 20]]}, "b.jpg": {}}),
        "second.pnt": dotdotgoose({"a.jpg": {}, "b.jpg": {"tern": [[5, 6]]}}),
    }
    write(tmp_path, files, ["a.jpg", "b.jpg"])

    assert centres(read(tmp_path)) == {
        ("a.jpg", "gull"): [[10, 20]],
        ("b.jpg", "tern"): [[5, 6]],
    }


def test_a_point_of_dotdotgoose_without_a_number_is_named(tmp_path):
    text = dotdotgoose({"a.jpg": {"gull": [[10, 20], [1, 2]]}}).replace('"x": 1,', '"x": null,')
    write(tmp_path, {"survey.pnt": text}, ["a.jpg"])

    with pytest.raises(DataError, match=r"survey\.pnt: a\.jpg, gull 2"):
        read(tmp_path)


def test_a_pnt_file_of_another_program_is_named(tmp_path):
    write(tmp_path, {"a.pnt": '{"points": [1, 2]}'}, ["images/a.jpg"])

    with pytest.raises(DataError, match=r"of unknown format: a\.pnt"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["points.csv", "export/survey.csv"])
@pytest.mark.parametrize("more", ["", ",chip name"])
def test_points_exported_by_dotdotgoose_are_read(tmp_path, name, more):
    text = f"survey id,image,class,x,y{more}\nS1,a.jpg,gull,10.25,20.0{',0.jpg' if more else ''}"
    write(tmp_path, {name: text}, ["images/a.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "gull"): [[10.2, 20]]}


DOTDOTGOOSE_COUNTS = """survey id,image,Great gull,tern,x,y,observer
S1,a.jpg,12,0,4.5,52.1,MK
S1,b.jpg,0,0,,,
"""


@pytest.mark.parametrize("name", ["counts.csv", "export/survey.csv"])
@pytest.mark.parametrize("change", [("survey id", "survey_id"), (",", ";")])
def test_counts_exported_by_dotdotgoose_are_counts_not_positions(tmp_path, name, change):
    text = DOTDOTGOOSE_COUNTS.replace(*change)
    write(tmp_path, {name: text}, ["images/a.jpg", "images/b.jpg"])

    dataset = read(tmp_path)

    counts = {(sample.name, sample.prompt): sample.count for sample in dataset.split("test")}
    assert counts == {
        ("a.jpg", "Great gull"): 12,
        ("a.jpg", "tern"): 0,
        ("b.jpg", "Great gull"): 0,
        ("b.jpg", "tern"): 0,
    }
    assert any("0 for every class" in notice and "b.jpg" in notice for notice in dataset.notices)
    with pytest.raises(DataError, match="counts without positions"):
        load_dataset(tmp_path)


def test_broken_cells_of_exported_counts_are_named(tmp_path):
    text = DOTDOTGOOSE_COUNTS.replace("a.jpg,12", "a.jpg,1.5").replace("S1,b.jpg", "S1,")
    write(tmp_path, {"counts.csv": text}, ["a.jpg", "b.jpg"])

    with pytest.raises(DataError, match=r"whole number.*line 2, Great gull \('1\.5'\)") as caught:
        read(tmp_path)

    assert "without image (1): line 3" in str(caught.value)


def test_counts_csv_comes_before_other_counts_of_dotdotgoose(tmp_path):
    files = {"counts.csv": "image,prompt,count\na.jpg,gull,3\n", "survey.csv": DOTDOTGOOSE_COUNTS}
    write(tmp_path, files, ["a.jpg", "b.jpg"])

    (sample,) = read(tmp_path).split("all")

    assert (sample.prompt, sample.count) == ("gull", 3)


# --- ImageJ

MULTI_POINT = " ,Area,Mean,Min,Max,X,Y,Slice\n1,0,121,121,121,10.5,20,0\n2,0,98,98,98,30,12.25,0\n"


@pytest.mark.parametrize("table", ["a.csv", "Results of a.csv", "a_points.csv", "a.jpg.csv"])
def test_points_of_imagej_belong_to_the_image_their_table_is_named_after(tmp_path, table):
    write(tmp_path, {f"images/{table}": MULTI_POINT}, ["images/a.jpg", "images/b.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == {("a.jpg", "objects"): [[10.5, 20], [30, 12.2]]}
    assert "read as ImageJ points" in recognised(dataset)


def test_points_of_imagej_are_named_by_the_sub_folder_of_their_image(tmp_path):
    text = " ,X,Y,Ch,Slice,Counter,Count\n1,10.500,20.000,1,1,0,1\n"
    write(tmp_path, {"images/cells/a.csv": text}, ["images/cells/a.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "cells"): [[10.5, 20]]}


def test_labels_of_imagej_name_the_image_of_each_point(tmp_path):
    text = " ,Label,X,Y\n1,a.jpg,10,20\n2,b.jpg:0001-0020,5,6\n"
    write(tmp_path, {"Results.csv": text}, ["images/a.jpg", "images/b.jpg"])

    assert centres(read(tmp_path)) == {
        ("a.jpg", "objects"): [[10, 20]],
        ("b.jpg", "objects"): [[5, 6]],
    }


@pytest.mark.parametrize("text", ["10\t20\n30.5\t12\n", "X,Y\n10,20\n30.5,12\n"])
def test_coordinates_of_imagej_need_no_other_columns_and_no_header(tmp_path, text):
    write(tmp_path, {"a.csv": text}, ["a.jpg", "b.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "objects"): [[10, 20], [30.5, 12]]}


def test_counters_of_imagej_are_one_class_and_are_named(tmp_path):
    text = " ,X,Y,Ch,Slice,Counter,Count\n1,10,20,1,1,0,1\n2,30,12,1,1,1,1\n"
    write(tmp_path, {"a.csv": text}, ["a.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == {("a.jpg", "objects"): [[10, 20], [30, 12]]}
    assert "points of the counters 0, 1 of a.csv count as one class" in dataset.notices


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("a.csv", " ,X,Y,Slice\n1,3,4,1\n2,3,9,2\n3,5,9,2\n"),
        ("a.csv", " ,X,Y,Frame\n1,3,4,1\n2,3,9,2\n3,5,9,2\n"),
        ("Results.csv", " ,Label,X,Y,Slice\n1,a.tif,3,4,1\n2,a.tif:2,3,9,2\n3,a.tif:2,5,9,2\n"),
    ],
)
def test_slices_of_imagej_are_pages(tmp_path, table, text):
    write(tmp_path, {table: text}, [])
    pages = [Image.new("L", (64, 48), level) for level in (1, 2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

    dataset = read(tmp_path)

    assert centres(dataset) == {
        ("a.tif#1", "objects"): [[3, 4]],
        ("a.tif#2", "objects"): [[3, 9], [5, 9]],
    }
    assert not any("first page" in warning for warning in dataset.warnings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" ,X,Y,Slice\n1,3,4,1\n2,3,9,2\n", "pages that do not exist (1): a.jpg#2 (of 1 page)"),
        (" ,X,Y,Ch,Slice\n1,3,4,1,1\n2,3,9,1,2\n", "slices of a hyperstack"),
        (" ,X,Y,Slice,Frame\n1,3,4,1,2\n2,3,9,2,1\n", "slices of a hyperstack"),
    ],
)
def test_slices_of_imagej_that_are_no_pages_are_refused(tmp_path, text, said):
    write(tmp_path, {"a.csv": text}, ["a.jpg"])

    with pytest.raises(DataError, match=re.escape(said)):
        read(tmp_path)


def test_a_channel_of_imagej_is_no_page(tmp_path):
    write(tmp_path, {"a.csv": " ,X,Y,Ch,Slice\n1,3,4,2,1\n"}, ["a.jpg"])

    assert centres(read(tmp_path)) == {("a.jpg", "objects"): [[3, 4]]}


# --- plain CSV


@pytest.mark.parametrize(
    "text",
    [
        # Roboflow
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,64,48,tree,10,20,14,30\n",
        "image_path,xmin,ymin,xmax,ymax,label\na.jpg,10,20,14,30,tree\n",  # DeepForest
        "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\n"
        "tree,10,20,4,10,a.jpg,64,48\n",  # makesense
        "tree,10,20,4,10,a.jpg,64,48\n",  # makesense, older
        "images/a.jpg,10,20,14,30,tree\n",  # RetinaNet
        "Image\tName\tClassification\tROI\tCentroid X px\tCentroid Y px\n"  # QuPath
        "a.jpg\t\ttree\tPolygon\t12\t25\n",
        "image,label,x,y,width,height\na.jpg,tree,10,20,4,10\n",
        "image;class;x;y\na.jpg;tree;12,0;25,0\n",
        "tree,12,25,a.jpg,64,48\n",  # makesense, points
        "filename,width,height,class,x,y\na.jpg,64,48,tree,12,25\n",
    ],
)
def test_boxes_and_points_in_plain_csv_are_read_by_the_names_of_their_columns(tmp_path, text):
    write(tmp_path, {"labels.csv": text}, ["images/a.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == {("a.jpg", "tree"): [[12, 25]]}
    assert "read as CSV (labels.csv)" in recognised(dataset)


def test_csv_folders_of_roboflow_keep_their_splits(tmp_path):
    text = "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,64,48,tree,10,20,14,30\n"
    folders = ("train", "valid", "test")
    files = {f"{folder}/_annotations.csv": text for folder in folders}
    write(tmp_path, files, [f"{folder}/a.jpg" for folder in folders])

    dataset = read(tmp_path)

    assert [len(dataset.split(split)) for split in ("train", "val", "test")] == [1, 1, 1]


# --- several at once


def test_if_a_folder_holds_two_formats_one_is_read_and_the_other_named(tmp_path):
    point = {"label": "leaf", "points": [[5.0, 6.0]], "shape_type": "point"}
    data = json.loads(coco([{"bbox": [1, 1, 2, 2]}]))
    data["images"][0]["file_name"] = "a.jpg"
    files = {"a.json": labelme([point]), "export/result.json": json.dumps(data)}
    write(tmp_path, files, ["a.jpg"])

    dataset = read(tmp_path)

    assert centres(dataset) == {("a.jpg", "apples"): [[2, 2]]}
    assert "COCO is read, LabelMe beside it is not: a.json" in dataset.notices


def test_a_folder_of_images_alone_names_the_known_layouts(tmp_path):
    write(tmp_path, {"results.csv": "image,prompt,count\na.jpg,trees,3\n"}, ["images/a.jpg"])

    with pytest.raises(DataError, match="no data set of a known layout") as caught:
        read(tmp_path)

    assert "files of unknown format: results.csv" in str(caught.value)
    assert all(name in str(caught.value.hint) for name in ("YOLO", "counts.csv", "CVAT"))


def test_a_spreadsheet_instead_of_a_table_is_named(tmp_path):
    write(tmp_path, {"points.xlsx": "PK"}, ["images/a.jpg"])

    with pytest.raises(DataError, match="spreadsheet") as caught:
        read(tmp_path)

    assert "CSV UTF-8" in str(caught.value.hint)
