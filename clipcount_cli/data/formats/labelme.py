"""LabelMe: one JSON per image, with the shapes drawn on it.

annotated.py <- [labelme.py]. Also written by AnyLabeling and X-AnyLabeling.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.formats.annotated import (
    AnnotatedImage,
    Point,
    box_centre,
    noting_faults,
    shape_centre,
    stated_size,
)

TITLE = "LabelMe"


def recognises(data: Any) -> bool:
    """Whether a JSON file holds LabelMe's shapes and the name of their image."""
    return isinstance(data, dict) and isinstance(data.get("shapes"), list) and "imagePath" in data


def read(data: Any, path: Path, findings: Findings) -> list[AnnotatedImage]:
    """The one image of a LabelMe file; renamed images are found by the file's own name."""
    image = AnnotatedImage(
        str(data["imagePath"] or path.stem),
        path,
        path.stem,
        size=stated_size(data.get("imageWidth"), data.get("imageHeight")),
    )
    for number, shape in enumerate(data["shapes"], start=1):
        with noting_faults(findings, path, f"shape {number}"):
            image.add(str(shape.get("label") or ""), _centre(shape))
    return [image]


def _centre(shape: dict[str, Any]) -> Point:
    points, kind = shape["points"], shape.get("shape_type")
    if kind == "circle":  # its centre, and a point on its edge
        return shape_centre(points[:1])
    if kind in ("rectangle", "mask") and len(points) == 2:
        return box_centre(*points[0], *points[1])
    return shape_centre(points)
