"""Find what is no part of the scene in deep images: scale bars, labels, collars, missing data.

levels.py -> [marks.py] -> stretch.py. A mark has one value, far from all others, at an end of their
range. Its edge may be soft, so samples near it are left out as well. Bright objects differ: they
are many, or stand on noise, or their brightness falls off gradually.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipcount_cli.counting.levels import Levels, Mask, Samples
from clipcount_cli.counting.notices import Notice

_MIN_SHARE = 0.001  # a rarer level lies beyond the percentiles
_CELLS = 64  # per side of a coarse view, in which the letters of a text touch
_MAX_PARTS = 4  # connected there: the corners around a rotated image, a bar and a time stamp
_MIN_PARTS_SHARE = 0.9  # of the samples, in that many parts
_MAX_PAIRS_SHARE = 0.1  # of neighbours among lone, defective pixels
_TOLERANCE = 0.01  # of the distance to the rest, within which levels are one mark
_EDGE_PX = 3  # of a mark drawn with soft edges, or interpolated: at least so much,
_EDGE_SHARE = 1 / 200  # or of the shorter side
_COLLAR_SHARE = 0.8  # of one edge of the image
_MIN_CORRELATION = 0.3  # of neighbouring samples: below it there is noise, not an image
_MISSING = (-9999.0, -99999.0, -32768.0, -2147483648.0)  # common values for "no data"
_HUGE = 1e30  # floats beyond it are no measurements
_CORE = (5.0, 95.0)  # percentiles between which the rest of the image lies
_MAX_SOFT_SHARE = 1 / 3  # of what is far from that: more is the glow of bright objects


class Scene(NamedTuple):
    """An image without its marks."""

    levels: Levels | None  # None: nothing is left
    hidden: Mask | None  # (H, W): what was hidden before, and the marks with their edges
    notices: tuple[Notice, ...]  # one per mark


def without_marks(samples: Samples, hidden: Mask | None) -> Scene:
    """Set aside what lies far below or above the rest of an image, if it is a mark; repeatedly."""
    notices: list[Notice] = []
    levels = Levels.of(samples, hidden)
    total = levels.total if levels else 0
    while levels is not None and len(levels.values) > 2:
        found = [_find_mark(samples, hidden, levels, end, total) for end in (0, -1)]
        marks = [mark for mark in found if mark is not None]
        if not marks:
            break
        for mark, notice in marks:
            notices.append(notice)
            hidden = mark if hidden is None else mark | hidden
        levels = Levels.of(samples, hidden)
    return Scene(levels, hidden, tuple(notices))


def _find_mark(
    samples: Samples, hidden: Mask | None, levels: Levels, end: int, total: int
) -> tuple[Mask, Notice] | None:
    """The mark at one end of the levels (0 or -1) with its edges, (H, W), if there is one."""
    level, others = float(levels.values[end]), levels.inner()
    low, high = (others.percentile(each) for each in _CORE)
    distance = max(low - level, level - high)
    alike = np.abs(levels.values - level) <= _TOLERANCE * distance
    share = float(levels.counts[alike].sum() / total)
    if share < _MIN_SHARE or not distance > high - low > 0:
        return None
    values = levels.values[alike]
    same = samples <= values[-1] if end == 0 else samples >= values[0]
    mark = _with_edges(same)
    if not (level in _MISSING or abs(level) > _HUGE or _is_collar(same)):
        far = samples < 2 * low - high if end == 0 else samples > 2 * high - low
        if not _is_sharp(far, mark) or not _is_compact(_any_channel(far)):
            return None
        if _correlation(samples, low, high) < _MIN_CORRELATION:
            return None
        mark = _with_edges(far)
    if mark.all() or (hidden is not None and (mark | hidden).all()):
        return None
    brief = f"{share:.1%} of samples at {level:g} set aside"
    full = f"{brief} when the contrast was stretched, as a mark or missing data"
    return mark, Notice(brief, full)


def _any_channel(same: Mask) -> Mask:
    return same if same.ndim == 2 else np.any(same, axis=2)


def _with_edges(same: Mask) -> Mask:
    """(H, W) or (H, W, C) -> (H, W): these samples and those near them."""
    from scipy.ndimage import maximum_filter  # 0.1 s: paid only if there may be a mark

    edge_px = max(_EDGE_PX, round(_EDGE_SHARE * min(same.shape[:2])))
    grown: Mask = maximum_filter(_any_channel(same), 2 * edge_px + 1)
    return grown


def _is_collar(same: Mask) -> bool:
    edges = (same[0], same[-1], same[:, 0], same[:, -1])
    return any(np.mean(edge) >= _COLLAR_SHARE for edge in edges)


def _is_sharp(far: Mask, mark: Mask) -> bool:
    """Whether little of what is far from the rest lies outside a mark and its edges, (H, W)."""
    whole = np.count_nonzero(_any_channel(far))
    outside = np.count_nonzero(_any_channel(far) & ~mark)
    return bool(outside <= _MAX_SOFT_SHARE * whole)


def _is_compact(same: Mask) -> bool:
    """Whether (H, W) samples lie in few places, as a bar and its text do, or are lone pixels."""
    from scipy.ndimage import label

    pairs = np.count_nonzero(same[:, 1:] & same[:, :-1]) + np.count_nonzero(same[1:] & same[:-1])
    if pairs < _MAX_PAIRS_SHARE * np.count_nonzero(same):
        return True
    starts = [np.unique(np.linspace(0, n, _CELLS, endpoint=False, dtype=int)) for n in same.shape]
    cells = np.add.reduceat(np.add.reduceat(same, starts[0], 0, np.int64), starts[1], 1)
    parts, _ = label(cells > 0, np.ones((3, 3)))
    sizes = np.sort(np.bincount(parts.ravel(), cells.ravel())[1:])
    return bool(sizes[-_MAX_PARTS:].sum() >= _MIN_PARTS_SHARE * sizes.sum())


def _correlation(values: Samples, low: float, high: float) -> float:
    """How far horizontal neighbours among the samples in low..high agree: 0 noise, 1 smooth."""
    rows = values[:: max(1, len(values) // 256)].astype(np.float64)
    inside = (rows >= low) & (rows <= high)
    both = inside[:, 1:] & inside[:, :-1]
    variance = rows[inside].var()
    if variance == 0 or not both.any():
        return 0.0
    return float(1 - np.mean(np.diff(rows, axis=1)[both] ** 2) / (2 * variance))
