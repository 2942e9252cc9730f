"""The user's own data: `images/` with `points.csv`, or with a COCO `annotations.json`.

points.csv has the columns image,prompt,x,y; a row with empty x and y says that the prompt names
nothing in that picture. split.csv (image,split) is optional; without it the hash of a picture's
name decides, so that a picture stays in its split whatever is added later.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipcount_cli.data.checks import Findings, read_json, read_table
from clipcount_cli.data.samples import Sample, as_points
from clipcount_cli.errors import DataError, shortened

TITLE = "own data"
SPLITS = ("train", "val", "test")
_COCO = "annotations.json"
_VAL_FROM, _TEST_FROM = 0.8, 0.9  # shares of the hash's range

Dots = dict[tuple[str, str], list[tuple[float, float]]]  # (image, prompt) -> dots


@dataclass(frozen=True)
class CustomFiles:
    """Where one's own data keeps its parts; one of `points` and `coco` is there."""

    root: Path
    points: Path | None
    coco: Path | None
    splits: Path | None


def find(root: Path) -> CustomFiles | None:
    """The parts of own data in `root`, or None where it holds neither table."""
    parts = (root / name for name in ("points.csv", _COCO, "split.csv"))
    points, coco, splits = (path if path.is_file() else None for path in parts)
    return CustomFiles(root, points, coco, splits) if points or coco else None


def read(files: CustomFiles, findings: Findings) -> dict[str, list[Sample]]:
    """The samples of train, val and test, or of the splits that split.csv names."""
    if files.points is not None:
        if files.coco is not None:
            findings.notices.append("points.csv is read, annotations.json beside it is not")
        dots = _read_points(files.points, findings)
    elif files.coco is not None:
        dots = _read_coco(files.coco, findings)
    images = {name: _locate(files.root, name) for name, _ in dots}
    _mention_unlisted(files.root, set(images.values()), findings)
    if files.splits is not None:
        split_of = _read_splits(files.splits, files.root, images, findings)
    else:
        split_of = hash_splits(images, findings)
    splits: dict[str, list[Sample]] = {split: [] for split in SPLITS if split in split_of.values()}
    for (name, prompt), points in dots.items():
        if name in split_of:
            sample = Sample(name, images[name], prompt, as_points(points))
            splits[split_of[name]].append(sample)
    return splits


def hash_share(name: str) -> float:
    """Where the hash of a picture's name falls, 0 to 1: the same on every machine, for good."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def hash_splits(names: Iterable[str], findings: Findings) -> dict[str, str]:
    """80 / 10 / 10 by the hash of the name; few pictures lend one to a split left empty."""
    split_of = {name: _hash_split(name) for name in names}
    for empty in SPLITS:
        held = Counter(split_of.values())
        if held[empty] or not held or max(held.values()) < 2:
            continue
        largest = max(SPLITS, key=held.__getitem__)
        lent = max((name for name, split in split_of.items() if split == largest), key=hash_share)
        split_of[lent] = empty
        findings.notices.append(f"{lent} goes to {empty}, else without image; or give a split.csv")
    return split_of


def _hash_split(name: str) -> str:
    share = hash_share(name)
    return "train" if share < _VAL_FROM else "val" if share < _TEST_FROM else "test"


def _locate(root: Path, name: str) -> Path:
    """COCO files name their pictures either from images/ or from the folder above."""
    inside = root / "images" / name
    return root / name if not inside.is_file() and (root / name).is_file() else inside


def _mention_unlisted(root: Path, listed: set[Path], findings: Findings) -> None:
    from clipcount_cli.counting.images import IMAGE_SUFFIXES

    pictures = (p for p in sorted((root / "images").rglob("[!.]*")) if p.is_file())
    unlisted = [p.name for p in pictures if p.suffix.lower() in IMAGE_SUFFIXES and p not in listed]
    if unlisted:
        findings.notices.append(f"images without any row are left out: {shortened(unlisted)}")


def _read_points(path: Path, findings: Findings) -> Dots:
    dots: Dots = {}
    empty: dict[tuple[str, str], int] = {}  # line of a row that says: none here
    for line, row in read_table(path, ("image", "prompt", "x", "y")):
        key = (row["image"].replace("\\", "/"), row["prompt"])
        if not all(key):
            findings.add(f"rows of {path.name} without image or prompt", f"line {line}")
            continue
        points = dots.setdefault(key, [])
        if not row["x"] and not row["y"]:
            empty[key] = line
            continue
        try:
            point = as_points([[float(row["x"]), float(row["y"])]])[0]
        except ValueError:
            findings.add(
                f"rows of {path.name} whose x, y are no numbers",
                f"line {line} ({row['x']!r}, {row['y']!r})",
            )
            continue
        points.append((float(point[0]), float(point[1])))
    for key, line in empty.items():
        if dots[key]:
            kind = f"rows of {path.name} without x, y although the prompt has dots elsewhere"
            findings.add(kind, f"line {line} ({key[0]}, {key[1]})")
    return dots


def _read_coco(path: Path, findings: Findings) -> Dots:
    data = read_json(path)
    try:
        names = {image["id"]: str(image["file_name"]) for image in _objects(data, "images")}
        prompts = {each["id"]: str(each["name"]) for each in _objects(data, "categories")}
        annotations = _objects(data, "annotations")
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a COCO file: it lacks {error}",
            hint="it needs the lists images, categories and annotations",
        ) from error
    dots: Dots = {}
    crowds: list[str] = []
    for annotation in annotations:
        number = f"annotation {annotation.get('id')}"
        name = _named(names, annotation.get("image_id"))
        prompt = _named(prompts, annotation.get("category_id"))
        if name is None or prompt is None:
            findings.add(f"annotations of an unknown image or category in {path.name}", number)
        elif annotation.get("iscrowd"):
            crowds.append(f"{name} ({prompt})")
        else:
            _add_box(dots.setdefault((name, prompt), []), annotation, number, findings)
    _ask_single_category_everywhere(dots, names.values(), sorted(prompts.values()))
    _mention_coco(dots, crowds, names.values(), prompts.values(), findings)
    return dots


def _objects(data: Any, name: str) -> list[dict[str, Any]]:
    """The list `name` of a COCO file; TypeError where it is something else."""
    found = data[name]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise TypeError(f"{name!r} as a list of objects")
    return found


def _named(names: Mapping[Any, str], number: object) -> str | None:
    return names.get(number) if isinstance(number, Hashable) else None


def _add_box(
    points: list[tuple[float, float]], annotation: dict[str, Any], number: str, findings: Findings
) -> None:
    try:
        x, y, width, height = (float(each) for each in annotation["bbox"])
        (centre,) = as_points([[x + width / 2, y + height / 2]])
    except (KeyError, TypeError, ValueError, OverflowError):
        findings.add(f"annotations without a box of four numbers in {_COCO}", number)
        return
    points.append((float(centre[0]), float(centre[1])))


def _ask_single_category_everywhere(
    dots: Dots, names: Iterable[str], prompts: Sequence[str]
) -> None:
    """With one category, a picture without boxes says that it holds none."""
    if len(prompts) == 1:
        for name in names:
            dots.setdefault((name, prompts[0]), [])


def _mention_coco(
    dots: Dots,
    crowds: list[str],
    names: Iterable[str],
    prompts: Iterable[str],
    findings: Findings,
) -> None:
    if crowds:
        findings.notices.append(f"boxes around whole crowds are left out: {shortened(crowds)}")
    if unused := sorted(set(prompts) - {prompt for _, prompt in dots}):
        # exporters add umbrella categories that no box ever has: no reason to refuse
        findings.notices.append(f"categories without any box: {shortened(unused)}")
    if bare := sorted(set(names) - {name for name, _ in dots}):
        findings.notices.append(f"images without any box are left out: {shortened(bare)}")


def _read_splits(
    path: Path, root: Path, images: dict[str, Path], findings: Findings
) -> dict[str, str]:
    split_of: dict[str, str] = {}
    for line, row in read_table(path, ("image", "split")):
        name, split = row["image"].replace("\\", "/"), row["split"].lower()
        if split not in SPLITS:
            kind = f"rows of {path.name} whose split is not {', '.join(SPLITS)}"
            findings.add(kind, f"line {line} ({row['split']!r})")
        elif split_of.setdefault(name, split) != split:
            findings.add("images in two splits", f"{name} ({split_of[name]}, {split})")
        elif name not in images and not _locate(root, name).is_file():
            findings.add("missing images", f"images/{name} (in {path.name})")
    for name in sorted(images.keys() - split_of.keys()):
        findings.add(f"images without a split in {path.name}", name)
    return {name: split for name, split in split_of.items() if name in images}
