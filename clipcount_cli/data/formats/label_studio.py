"""Label Studio: a JSON export, whole or JSON-MIN, with shapes in percent of the image.

annotated.py <- [label_studio.py]. Source: "Export results and annotations" of its documentation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

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
from clipcount_cli.errors import shortened

TITLE = "Label Studio"
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # put before the name of an uploaded file
_LOCAL_FILE = "?d="  # local storage: /data/local-files/?d=folder/a.jpg


def recognises(data: Any) -> bool:
    """Whether a JSON file is a list of tasks, or of tasks reduced to their shapes (JSON-MIN)."""
    return isinstance(data, list) and bool(data) and (_are_tasks(data) or _are_reduced(data))


def _are_tasks(data: list[Any]) -> bool:
    return all(
        isinstance(task, dict)
        and isinstance(task.get("data"), dict)
        and isinstance(task.get("annotations"), list)
        for task in data
    )


def _are_reduced(data: list[Any]) -> bool:
    return all(isinstance(task, dict) for task in data) and any(
        any(_shapes_of(task)) for task in data
    )


def read(data: Any, path: Path, findings: Findings) -> list[AnnotatedImage]:
    """The images of an export in its order; of several annotations of an image the first."""
    images, several = [], []
    for number, task in enumerate(data, start=1):
        if "annotations" in task:
            finished = [each for each in task["annotations"] if not each.get("was_cancelled")]
            if not finished:
                continue
            several += [f"task {task.get('id', number)}"] if finished[1:] else []
            results, source = _flat(finished[0].get("result") or []), task["data"]
        else:
            results, source = [*_shapes_of(task)], task
        image = _image(source, results, path)
        for place, shape in enumerate(results, start=1):
            with noting_faults(findings, path, f"task {task.get('id', number)}, region {place}"):
                image.add(_label(shape), _centre(shape))
        images.append(image)
    if several:
        findings.notices.append(
            f"of tasks with several annotations the first is read: {shortened(several)}"
        )
    return images


def _flat(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A shape per region: its size and its value; the parts of one region have one id.

    What has no shape (a relation, a choice about the whole image) is left out.
    """
    shapes: dict[object, dict[str, Any]] = {}
    for number, each in enumerate(results):
        value = each.get("value")
        if isinstance(value, dict):
            shapes.setdefault(each.get("id", number), {}).update({**each, **value})
    return [shape for shape in shapes.values() if "original_width" in shape and _has_place(shape)]


def _shapes_of(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for regions in task.values():
        if isinstance(regions, list):
            yield from (
                each for each in regions if isinstance(each, dict) and "original_width" in each
            )


def _has_place(shape: dict[str, Any]) -> bool:
    return any(key in shape for key in ("x", "points", "vertices", "rle"))


def _image(source: dict[str, Any], shapes: list[dict[str, Any]], path: Path) -> AnnotatedImage:
    """The image of a task: its upload or URL, called as it was before the upload if need be."""
    from clipcount_cli.counting.images import IMAGE_SUFFIXES

    names = [
        unquote(value.partition(_LOCAL_FILE)[2] or value.partition("?")[0])
        for value in source.values()
        if isinstance(value, str)
    ]
    name = next((n for n in names if PurePosixPath(n).suffix.lower() in IMAGE_SUFFIXES), "")
    size = next((stated_size(s["original_width"], s.get("original_height")) for s in shapes), None)
    stem = _UPLOAD_PREFIX.sub("", PurePosixPath(name).stem)
    return AnnotatedImage(name, path, stem, size=size)


def _label(shape: dict[str, Any]) -> str:
    """What a region is called: `rectanglelabels`, `keypointlabels`, ..., or `labels` of any."""
    labels = next((v for key, v in shape.items() if key.endswith("labels") and v), UNNAMED)
    return " ".join(map(str, labels)) if isinstance(labels, list) else str(labels)


def _centre(shape: dict[str, Any]) -> Point:
    """The centre of a shape in pixels; a mask of a brush has none that could be read here."""
    across, down = float(shape["original_width"]) / 100, float(shape["original_height"]) / 100
    if "points" in shape:
        return shape_centre((x * across, y * down) for x, y in shape["points"])
    left, top = shape["x"] * across, shape["y"] * down
    if "height" not in shape:  # a key point, whose width is that of its mark; an ellipse
        return shape_centre([(left, top)])
    width, height = shape["width"] * across, shape["height"] * down
    sized_box_centre(left, top, width, height)  # raises if it is empty
    turn = math.radians(shape.get("rotation") or 0)  # about its upper left corner
    x, y = width / 2, height / 2
    return shape_centre(
        [(left + x * math.cos(turn) - y * math.sin(turn),
          top + x * math.sin(turn) + y * math.cos(turn))]
    )  # fmt: skip
