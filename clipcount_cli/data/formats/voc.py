"""Pascal VOC: one XML per image. Also LabelMe 3.0, whose XML has the same root.

annotated.py, safe_xml.py <- [voc.py]. Written by LabelImg, CVAT, Roboflow and others.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.formats.annotated import (
    AnnotatedImage,
    Point,
    corners_centre,
    noting_faults,
    shape_centre,
    stated_size,
)
from clipcount_cli.data.formats.safe_xml import text_of

TITLE = "Pascal VOC"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def recognises(root: Element) -> bool:
    """Whether an XML file annotates one image."""
    return root.tag == "annotation" and root.find("filename") is not None


def read(root: Element, path: Path, findings: Findings) -> list[AnnotatedImage]:
    """The one image of a VOC file; renamed images are found by the file's own name."""
    name = text_of(root, "filename") or path.stem
    size = stated_size(text_of(root, "size/width"), text_of(root, "size/height"))
    image = AnnotatedImage(name, path, path.stem, size=size)
    for number, each in enumerate(root.findall("object"), start=1):
        if text_of(each, "deleted") == "1":  # LabelMe 3.0 keeps what was deleted
            continue
        with noting_faults(findings, path, f"object {number}"):
            image.add(text_of(each, "name"), _centre(each))
    return [image]


def _centre(element: Element) -> Point:
    if (box := element.find("bndbox")) is not None:
        x1, y1, x2, y2 = (float(text_of(box, corner)) for corner in _CORNERS)
        return corners_centre(x1, y1, x2, y2)
    marks = element.findall("polygon/pt")
    return shape_centre((float(text_of(pt, "x")), float(text_of(pt, "y"))) for pt in marks)
