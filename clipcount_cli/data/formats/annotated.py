"""What every annotation format comes down to: an image, and the centres of its objects.

[annotated.py] <- coco.py, yolo.py, voc.py, labelme.py, via.py, via3.py, cvat.py, label_studio.py,
createml.py, dotdotgoose.py, imagej.py, tabular.py, counted.py
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from clipcount_cli.data.checks import Findings

Point = tuple[float, float]
_FARTHEST_PX = 1e9  # beyond it no image reaches; float32 would not hold the whole of it

EMPTY_BOXES = "boxes without width or height"
INVERTED_BOXES = "boxes that end before they begin: are they x, y, width, height?"
TWO_SIZES = "images whose size is stated differently in two places"
UNNAMED = ""  # the prompt of objects whose class the file does not give


@dataclass
class AnnotatedImage:
    """The content of one annotation file about one image.

    Without any prompt in `points`, the image was annotated and holds no object of any class.
    """

    name: str  # as the file writes it
    source: Path  # the annotation file
    stem: str = ""  # what the image is called, without suffix, if `name` is not to be found
    points: dict[str, list[Point]] = field(default_factory=dict)  # prompt -> centres (x, y)
    size: tuple[int, int] | None = None  # (width, height), if the file states them
    split: str | None = None  # train, val or test, if the file states it
    page: int | None = None  # of a stack, from 1, if the file states it
    in_fractions: bool = False  # of width and height, instead of pixels
    counts: dict[str, int] = field(default_factory=dict)  # prompt -> count, without positions
    uncounted: set[str] = field(default_factory=set)  # prompts of what is or may be there

    def add(self, prompt: str, centre: Point) -> None:
        """Add one object."""
        self.points.setdefault(prompt.strip(), []).append(centre)


class EmptyBoxError(ValueError):
    """A box has no width or no height."""


class InvertedBoxError(ValueError):
    """The right or lower side of a box is left of, or above, its other one."""


def corners_centre(left: float, top: float, right: float, bottom: float) -> Point:
    """The centre of a box given by its sides; ValueError if they do not span one."""
    centre = box_centre(left, top, right, bottom)
    if float(right) < float(left) or float(bottom) < float(top):
        raise InvertedBoxError("ends before it begins")
    return centre


def box_centre(x1: float, y1: float, x2: float, y2: float) -> Point:
    """The centre of a box given by two opposite corners; ValueError if they do not span one."""
    corners = tuple(float(each) for each in (x1, y1, x2, y2))
    if not all(map(_is_near, corners)):
        raise ValueError("not four usable numbers")
    left, top, right, bottom = corners
    if left == right or top == bottom:
        raise EmptyBoxError("no width or no height")
    return ((left + right) / 2, (top + bottom) / 2)


def sized_box_centre(x: float, y: float, width: float, height: float) -> Point:
    """The centre of a box given by its upper left corner and its size."""
    if float(width) <= 0 or float(height) <= 0:
        raise EmptyBoxError("no width or no height")
    return box_centre(x, y, float(x) + float(width), float(y) + float(height))


def shape_centre(points: Iterable[Iterable[float]]) -> Point:
    """The centre of the bounding box of some points (x, y): a polygon's, a line's, one point's."""
    corners = [(float(x), float(y)) for x, y in points]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    if not corners or not all(map(_is_near, xs + ys)):
        raise ValueError("no points, or no usable numbers")
    return ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)


def _is_near(number: float) -> bool:
    return math.isfinite(number) and abs(number) < _FARTHEST_PX


def stated_size(width: object, height: object) -> tuple[int, int] | None:
    """(width, height) if a file states both; some tools write 0, or nothing."""
    try:
        size = (round(float(width)), round(float(height)))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


@contextmanager
def noting_faults(findings: Findings, source: Path, place: str) -> Iterator[None]:
    """Note a shape that cannot be read instead of raising; place: which one of the file."""
    try:
        yield
    except EmptyBoxError:
        findings.add(EMPTY_BOXES, f"{source.name}: {place}")
    except InvertedBoxError:
        findings.add(INVERTED_BOXES, f"{source.name}: {place}")
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError):
        findings.add("objects whose position cannot be read", f"{source.name}: {place}")
