"""VGG Image Annotator 3: a project JSON, whose regions refer to views, and views to files.

annotated.py <- [via3.py]. Source: `_via_metadata.js` and `_via_attribute.js` of VIA 3.
"""

from __future__ import annotations

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
from clipcount_cli.data.formats.via import class_attribute

TITLE = "VIA 3"
_PARTS = ("file", "view", "metadata", "attribute")
_RECTANGLE = 2
_CENTRED = (1, 3, 4)  # point, circle, ellipse: their centre comes first
_CHOICES = (2, 3, 4)  # attribute types whose value is the id of an option, or several


def recognises(data: Any) -> bool:
    """Whether a JSON file is a project of VIA 3."""
    return isinstance(data, dict) and all(isinstance(data.get(part), dict) for part in _PARTS)


def read(data: Any, path: Path, findings: Findings) -> list[AnnotatedImage]:
    """The images of a project in its order."""
    files = {str(key): str(each.get("fname", "")) for key, each in data["file"].items()}
    images: dict[str, AnnotatedImage] = {}
    for key, view in data["view"].items():
        for file in view.get("fid_list", [])[:1]:
            images[str(key)] = AnnotatedImage(files.get(str(file), ""), path)
    names = {key: str(each.get("aname", "")) for key, each in data["attribute"].items()}
    used = {key: None for each in data["metadata"].values() for key in each.get("av") or {}}
    wanted = class_attribute(names[key] for key in used if key in names)
    attribute = next((key for key in used if names.get(key) == wanted), None)
    for key, each in data["metadata"].items():
        with noting_faults(findings, path, f"metadata {key}"):
            if each["xy"]:  # otherwise it describes the whole file
                kind = data["attribute"].get(attribute) or {}
                prompt = _class(kind, (each.get("av") or {}).get(attribute, UNNAMED))
                images[str(each["vid"])].add(prompt, _centre(*each["xy"]))
    return list(images.values())


def _class(attribute: dict[str, Any], value: object) -> str:
    """What a value of an attribute stands for: a text, or the options it names."""
    if attribute.get("type") not in _CHOICES:
        return str(value)
    options = attribute.get("options") or {}
    return " ".join(str(options.get(key, key)) for key in str(value).split(",")) or UNNAMED


def _centre(kind: float, *numbers: float) -> Point:
    if kind == _RECTANGLE:
        x, y, width, height = numbers
        return sized_box_centre(x, y, width, height)
    if kind in _CENTRED:
        return shape_centre([numbers[:2]])
    return shape_centre(zip(numbers[0::2], numbers[1::2], strict=True))
