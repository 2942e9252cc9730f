"""ImageJ and Fiji: the results table of the multi-point tool, saved as CSV.

annotated.py <- [imagej.py]. One table per image, named like it, unless "Display label" was ticked:
then the column Label names the image of each point.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.formats.annotated import (
    UNNAMED,
    AnnotatedImage,
    noting_faults,
    shape_centre,
)
from clipcount_cli.data.tables import Table

TITLE = "ImageJ points"
# columns of a results table beside X and Y, whichever "Set Measurements" has ticked
_MEASURED = {"", "area", "mean", "min", "max", "ch", "slice", "frame", "counter", "count"}
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_POSITIONS = ("slice", "frame")  # from 1; 0 if the image is no stack
# what users add to the name of an image when they save its table: "Results of a", "a_points"
_ADDED = re.compile(
    r"^results?(?: (?:of|from|for))?(?:[ _-]+|$)|[ _-]+(?:results?|points?|counts?)$", re.IGNORECASE
)


def recognises_table(table: Table) -> bool:
    """Whether a table has X and Y, and columns as ImageJ calls them; or two numbers per line."""
    columns = set(_headed(table).columns)
    return (
        {"x", "y"} <= columns
        and (columns == {"x", "y"} or bool(columns & _MEASURED))
        and columns <= _known(columns)
    )


def _headed(table: Table) -> Table:
    """The table, with a header if it has none: XY Coordinates, saved without column headers."""
    bare = table.lines and all(
        len(cells) == 2 and all(map(_NUMBER.fullmatch, cells)) for _, cells in table.lines
    )
    return table.with_header(("x", "y")) if bare else table


def _known(columns: set[str]) -> set[str]:
    """Columns of a results table; those of a table of another program are not among them."""
    others = {"image", "filename", "file", "prompt", "class", "width", "height"}
    return columns - others


def read_table(table: Table, findings: Findings) -> list[AnnotatedImage]:
    """The image, or the images, of a results table; ImageJ knows no classes."""
    table = _headed(table)
    number = table.numbers(("x", "y"))
    stem = _ADDED.sub("", table.path.stem)
    column = _page_column(table, findings)
    images: dict[tuple[str, int | None], AnnotatedImage] = {}
    for line, cells in table.rows:
        # the label is `image.tif`, or `image.tif:slice label` in a stack
        name = cells.get("label", "").partition(":")[0]
        page = None if column is None else max(1, _position(cells, column))
        image = images.setdefault((name, page), AnnotatedImage(name, table.path, stem, page=page))
        with noting_faults(findings, table.path, f"line {line}"):
            image.add(UNNAMED, shape_centre([(number(cells["x"]), number(cells["y"]))]))
    counters = dict.fromkeys(cells["counter"] for _, cells in table.rows if cells.get("counter"))
    if len(counters) > 1:
        findings.notices.append(
            f"points of the counters {', '.join(counters)} of {table.path.name} count as one class"
        )
    return [*images.values()] or [AnnotatedImage("", table.path, stem)]


def _page_column(table: Table, findings: Findings) -> str | None:
    """The column that numbers the pages of a stack; None if all points lie on its first page.

    With channels, or both slices and frames, the pages of a file cannot be known from the table.
    """
    further = {
        column: [line for line, cells in table.rows if _position(cells, column) > 1]
        for column in _POSITIONS
    }
    used = [column for column, lines in further.items() if lines]
    if len(used) > 1 or (used and "ch" in table.columns):
        kind = "points on further slices of a hyperstack, whose pages its table does not state"
        for line in sorted({line for lines in further.values() for line in lines}):
            findings.add(kind, f"{table.path.name}: line {line}")
        return None
    return used[0] if used else None


def _position(cells: Mapping[str, str], column: str) -> int:
    text = cells.get(column, "")
    return int(text) if text.isdecimal() else 0
