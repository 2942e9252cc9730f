"""Plain CSV files of points or boxes, with one object per row.

annotated.py <- [tabular.py]. `points.csv` (image,prompt,x,y), the CSV exports of Roboflow,
makesense and DeepForest, and whatever a script writes under the usual column names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.formats.annotated import (
    EMPTY_BOXES,
    INVERTED_BOXES,
    TWO_SIZES,
    UNNAMED,
    AnnotatedImage,
    EmptyBoxError,
    InvertedBoxError,
    Point,
    corners_centre,
    shape_centre,
    sized_box_centre,
    stated_size,
)
from clipcount_cli.data.tables import NumberReader, Table
from clipcount_cli.errors import DataError

TITLE = "CSV"
_SIMILAR = 0.75  # share of common characters from which a column is taken for a misspelt one
_IMAGE = ("image", "filename", "file_name", "image_name", "image_path", "imagepath", "path", "file")
_PROMPT = (
    *("prompt", "class", "label", "label_name", "class_name"),
    *("category", "classification", "name"),
)
_POINT = (
    *(("x", "y"), ("x_center", "y_center"), ("center_x", "center_y"), ("cx", "cy")),
    *(("centroid_x", "centroid_y"), ("centroid x px", "centroid y px")),
)
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
_SIZED = (
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
)
_IMAGE_SIZE = (("image_width", "image_height"), ("img_width", "img_height"), ("width", "height"))

# CSV files that their tool writes without a header: what each cell looks like -> what it is
_HEADERLESS = (
    (("image", "n", "n", "n", "n", "text"), ("image", *_CORNERS[0], "class")),  # RetinaNet
    (
        ("text", "n", "n", "n", "n", "image", "n", "n"),
        ("class", *_SIZED[0], "image", *_IMAGE_SIZE[0]),
    ),
    (
        ("text", "n", "n", "image", "n", "n"),
        ("class", "x", "y", "image", *_IMAGE_SIZE[0]),
    ),  # makesense
)
_LOOKS = {
    "n": re.compile(r"-?\d*\.?\d*"),
    "image": re.compile(r".+\.[A-Za-z0-9]{3,4}"),
    "text": re.compile(r".*"),
}


@dataclass(frozen=True)
class _Columns:
    """The columns of a table, by their meaning."""

    image: str
    prompt: str | None
    position: tuple[str, ...]
    size: tuple[str, str] | None
    centre: Callable[..., Point]


def recognises_table(table: Table) -> bool:
    """Whether a table has columns of images and of points or boxes, or is known to need none."""
    return _columns(_headed(table)) is not None


def read_table(table: Table, findings: Findings) -> list[AnnotatedImage]:
    """The images of a table in its order. Empty positions: the image has none of this prompt."""
    table = _headed(table)
    columns = _columns(table)
    if columns is None:
        raise ValueError(f"{table.path} has no columns of points or boxes")
    table.require(filter(None, (columns.image, columns.prompt, *columns.position)))
    _refuse_misspelt(table, columns)
    number = table.numbers(columns.position)
    images: dict[str, AnnotatedImage] = {}
    empty: dict[tuple[str, str], int] = {}  # the line of a row without a position
    for line, cells in table.rows:
        name = cells[columns.image]
        prompt = cells[columns.prompt] if columns.prompt else UNNAMED
        position = [cells[column] for column in columns.position]
        if not name or (columns.prompt and not prompt and any(position)):
            findings.add(f"rows of {table.path.name} without image or prompt", f"line {line}")
            continue
        size = _size(columns, cells)
        image = images.setdefault(name, AnnotatedImage(name, table.path, size=size))
        if size != image.size:
            findings.add(TWO_SIZES, f"{name} ({table.path.name}: line {line})")
        if any(position):
            _add(image, prompt, position, number, columns, line, findings)
        elif prompt:
            image.points.setdefault(prompt, [])
            empty[name, prompt] = line
    for (name, prompt), line in empty.items():
        if images[name].points[prompt]:
            kind = (
                f"rows of {table.path.name} without x, y although the prompt has points elsewhere"
            )
            findings.add(kind, f"line {line} ({name}, {prompt})")
    return list(images.values())


def _refuse_misspelt(table: Table, columns: _Columns) -> None:
    """Raise DataError for a column `promt`: its objects would have no name."""
    if columns.prompt is not None:
        return
    for name in table.columns:
        if near := difflib.get_close_matches(name, _PROMPT, 1, _SIMILAR):
            raise DataError(
                f"{table.path} has no column prompt, but a column {name}",
                hint=f"if it names the objects, call it {near[0]}; otherwise give it a name "
                "that is less like one",
            )


def _add(
    image: AnnotatedImage,
    prompt: str,
    position: Sequence[str],
    number: NumberReader,
    columns: _Columns,
    line: int,
    findings: Findings,
) -> None:
    try:
        image.add(prompt, columns.centre(*(number(cell) for cell in position)))
    except EmptyBoxError:
        findings.add(EMPTY_BOXES, f"{image.source.name}: line {line}")
    except InvertedBoxError:
        findings.add(INVERTED_BOXES, f"{image.source.name}: line {line}")
    except ValueError:
        kind = f"rows of {image.source.name} whose {', '.join(columns.position)} are not numbers"
        findings.add(kind, f"line {line} ({', '.join(map(repr, position))})")


def _headed(table: Table) -> Table:
    """The table, under the columns it is known to have if its file has no header."""
    cells = table.first_cells
    for looks, columns in _HEADERLESS:
        if len(cells) == len(looks) and all(
            _LOOKS[look].fullmatch(cell) for look, cell in zip(looks, cells, strict=True)
        ):
            return table.with_header(columns)
    return table


def _columns(table: Table) -> _Columns | None:
    present = set(table.columns)
    image = _first(present, _IMAGE)
    prompt = _first(present, _PROMPT)
    size = next((pair for pair in _IMAGE_SIZE if present.issuperset(pair)), None)
    if image is None:
        return None
    if (corners := _first_group(present, _CORNERS)) is not None:
        return _Columns(image, prompt, corners, size, corners_centre)
    sized = _first_group(present, _SIZED)
    if sized is not None and not (size == sized[2:] and _are_image_sizes(table, image, sized)):
        size = None if size == sized[2:] else size
        return _Columns(image, prompt, sized, size, sized_box_centre)
    if (point := _first_group(present, _POINT)) is not None:
        return _Columns(image, prompt, point, size, lambda x, y: shape_centre([(x, y)]))
    return None


def _are_image_sizes(table: Table, image: str, columns: tuple[str, ...]) -> bool:
    """Whether `width` and `height` beside `x` and `y` are the image's, not a box's.

    Then all rows of an image agree on them, and no point lies beyond them.
    """
    x, y, width, height = columns
    number = table.numbers(columns)
    sizes: dict[str, tuple[str, str]] = {}
    for _, cells in table.rows:
        size = (cells[width], cells[height])
        if sizes.setdefault(cells[image], size) != size:
            return False
        try:
            if number(cells[x]) > number(cells[width]) or number(cells[y]) > number(cells[height]):
                return False
        except ValueError:
            continue
    return True


def _first(present: set[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in present), None)


def _first_group(present: set[str], groups: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    return next((group for group in groups if present.issuperset(group)), None)


def _size(columns: _Columns, cells: Mapping[str, str]) -> tuple[int, int] | None:
    return stated_size(*(cells[name] for name in columns.size)) if columns.size else None
