"""COCO: one JSON of images, categories and annotations, in the dialects of its exporters.

annotated.py, rle.py <- [coco.py]. Written by Roboflow, CVAT, Label Studio, VIA, makesense and many
more: ids may be texts, names may have backslashes, a shape may be a box, polygons, a mask or
keypoints, and where there is one class, it may have no name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.formats.annotated import (
    UNNAMED,
    AnnotatedImage,
    Point,
    noting_faults,
    shape_centre,
    sized_box_centre,
    stated_size,
)
from clipcount_cli.data.formats.rle import mask_centre
from clipcount_cli.errors import DataError, shortened

TITLE = "COCO"
_LISTS = ("images", "annotations")
_UNNAMED_CATEGORY = {"name": UNNAMED}
_VISIBLE_FROM = 1  # a keypoint's flag: 0 not labelled, 1 hidden, 2 visible


def recognises(data: Any) -> bool:
    """Whether a JSON file holds COCO's lists of images and annotations."""
    return isinstance(data, dict) and all(isinstance(data.get(name), list) for name in _LISTS)


def read(data: Any, path: Path, findings: Findings) -> list[AnnotatedImage]:
    """The images of a COCO file in its order; DataError if it is none."""
    try:
        images = _by_id(_objects(data, "images"), "file_name", path, findings)
        annotations = _objects(data, "annotations")
        prompts = _categories(data, annotations, path, findings)
        annotated = {
            key: AnnotatedImage(
                str(image["file_name"]),
                path,
                size=stated_size(image.get("width"), image.get("height")),
            )
            for key, image in images.items()
        }
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a COCO file: it lacks {error}",
            hint="it needs the lists images, categories and annotations",
        ) from error
    crowds: list[str] = []
    all_crowds = all(map(_is_crowd, annotations))  # then the mark means nothing
    for annotation in annotations:
        place = f"annotation {annotation.get('id')}"
        image = annotated.get(_key(annotation.get("image_id")))
        category = prompts.get(_key(annotation.get("category_id")))
        if image is None or category is None:
            kind = "annotations of an unknown image or category"
            findings.add(kind, f"{path.name}: {place}")
        elif _is_crowd(annotation) and not all_crowds:
            crowds.append(f"{image.name} ({category['name']})")
            image.uncounted.add(_name(category).strip())
        else:
            with noting_faults(findings, path, place):
                image.add(_name(category), _centre(annotation))
    if annotations and all_crowds:
        findings.notices.append(f"{path.name} marks all objects as crowds: each counts as one")
    _mention(annotated.values(), prompts, crowds, findings)
    return list(annotated.values())


def _is_crowd(annotation: Mapping[str, Any]) -> bool:
    return bool(annotation.get("iscrowd"))


def _categories(
    data: Any, annotations: Sequence[Mapping[str, Any]], path: Path, findings: Findings
) -> dict[str, dict[str, Any]]:
    """Categories by their id. A file may leave them out if all its objects are of one class."""
    if data.get("categories"):
        return _by_id(_objects(data, "categories"), "name", path, findings)
    used = {_key(annotation.get("category_id")) for annotation in annotations}
    if len(used) > 1:
        raise KeyError("categories")
    return dict.fromkeys(used, _UNNAMED_CATEGORY)


def _name(category: Mapping[str, Any]) -> str:
    return UNNAMED if category["name"] is None else str(category["name"])


def _objects(data: Any, name: str) -> list[dict[str, Any]]:
    """The list `name` of a COCO file; TypeError if it is something else."""
    if not isinstance(data, dict):
        raise TypeError("an object that holds lists")
    found = data[name]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise TypeError(f"{name!r} as a list of objects")
    return found


def _by_id(
    objects: Iterable[dict[str, Any]], name: str, path: Path, findings: Findings
) -> dict[str, dict[str, Any]]:
    """Objects by their id; one id for two different names is a problem."""
    found: dict[str, dict[str, Any]] = {}
    for each in objects:
        first = found.setdefault(_key(each["id"]), each)
        if first[name] != each[name]:
            findings.add(
                "ids given twice", f"{path.name}: {each['id']} ({first[name]}, {each[name]})"
            )
    return found


def _key(number: object) -> str:
    """An id as a text: exporters write 7, "7" and 7.0 for the same one."""
    integral = isinstance(number, float) and number.is_integer()
    return str(int(number) if integral else number)  # type: ignore[call-overload]


def _centre(annotation: Mapping[str, Any]) -> Point:
    """The centre of an annotation's box, else of its polygons or mask, else of its keypoints."""
    box = annotation.get("bbox")
    polygons = annotation.get("segmentation")
    keypoints = annotation.get("keypoints")
    if box and (any(map(float, box[2:])) or not (polygons or keypoints)):
        x, y, width, height = box
        return sized_box_centre(x, y, width, height)
    if isinstance(polygons, list) and polygons:
        rings = polygons if isinstance(polygons[0], list) else [polygons]
        return shape_centre(pair for ring in rings for pair in _pairs(ring))
    if isinstance(polygons, dict):
        return mask_centre(polygons)
    flat = keypoints or []
    marks = zip(flat[0::3], flat[1::3], flat[2::3], strict=True)
    return shape_centre((x, y) for x, y, flag in marks if flag >= _VISIBLE_FROM)


def _pairs(flat: list[float]) -> Iterable[tuple[float, float]]:
    return zip(flat[0::2], flat[1::2], strict=True)


def _mention(
    images: Iterable[AnnotatedImage],
    prompts: Mapping[str, dict[str, Any]],
    crowds: list[str],
    findings: Findings,
) -> None:
    if crowds:
        findings.notices.append(f"boxes around whole crowds are left out: {shortened(crowds)}")
    used = Counter(prompt for image in images for prompt in image.points)
    if unused := sorted(
        {_name(each).strip() for each in prompts.values()} - used.keys() - {UNNAMED}
    ):
        # exporters add umbrella categories that no box ever has: no reason to refuse
        findings.notices.append(f"categories without any object: {shortened(unused)}")
