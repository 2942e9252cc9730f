"""Data sets drawn into `tmp_path`, in the layouts that readers have to recognise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

Points = Sequence[tuple[float, float]]


def draw(path: Path, width: int = 32, height: int = 32, **save: Any) -> Path:
    """A small picture: grey, with a lighter middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[height // 4 : height // 2, width // 4 : width // 2] = 200
    Image.fromarray(pixels).save(path, **save)
    return path


def make_fsc147(
    root: Path,
    splits: Mapping[str, Sequence[str]],
    classes: Mapping[str, str],
    points: Points = ((3.0, 4.0), (20.0, 8.0)),
    spelling: str = "FSC147",
    nested: bool = False,
) -> Path:
    """FSC-147 with the same dots in each of the 32 x 32 pictures."""
    home = root / "FSC_147" if nested else root
    home.mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys(name for names in splits.values() for name in names)
    dots = {name: {"H": 32, "W": 32, "points": points} for name in names}
    (home / f"annotation_{spelling}_384.json").write_text(json.dumps(dots))
    (home / "Train_Test_Val_FSC_147.json").write_text(json.dumps(splits))
    lines = "".join(f"{name}\t{prompt}\n" for name, prompt in classes.items())
    (home / f"ImageClasses_{spelling}.txt").write_text(lines)
    for name in names:
        draw(root / "images_384_VarV2" / name)
    return root


def make_carpk(root: Path, train: Sequence[str], test: Sequence[str]) -> Path:
    """CARPK with two boxes in each picture."""
    for split, names in {"train": train, "test": test}.items():
        (root / "ImageSets").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            draw(root / "Images" / f"{name}.png", 48, 32)
            boxes = root / "Annotations" / f"{name}.txt"
            boxes.parent.mkdir(exist_ok=True)
            boxes.write_text("2 2 6 6 1\n10 4 20 16 1\n")
    return root


def make_shanghaitech(
    root: Path, part: str = "part_A", truth: str = "ground-truth", train: int = 2, test: int = 1
) -> Path:
    """One part of ShanghaiTech, three dots a picture."""
    for split, number in {"train_data": train, "test_data": test}.items():
        for index in range(1, number + 1):
            draw(root / part / split / "images" / f"IMG_{index}.jpg", 40, 32)
            location = np.array([[1.5, 2.0], [30.0, 3.0], [12.0, 31.0]])
            info = np.empty((1, 1), dtype=object)
            dtype = [("location", object), ("number", object)]
            info[0, 0] = np.array([[(location, np.array([[3]]))]], dtype=dtype)
            (root / part / split / truth).mkdir(exist_ok=True)
            savemat(root / part / split / truth / f"GT_IMG_{index}.mat", {"image_info": info})
    return root


def make_own(root: Path, rows: Sequence[str], names: Sequence[str]) -> Path:
    """Own data: points.csv with `rows` under its header, and the pictures `names`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "points.csv").write_text("\n".join(["image,prompt,x,y", *rows, ""]))
    for name in names:
        draw(root / "images" / name)
    return root


def make_coco(root: Path, data: Mapping[str, Any], names: Sequence[str]) -> Path:
    """Own data described by a COCO file."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "annotations.json").write_text(json.dumps(data))
    for name in names:
        draw(root / "images" / name)
    return root
