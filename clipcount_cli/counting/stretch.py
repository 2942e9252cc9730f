"""Map samples of more than 8 bits to 0..255, whatever part of their range a microscope used.

The 0.1 to 99.9 percentile becomes 0..255. A scale bar, a collar or missing data would take up that
range alone, so a level that stands far apart from the image is set aside first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipcount_cli.counting.notices import Notice

Samples = NDArray[Any]  # (H, W) or (H, W, C), integers or floats
Mask = NDArray[np.bool_]

_PERCENTILES = (0.1, 99.9)
_MIN_SHARE = 0.001  # a rarer level lies beyond the percentiles
_MAX_MARK_SHARE = 0.03  # a scale bar with its text
_COLLAR_SHARE = 0.8  # of one edge of the image
_MIN_CORRELATION = 0.3  # of neighbouring samples: below it there is noise, not an image
_MISSING = (-9999.0, -99999.0, -32768.0, -2147483648.0)  # common values for "no data"
_HUGE = 1e30  # floats beyond it are no measurements
_MAX_LEVELS = 1 << 16
_MAX_SAMPLED = 1 << 22  # of samples with more levels than that
_BLOCK = 1 << 20  # samples converted at a time, to bound the memory of float64
_FEW_LEVELS = 24  # of 256


class Stretched(NamedTuple):
    """Samples brought to 8 bits, and what is worth saying about it."""

    pixels: NDArray[np.uint8]  # shaped as the samples
    notices: tuple[Notice, ...]


def stretch(values: Samples, hidden: Mask | None = None) -> Stretched:
    """Map the 0.1 to 99.9 percentile of `values` to 0..255.

    values: (H, W) or (H, W, C), all channels alike; hidden: (H, W), True where samples do not
    count (transparent, no data). If the percentiles are equal (a few bright cells on a flat
    background), minimum and maximum are used. What is not a number becomes 0.
    """
    levels = _levels(values, hidden)
    if levels is None:
        return Stretched(np.zeros(values.shape, np.uint8), ())
    levels, notices = _without_marks(levels, values)
    low, high = levels.percentile(_PERCENTILES[0]), levels.percentile(_PERCENTILES[1])
    if low == high:
        low, high = float(levels.values[0]), float(levels.values[-1])
    pixels = _to_bytes(values, low, high)
    return Stretched(pixels, (*notices, *_low_contrast(pixels, hidden)))


class _Levels(NamedTuple):
    """Which values occur, and how often."""

    values: NDArray[np.float64]  # ascending
    counts: NDArray[np.int64]

    def percentile(self, percent: float) -> float:
        """As numpy.percentile of all samples: linear between neighbours."""
        ends = np.cumsum(self.counts)
        rank = percent / 100 * (int(ends[-1]) - 1)
        below, above = self.values[np.searchsorted(ends, [int(rank), np.ceil(rank)], side="right")]
        part, step = rank - int(rank), above - below
        return float(below + step * part if part < 0.5 else above - step * (1 - part))

    def only(self, chosen: Mask) -> _Levels:
        return _Levels(self.values[chosen], self.counts[chosen])


def _levels(values: Samples, hidden: Mask | None) -> _Levels | None:
    """Count the samples of each value; None if there are none. Large float images are sampled."""
    counted = values if hidden is None or not hidden.any() else values[~hidden]
    if counted.dtype.kind == "f":
        finite = np.isfinite(counted)
        counted = counted if finite.all() else counted[finite]
    if counted.size == 0:
        return None
    low, high = counted.min(), counted.max()
    if values.dtype.kind != "f" and int(high) - int(low) < _MAX_LEVELS:
        counts = np.zeros(int(high) - int(low) + 1, np.int64)
        for block in _blocks(counted):
            counts += np.bincount(_offset(block, low).ravel(), minlength=len(counts))
        present = np.flatnonzero(counts)
        return _Levels(np.asarray(present, np.float64) + float(low), counts[present])
    if counted.size > _MAX_SAMPLED:
        chosen = np.random.default_rng(0).integers(0, counted.size, _MAX_SAMPLED)
        counted = np.append(counted.ravel()[chosen], [low, high])
    found, counts = np.unique(counted, return_counts=True)
    return _Levels(np.asarray(found, np.float64), counts)


def _offset(block: Samples, low: Any) -> NDArray[np.intp]:
    """Non-negative numbers of integer levels, counted from `low`, without overflow."""
    wide = block if block.dtype == np.uint64 else block.astype(np.int64)
    return (wide - wide.dtype.type(low)).astype(np.intp)


def _blocks(values: Samples) -> Iterator[Samples]:
    rows = max(1, _BLOCK * len(values) // values.size)
    return (values[top : top + rows] for top in range(0, len(values), rows))


def _without_marks(levels: _Levels, values: Samples) -> tuple[_Levels, list[Notice]]:
    """Set aside the lowest or highest level where it stands apart, until none does."""
    notices: list[Notice] = []
    total = int(levels.counts.sum())
    while len(levels.values) > 2:
        core = levels.only(_inner(len(levels.values)))
        low, high = core.percentile(_PERCENTILES[0]), core.percentile(_PERCENTILES[1])
        aside = np.zeros(len(levels.values), bool)
        for end in (0, -1):
            level, share = float(levels.values[end]), float(levels.counts[end] / total)
            distance = low - level if end == 0 else level - high
            if share >= _MIN_SHARE and distance > high - low > 0:
                aside[end] = _is_mark(level, share, values, (low, high))
        if not aside.any():
            break
        notices += map(_mark_notice, levels.values[aside], levels.counts[aside] / total)
        levels = levels.only(~aside)
    return levels, notices


def _inner(number: int) -> Mask:
    inner = np.ones(number, bool)
    inner[[0, -1]] = False
    return inner


def _is_mark(level: float, share: float, values: Samples, core: tuple[float, float]) -> bool:
    """Whether a level far from all others is a mark, a collar or a hole rather than objects."""
    if level in _MISSING or abs(level) > _HUGE:
        return True
    edges = (values[0], values[-1], values[:, 0], values[:, -1])
    if any(np.mean(edge == level) >= _COLLAR_SHARE for edge in edges):
        return True
    return share <= _MAX_MARK_SHARE and _correlation(values, *core) >= _MIN_CORRELATION


def _correlation(values: Samples, low: float, high: float) -> float:
    """How far horizontal neighbours among the samples in low..high agree: 0 noise, 1 smooth."""
    rows = values[:: max(1, len(values) // 256)].astype(np.float64)
    inside = (rows >= low) & (rows <= high)
    both = inside[:, 1:] & inside[:, :-1]
    variance = rows[inside].var()
    if variance == 0 or not both.any():
        return 0.0
    return float(1 - np.mean(np.diff(rows, axis=1)[both] ** 2) / (2 * variance))


def _mark_notice(level: float, share: float) -> Notice:
    brief = f"{share:.1%} of samples at {level:g} set aside"
    return Notice(brief, f"{brief} when the contrast was stretched, as a mark or missing data")


def _to_bytes(values: Samples, low: float, high: float) -> NDArray[np.uint8]:
    stretched = np.empty(values.shape, np.uint8)
    short = values.dtype.kind in "ui" and values.dtype.itemsize <= 2  # one look-up per sample
    first = np.iinfo(values.dtype).min if short else 0
    table = _scaled(np.arange(first, first + _MAX_LEVELS, dtype=np.float64), low, high)
    for block, target in zip(_blocks(values), _blocks(stretched), strict=True):
        target[...] = table[_offset(block, first)] if short else _scaled(block, low, high)
    return stretched


def _scaled(values: Samples, low: float, high: float) -> NDArray[np.uint8]:
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    np.nan_to_num(scaled, copy=False, nan=0.0)
    return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)


def _low_contrast(pixels: NDArray[np.uint8], hidden: Mask | None) -> Iterator[Notice]:
    """Say so if 99 % of the pixels lie within a few adjacent levels."""
    shown = pixels if hidden is None else pixels[~hidden]
    if shown.size == 0:
        return
    counts = sum(np.bincount(block.ravel(), minlength=256) for block in _blocks(shown))
    ends = np.cumsum(counts)
    within = ends - np.concatenate([np.zeros(_FEW_LEVELS, ends.dtype), ends[:-_FEW_LEVELS]])
    if within.max() >= 0.99 * shown.size:
        brief = f"99% of pixels share {_FEW_LEVELS} of 256 levels"
        yield Notice(
            brief, f"{brief} after stretching: crop bright marks and borders, or save as 8 bits"
        )
