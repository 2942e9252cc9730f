"""Map samples of more than 8 bits to 0..255, whichever part of their range is used.

levels.py, marks.py -> [stretch.py] -> frames.py. The 0.1 to 99.9 percentile becomes 0..255. A scale
bar, a collar or missing data would take up that range alone, so they are set aside first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipcount_cli.counting.levels import MAX_LEVELS, Mask, Samples, blocks, offset
from clipcount_cli.counting.marks import without_marks
from clipcount_cli.counting.notices import Notice

_PERCENTILES = (0.1, 99.9)
_FEW_LEVELS = 24  # of 256
_NOTHING = Notice(
    "no samples", "the image has no samples: all are missing, or not a number", doubtful=True
)


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
    levels, aside, notices = without_marks(values, hidden)
    if levels is None:
        return Stretched(np.zeros(values.shape, np.uint8), (*notices, _NOTHING))
    low, high = levels.percentile(_PERCENTILES[0]), levels.percentile(_PERCENTILES[1])
    if low == high:
        low, high = float(levels.values[0]), float(levels.values[-1])
    pixels = _to_bytes(values, low, high)
    return Stretched(pixels, (*notices, *_low_contrast(pixels, aside)))


def _to_bytes(values: Samples, low: float, high: float) -> NDArray[np.uint8]:
    stretched = np.empty(values.shape, np.uint8)
    short = values.dtype.kind in "ui" and values.dtype.itemsize <= 2  # one look-up per sample
    first = np.iinfo(values.dtype).min if short else 0
    table = _scaled(np.arange(first, first + MAX_LEVELS, dtype=np.float64), low, high)
    for block, target in zip(blocks(values), blocks(stretched), strict=True):
        target[...] = table[offset(block, first)] if short else _scaled(block, low, high)
    return stretched


def _scaled(values: Samples, low: float, high: float) -> NDArray[np.uint8]:
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    np.nan_to_num(scaled, copy=False, nan=0.0)
    return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)


def _low_contrast(pixels: NDArray[np.uint8], hidden: Mask | None) -> Iterator[Notice]:
    """The notice for an image with 99 % of its pixels within a few adjacent levels."""
    shown = pixels if hidden is None else pixels[~hidden]
    if shown.size == 0:
        return
    counts = sum(np.bincount(block.ravel(), minlength=256) for block in blocks(shown))
    ends = np.cumsum(counts)
    within = ends - np.concatenate([np.zeros(_FEW_LEVELS, ends.dtype), ends[:-_FEW_LEVELS]])
    if within.max() >= 0.99 * shown.size:
        brief = f"99% of pixels share {_FEW_LEVELS} of 256 levels"
        yield Notice(
            brief,
            f"{brief} after stretching: crop bright marks and borders, or save as 8 bits",
            doubtful=True,
        )
