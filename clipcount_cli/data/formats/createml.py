"""CreateML: one JSON of images, with boxes given by their centres. Written by Roboflow and others.

annotated.py <- [createml.py]. Source: "Building an object detector data source" of Apple.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.formats.annotated import (
    AnnotatedImage,
    noting_faults,
    sized_box_centre,
)

TITLE = "CreateML"
_IMAGE, _OBJECTS = ("image", "imagefilename"), ("annotations", "annotation")


def recognises(data: Any) -> bool:
    """Whether a JSON file is a list of images with annotations that have coordinates."""
    return isinstance(data, list) and bool(data) and all(map(_is_image, data))


def _is_image(each: Any) -> bool:
    if not isinstance(each, dict) or not isinstance(_either(each, _IMAGE), str):
        return False
    objects = _either(each, _OBJECTS)
    return isinstance(objects, list) and all(
        isinstance(one, dict) and "coordinates" in one for one in objects
    )


def read(data: Any, path: Path, findings: Findings) -> list[AnnotatedImage]:
    """The images of a CreateML file in its order."""
    images = []
    for each in data:
        image = AnnotatedImage(_either(each, _IMAGE), path)
        for number, one in enumerate(_either(each, _OBJECTS), start=1):
            with noting_faults(findings, path, f"{image.name}, annotation {number}"):
                box = one["coordinates"]
                x, y, width, height = (float(box[side]) for side in ("x", "y", "width", "height"))
                corner = (x - width / 2, y - height / 2)
                image.add(str(one.get("label") or ""), sized_box_centre(*corner, width, height))
        images.append(image)
    return images


def _either(each: dict[str, Any], names: tuple[str, str]) -> Any:
    """The value under the name in use today, else under the older one."""
    return each.get(names[0], each.get(names[1]))
