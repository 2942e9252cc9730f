"""Predicted against true counts, as a scatter plot whose axes fit the data.

metrics.py -> [plot.py] -> report.py
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipcount_cli.evaluation.metrics import EvalRow, worst
from clipcount_cli.files import as_text, atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox, BboxBase

PLOT_SUFFIXES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")
_NAMED = 5  # of the worst images
_NAME_CHARACTERS = 28
_LINEAR_UP_TO = 20.0  # largest over smallest count, beyond which axes are logarithmic
_MARGIN = 0.06  # of the axes, around the data
_LEAST_MARGIN = 0.5  # objects
_MAX_TICKS = 9
_LABEL_PADDING_PX = 2
# Where a label may stand, seen from its point, near ones first: right and up are positive.
_DIRECTIONS = ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
_DISTANCES_PT = (5, 14, 26, 40)
_HORIZONTAL = {1: "left", 0: "center", -1: "right"}
_VERTICAL = {1: "bottom", 0: "center", -1: "top"}


def write_scatter(rows: Sequence[EvalRow], path: Path, title: str) -> None:
    """Plot the rows that could be counted, and name those with the largest errors."""
    from matplotlib.figure import Figure  # 0.3 s: paid only if a plot is drawn

    figure = Figure(figsize=(6, 6), layout="constrained")
    draw_scatter(figure, rows, title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def draw_scatter(figure: Figure, rows: Sequence[EvalRow], title: str) -> Axes:
    """Fill a figure with the plot that `write_scatter` saves."""
    done = [(row, row.count) for row in rows if row.count is not None]
    truths, counts = [float(row.truth) for row, _ in done], [count for _, count in done]
    axes = figure.add_subplot()
    _fit_axes(axes, [*truths, *counts] or [0.0, 1.0])
    limits = axes.get_xlim()
    axes.plot(limits, limits, color="0.6", linewidth=1, zorder=1)
    axes.scatter(truths, counts, s=16, alpha=0.6, linewidths=0, clip_on=False, zorder=2)
    axes.set(xlabel="true count", ylabel="predicted count")
    axes.set_title(_literal(title), fontsize=9, wrap=True)
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
    _name_worst(figure, axes, [row for row, _ in done])
    return axes


def _fit_axes(axes: Axes, values: Sequence[float]) -> None:
    """Both axes alike, from the smallest to the largest value; logarithmic if these lie far apart.

    Below 1 a logarithmic axis is linear, so that zero has a place.
    """
    low, high = min(values), max(values)
    if high <= _LINEAR_UP_TO * max(low, 1.0):
        margin = max(_MARGIN * (high - low), _LEAST_MARGIN)
        limits = (low - margin, high + margin)
    else:
        factor = (high / max(low, 1.0)) ** _MARGIN
        limits = (low / factor if low > 1 else min(low, 0.0) - 0.1, high * factor)
        axes.set_xscale("symlog", linthresh=1.0, linscale=0.4)
        axes.set_yscale("symlog", linthresh=1.0, linscale=0.4)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(_round_numbers(*limits))
            axis.set_ticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(xlim=limits, ylim=limits)


def _round_numbers(low: float, high: float) -> list[float]:
    """0, 1, 2, 5, 10, ... between two limits; fewer per decade if there are many decades."""
    for steps in ((1, 2, 5), (1, 3), (1,)):
        numbers = [0.0, *(step * 10.0**power for power in range(9) for step in steps)]
        shown = [number for number in numbers if low <= number <= high]
        if len(shown) <= _MAX_TICKS:
            break
    return shown


def _name_worst(figure: Figure, axes: Axes, rows: Sequence[EvalRow]) -> None:
    """Label the worst images, each where it covers neither another label nor the frame."""
    figure.draw_without_rendering()  # places the axes, so that extents are known
    points = axes.transData.transform([(row.truth, row.count or 0.0) for row in rows] or [(0, 0)])
    taken: list[Bbox] = []
    rows_of = Counter(row.image for row in rows)
    for row in worst(rows, _NAMED):
        name = _shortened(as_text(row.image))
        if rows_of[row.image] > 1:
            name = f"{name}: {_shortened(as_text(row.prompt))}"
        label = axes.annotate(
            _literal(name),
            (row.truth, row.count or 0.0),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=7,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.5, "shrinkA": 0},
        )
        free = [
            (bool(extent.count_contains(points)), place, extent)
            for place in itertools.product(_DISTANCES_PT, _DIRECTIONS)
            if _is_free(extent := _moved(label, *place), axes.bbox, taken)
        ]
        if not free:
            label.remove()
            continue
        _, place, extent = min(free, key=lambda each: each[0])  # a point is covered if need be
        _moved(label, *place)
        taken.append(extent)


def _moved(label: Annotation, distance_pt: int, direction: tuple[int, int]) -> Bbox:
    """Move a label to this place beside its point; the extent of its words, in pixels."""
    from matplotlib.text import Text

    right, up = direction
    label.xyann = (right * distance_pt, up * distance_pt)
    label.set(ha=_HORIZONTAL[right], va=_VERTICAL[up])
    label.get_window_extent()  # moves the text; what it returns includes the line
    return Text.get_window_extent(label).padded(_LABEL_PADDING_PX)


def _is_free(extent: Bbox, frame: BboxBase, taken: Sequence[Bbox]) -> bool:
    inside = frame.contains(*extent.min) and frame.contains(*extent.max)
    return inside and not any(extent.overlaps(other) for other in taken)


def _shortened(name: str) -> str:
    """The end of a long name, which distinguishes images."""
    return name if len(name) <= _NAME_CHARACTERS else "…" + name[1 - _NAME_CHARACTERS :]


def _literal(text: str) -> str:
    """Text as matplotlib draws it: a dollar sign begins no formula."""
    return text.replace("$", r"\$")
