"""VGG Image Annotator: regions as JSON (versions 1 and 2, project or annotations) or as CSV.

annotated.py <- [via.py] <- via3.py. The class of a region is one of the attributes that its
user defined.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
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
)
from clipcount_cli.data.tables import Table

TITLE = "VIA"
_PROJECT = "_via_img_metadata"
_CSV_COLUMNS = {"file_attributes", "region_count", "region_shape_attributes", "region_attributes"}
# attributes that hold the class, if there are several; the likeliest first
_CLASS_ATTRIBUTES = ("class", "label", "name", "category", "object", "object_name", "type")


def recognises(data: Any) -> bool:
    """Whether a JSON file is a VIA project, or the annotations exported from one."""
    if not isinstance(data, dict) or not data:
        return False
    images = data.get(_PROJECT, data)
    return isinstance(images, dict) and all(
        isinstance(image, dict) and {"filename", "regions"} <= image.keys()
        for image in images.values()
    )


def read(data: Any, path: Path, findings: Findings) -> list[AnnotatedImage]:
    """The images of a VIA JSON file in its order."""
    images = list(data.get(_PROJECT, data).values())
    attribute = class_attribute(
        _attributes(region for image in images for region in _regions(image))
    )
    annotated = []
    for each in images:
        image = AnnotatedImage(str(each["filename"]), path)
        for number, region in enumerate(_regions(each), start=1):
            with noting_faults(findings, path, f"{each['filename']}, region {number}"):
                _add(image, region, attribute)
        annotated.append(image)
    return annotated


def recognises_table(table: Table) -> bool:
    """Whether a table is VIA's CSV export."""
    return set(table.columns) >= _CSV_COLUMNS


def read_table(table: Table, findings: Findings) -> list[AnnotatedImage]:
    """The images of a VIA CSV file; one without regions has a single row."""
    name_column = table.columns[0]  # `#filename` in version 1 and 2.0, `filename` in between
    regions: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for line, cells in table.rows:
        found = regions.setdefault(cells[name_column], [])
        with noting_faults(findings, table.path, f"line {line}"):
            shape = json.loads(cells["region_shape_attributes"] or "{}")
            if shape:
                attributes = json.loads(cells["region_attributes"] or "{}")
                found.append((line, {"shape_attributes": shape, "region_attributes": attributes}))
    attribute = class_attribute(
        _attributes(region for rows in regions.values() for _, region in rows)
    )
    annotated = []
    for name, rows in regions.items():
        image = AnnotatedImage(name, table.path)
        for line, region in rows:
            with noting_faults(findings, table.path, f"line {line}"):
                _add(image, region, attribute)
        annotated.append(image)
    return annotated


def _regions(image: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Regions, which version 1 keeps as an object and version 2 as a list."""
    regions = image["regions"]
    yield from regions.values() if isinstance(regions, dict) else regions


def class_attribute(used: Iterable[str]) -> str | None:
    """Which of the attributes in use names the class: a usual one, else the first."""
    names = list(used)
    by_lower = {name.lower(): name for name in reversed(names)}
    usual = (by_lower[name] for name in _CLASS_ATTRIBUTES if name in by_lower)
    return next(usual, next(iter(names), None))


def _attributes(regions: Iterable[dict[str, Any]]) -> Iterator[str]:
    return (name for region in regions for name in region.get("region_attributes") or {})


def _add(image: AnnotatedImage, region: dict[str, Any], attribute: str | None) -> None:
    value = (region.get("region_attributes") or {}).get(attribute) or UNNAMED
    if isinstance(value, dict):  # of checkboxes: the ticked ones
        value = " ".join(name for name, ticked in value.items() if ticked)
    image.add(str(value), _centre(region["shape_attributes"]))


def _centre(shape: dict[str, Any]) -> Point:
    kind = shape["name"]
    if kind == "rect":
        return sized_box_centre(shape["x"], shape["y"], shape["width"], shape["height"])
    if kind in ("polygon", "polyline"):
        return shape_centre(zip(shape["all_points_x"], shape["all_points_y"], strict=True))
    return shape_centre([(shape["cx"], shape["cy"])])  # point, circle, ellipse
