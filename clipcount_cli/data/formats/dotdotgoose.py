"""DotDotGoose: points marked by hand, as its project file (`.pnt`) or as its exported counts.

annotated.py, counted.py <- [dotdotgoose.py]. A project lists every image of its folder, also those
that nobody has examined yet. Its exported points are plain CSV (tabular.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.formats.annotated import AnnotatedImage, noting_faults, shape_centre
from clipcount_cli.data.formats.counted import whole
from clipcount_cli.data.tables import Table
from clipcount_cli.errors import shortened

TITLE = "DotDotGoose"
SUFFIX = ".pnt"
_COUNTS_BEGIN = (("survey id", "image"), ("survey_id", "image"))
_CLASS_OF_POINT = ["class"]  # the exported points: survey id,image,class,x,y
_COUNTS_END = ("x", "y")  # the image's own coordinates, on a map; the user's fields follow


def recognises(data: Any) -> bool:
    """Whether a JSON file maps images to classes to points, beside the colours of the classes."""
    if not (isinstance(data, dict) and isinstance(data.get("colors"), dict)):
        return False
    images = data.get("points")
    return isinstance(images, dict) and all(
        isinstance(classes, dict) and all(isinstance(points, list) for points in classes.values())
        for classes in images.values()
    )


def read(data: Any, path: Path, findings: Findings) -> list[AnnotatedImage]:
    """The images of a project in its order.

    A class without points, which were marked and deleted, is one that the image does not show. An
    image without any class may not have been examined yet: nothing is taken as absent from it.
    """
    images, unmarked = [], []
    for name, classes in data["points"].items():
        image = AnnotatedImage(name, path)
        for label, points in classes.items():
            image.points.setdefault(label.strip(), [])
            for number, point in enumerate(points, start=1):
                with noting_faults(findings, path, f"{name}, {label} {number}"):
                    image.add(label, shape_centre([(point["x"], point["y"])]))
        if not classes:
            image.uncounted.update(label.strip() for label in data["colors"])
            unmarked.append(name)
        if classes or image.uncounted:
            images.append(image)
    if unmarked:
        findings.notices.append(
            f"images in which {path.name} marks nothing are not taken as empty ({len(unmarked)}), "
            "as they may not have been examined; to mark one as empty, add a point to it and "
            f"delete it again: {shortened(unmarked)}"
        )
    return images


def recognises_counts(table: Table) -> bool:
    """Whether a table has a row per image and a column per class, as DotDotGoose writes them."""
    return table.columns[:2] in _COUNTS_BEGIN and bool(_classes(table))


def read_counts(table: Table, findings: Findings) -> list[AnnotatedImage]:
    """The images of a table of counts in its order."""
    classes = _classes(table)
    number = table.numbers(column.lower() for column in classes)
    images, empty = [], []
    for line, cells in table.lines[1:]:
        if not (name := "".join(cells[1:2])):
            findings.add(f"rows of {table.path.name} without image", f"line {line}")
            continue
        image = AnnotatedImage(name, table.path)
        for label, cell in zip(classes, cells[2:], strict=False):
            try:
                image.counts[label] = whole(number(cell))
            except ValueError:
                kind = f"cells of {table.path.name} that are not a whole number of 0 or more"
                findings.add(kind, f"line {line}, {label} ({cell!r})")
        if not any(image.counts.values()):
            empty.append(name)
        images.append(image)
    if empty:
        findings.notices.append(
            f"images with 0 for every class in {table.path.name} are taken as empty "
            f"({len(empty)}), even if they were never examined: {shortened(empty)}"
        )
    return images


def _classes(table: Table) -> list[str]:
    """The classes counted, as the header writes them: the columns up to x and y."""
    for end in range(2, len(table.columns) - 1):
        if table.columns[end : end + 2] == _COUNTS_END:
            classes = table.first_cells[2:end]
            return [] if classes == _CLASS_OF_POINT else classes
    return []
