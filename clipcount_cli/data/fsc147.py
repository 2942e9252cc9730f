"""FSC-147 (Ranjan et al., CVPR 2021): 147 classes, each picture dotted for one of them.

Layouts in the wild: the annotation files at the root or under FSC_147/ (or FSC147/), each of them
spelt FSC147 or FSC_147, and `images_384_VarV2/` at either place. The density maps are not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipcount_cli.data.checks import Findings, read_json
from clipcount_cli.data.samples import Sample, as_points
from clipcount_cli.errors import DataError

TITLE = "FSC-147"
IMAGES = "images_384_VarV2"
_SPELLINGS = ("FSC147", "FSC_147")


@dataclass(frozen=True)
class Fsc147Files:
    """Where one copy of FSC-147 keeps its parts."""

    splits: Path
    dots: Path
    classes: Path
    images: Path


def find(root: Path) -> Fsc147Files | None:
    """The parts of FSC-147 under `root`, or None if `root` holds something else."""
    dots = _first(root, "annotation_{}_384.json")
    splits = _first(root, "Train_Test_Val_{}.json")
    if dots is None or splits is None:
        return None
    classes = _first(root, "ImageClasses_{}.txt")
    if classes is None:
        raise DataError(f"{root} looks like FSC-147, but has no ImageClasses_FSC147.txt")
    homes = (root, dots.parent, *(root / name for name in _SPELLINGS))
    images = next((home / IMAGES for home in homes if (home / IMAGES).is_dir()), None)
    if images is None:
        raise DataError(f"{root} looks like FSC-147, but has no folder {IMAGES}/")
    return Fsc147Files(splits, dots, classes, images)


def read(files: Fsc147Files, findings: Findings) -> dict[str, list[Sample]]:
    """The samples of every split that the split file lists, in its order."""
    split_names = read_json(files.splits)
    dots = read_json(files.dots)
    if not isinstance(split_names, dict) or not isinstance(dots, dict):
        raise DataError(f"{files.splits} and {files.dots} have to hold JSON objects")
    classes = _read_classes(files.classes)
    _find_lonely_classes(classes, split_names, findings)
    read_once: dict[str, Sample | None] = {}
    splits: dict[str, list[Sample]] = {}
    for split, names in split_names.items():
        for name in names:
            if name not in read_once:
                read_once[name] = _sample(name, files, dots, classes, findings)
        splits[split] = [sample for name in names if (sample := read_once[name]) is not None]
    return splits


def _sample(
    name: str,
    files: Fsc147Files,
    dots: dict[str, dict[str, object]],
    classes: dict[str, str],
    findings: Findings,
) -> Sample | None:
    if name not in dots:
        findings.add(f"images without points in {files.dots.name}", name)
    if name not in classes:
        findings.add(f"images without a class in {files.classes.name}", name)
    if name not in dots or name not in classes:
        return None
    try:
        points_px = as_points(dots[name]["points"])
    except (KeyError, TypeError, ValueError):
        findings.add(f"unreadable points in {files.dots.name}", name)
        points_px = np.zeros((0, 2), np.float32)
    return Sample(name, files.images / name, classes[name], points_px, "fsc147")


def _read_classes(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    words = [line.split() for line in lines if line.strip()]
    return {name: " ".join(rest) for name, *rest in words if rest}


def _find_lonely_classes(
    classes: dict[str, str], split_names: dict[str, list[str]], findings: Findings
) -> None:
    listed = {name for names in split_names.values() for name in names}
    with_images = {classes[name] for name in listed if name in classes}
    for lonely in sorted(set(classes.values()) - with_images):
        findings.add("classes without images in any split", lonely)


def _first(root: Path, pattern: str) -> Path | None:
    return next((path for path in _candidates(root, pattern) if path.is_file()), None)


def _candidates(root: Path, pattern: str) -> Iterator[Path]:
    for home in (root, *(root / name for name in _SPELLINGS)):
        for spelling in _SPELLINGS:
            yield home / pattern.format(spelling)
