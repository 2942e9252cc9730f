"""YOLO: one text file per image, with a class number and fractions of width and height per line.

annotated.py <- [yolo.py]. Boxes, oriented boxes, polygons and poses; class names from data.yaml
(Ultralytics, Roboflow), obj.names (Darknet, CVAT), classes.txt (LabelImg, Label Studio) and others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.formats.annotated import (
    AnnotatedImage,
    Point,
    noting_faults,
    shape_centre,
    sized_box_centre,
)
from clipcount_cli.errors import DataError

TITLE = "YOLO"
_NAME_FILES = (
    "obj.names",
    "classes.txt",
    "_darknet.labels",
    "labels.txt",
    "predefined_classes.txt",
)
_SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
_BOX_NUMBERS = (4, 5)  # behind the class: a box, or a box and how sure its detector was
_SLACK = 0.01  # how far rounding may carry a fraction beyond 0 and 1


def find(images: Sequence[Path], texts: Sequence[Path]) -> dict[Path, Path]:
    """Image -> its label file; empty unless there are label files, and one reads as YOLO."""
    known = set(texts)
    labels = {
        image: label
        for image in images
        if (label := next((path for path in _label_paths(image) if path in known), None))
    }
    lines = (line for label in labels.values() for line in _lines(label))
    first = next(lines, None)
    return labels if first is None or _is_label(first) else {}


def unmatched(labels: Mapping[Path, Path], texts: Sequence[Path]) -> list[Path]:
    """The label files beside those of `labels` that have no image."""
    used, folders = set(labels.values()), {label.parent for label in labels.values()}
    others = (path for path in texts if path.parent in folders and path not in used)
    return [path for path in others if (lines := _lines(path)) and _is_label(lines[0])]


def read(
    labels: Mapping[Path, Path], root: Path, configs: Sequence[Path], findings: Findings
) -> list[AnnotatedImage]:
    """The images of a YOLO folder; configs: its YAML files. DataError if classes have no name."""
    config = _read_config(configs)
    names = _class_names(config, root)
    is_pose = bool(config.get("kpt_shape"))
    images, unnamed = [], set()
    for image_path, label in labels.items():
        image = AnnotatedImage(str(image_path.absolute()), label, in_fractions=True)
        for number, line in enumerate(_lines(label), start=1):
            with noting_faults(findings, label, f"line {number}"):
                words = line.split()
                index = int(float(words[0]))
                numbers = [float(word) for word in words[1:]]
                centre = _centre(numbers, is_pose)
                placed = numbers[:4] if is_pose else numbers
                if not all(-_SLACK <= each <= 1 + _SLACK for each in (*centre, *placed)):
                    kind = "YOLO positions outside 0 to 1: are they pixels?"
                    findings.add(kind, f"{label.name}: line {number}")
                elif index in names:
                    image.add(names[index], centre)
                else:
                    unnamed.add(index)
        images.append(image)
    if unnamed:
        raise DataError(
            f"{root} has YOLO labels of the classes {', '.join(map(str, sorted(unnamed)))}, "
            "but no names of them",
            hint="add data.yaml with `names: [apple, pear]`, or classes.txt with one name per line",
        )
    return images


def splits(configs: Sequence[Path]) -> dict[Path, str]:
    """Folder of images -> train, val or test, as data.yaml names them."""
    found: dict[Path, str] = {}
    for path in configs:
        config = _read_config([path])
        for key, split in _SPLIT_KEYS.items():
            entries = config.get(key)
            for entry in entries if isinstance(entries, list) else [entries]:
                if isinstance(entry, str) and (place := _resolve(path, config, entry)) is not None:
                    found.setdefault(place, split)
    return found


def _resolve(path: Path, config: Mapping[str, Any], entry: str) -> Path | None:
    """Where an entry of data.yaml points; Roboflow's begin with `../` where `./` is meant."""
    homes = [path.parent / str(config.get("path") or "."), path.parent]
    places = [home / each for home in homes for each in (entry, entry.replace("../", ""))]
    return next((place.resolve() for place in places if place.exists()), None)


def _label_paths(image: Path) -> Iterator[Path]:
    """Where the labels of an image may be: in `labels/` for `images/`, or beside it."""
    parts = image.with_suffix(".txt").parts
    for place in reversed(range(len(parts))):
        if parts[place] == "images":
            yield Path(*parts[:place], "labels", *parts[place + 1 :])
    yield image.with_suffix(".txt")
    yield image.parent / "labels" / f"{image.stem}.txt"


def _lines(path: Path) -> list[str]:
    """The lines of a label file that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return [line for line in text.splitlines() if line.strip()]


def _is_label(line: str) -> bool:
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        return False
    return len(numbers) > 4 and numbers[0] >= 0 and numbers[0].is_integer()


def _centre(numbers: list[float], is_pose: bool) -> Point:
    """The centre of a box (x, y, width, height), or of a polygon or an oriented box (x, y, ...)."""
    if len(numbers) in _BOX_NUMBERS or is_pose:
        x, y, width, height = numbers[:4]
        return sized_box_centre(x - width / 2, y - height / 2, width, height)
    return shape_centre(zip(numbers[0::2], numbers[1::2], strict=True))


def _read_config(configs: Sequence[Path]) -> dict[str, Any]:
    """The first of some YAML files that names classes."""
    import yaml  # 20 ms: paid only for YOLO

    for path in configs:
        try:
            # texts only, so that a class may be called "no" or "1"
            config = yaml.load(path.read_text(encoding="utf-8-sig"), yaml.BaseLoader)
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise DataError(f"{path} cannot be read as YAML: {error}") from error
        if isinstance(config, dict) and isinstance(config.get("names"), (list, dict)):
            return config
    return {}


def _class_names(config: Mapping[str, Any], root: Path) -> dict[int, str]:
    """Class number -> name."""
    names = config.get("names")
    if not names:
        found = (path for name in _NAME_FILES for path in sorted(root.rglob(name)))
        names = [line.strip() for path in [*found][:1] for line in _lines(path)]
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    return {int(number): name for number, name in pairs if isinstance(name, str)}
