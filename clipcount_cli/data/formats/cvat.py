"""CVAT for images 1.1: one XML for all images of a task or project.

annotated.py, safe_xml.py <- [cvat.py]. Source: "XML annotation format" in CVAT's documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.formats.annotated import (
    AnnotatedImage,
    Point,
    corners_centre,
    noting_faults,
    shape_centre,
    sized_box_centre,
    stated_size,
)
from clipcount_cli.errors import DataError

TITLE = "CVAT XML"
_SPLITS = {"train": "train", "validation": "val", "val": "val", "valid": "val", "test": "test"}


def recognises(root: Element) -> bool:
    """Whether an XML file is CVAT's, for images or for videos."""
    return root.tag == "annotations" and any(
        root.find(tag) is not None for tag in ("image", "track", "meta")
    )


def read(root: Element, path: Path, findings: Findings) -> list[AnnotatedImage]:
    """The images of a CVAT file in its order; DataError for the tracks of a video."""
    if root.find("track") is not None:
        raise DataError(
            f"{path} is CVAT's format for videos, whose frames are not named",
            hint='export the task as "CVAT for images 1.1"',
        )
    images = []
    for element in root.findall("image"):
        image = AnnotatedImage(
            element.get("name", ""),
            path,
            size=stated_size(element.get("width"), element.get("height")),
            split=_SPLITS.get(element.get("subset", "").lower()),
        )
        for number, shape in enumerate(element, start=1):
            with noting_faults(findings, path, f"{image.name}, shape {number}"):
                for centre in _centres(shape):
                    image.add(shape.get("label", ""), centre)
        images.append(image)
    return images


def _centres(shape: Element) -> Iterator[Point]:
    """The centre of a shape; of `points`, which is a set of points, each one."""

    def number(name: str) -> float:
        return float(shape.attrib[name])

    if shape.tag == "box":
        yield corners_centre(number("xtl"), number("ytl"), number("xbr"), number("ybr"))
    elif shape.tag == "ellipse":
        yield shape_centre([(number("cx"), number("cy"))])
    elif shape.tag == "mask":
        yield sized_box_centre(number("left"), number("top"), number("width"), number("height"))
    elif shape.tag in ("polygon", "polyline"):
        yield shape_centre(_points(shape))
    elif shape.tag == "points":
        yield from (shape_centre([point]) for point in _points(shape))
    elif shape.tag == "skeleton":
        joints = shape.findall("points")
        yield shape_centre(point for joint in joints for point in _points(joint))
    elif shape.tag == "cuboid":
        corners = ("tl1", "bl1", "tr1", "br1", "tl2", "bl2", "tr2", "br2")
        yield shape_centre((number(f"x{corner}"), number(f"y{corner}")) for corner in corners)


def _points(shape: Element) -> list[Point]:
    pairs = [pair.split(",") for pair in shape.attrib["points"].split(";")]
    return [(float(x), float(y)) for x, y in pairs]
