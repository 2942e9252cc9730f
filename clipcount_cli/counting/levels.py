"""Which values the samples of an image have, how often each, and percentiles of them.

[levels.py] <- marks.py <- stretch.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[Any]  # (H, W) or (H, W, C), integers or floats
Mask = NDArray[np.bool_]

MAX_LEVELS = 1 << 16
_MAX_SAMPLED = 1 << 22  # of samples with more levels than that
_BLOCK = 1 << 20  # samples converted at a time, to bound the memory of float64


class Levels(NamedTuple):
    """The values that occur, and the number of samples of each."""

    values: NDArray[np.float64]  # ascending
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, samples: Samples, hidden: Mask | None) -> Levels | None:
        """Count all samples that are not hidden; None if there are none. NaN and inf are left out.

        hidden: (H, W). Large float images are sampled.
        """
        counted = samples if hidden is None or not hidden.any() else samples[~hidden]
        if counted.dtype.kind == "f":
            finite = np.isfinite(counted)
            counted = counted if finite.all() else counted[finite]
        if counted.size == 0:
            return None
        low, high = counted.min(), counted.max()
        if samples.dtype.kind != "f" and int(high) - int(low) < MAX_LEVELS:
            counts = np.zeros(int(high) - int(low) + 1, np.int64)
            for block in blocks(counted):
                counts += np.bincount(offset(block, low).ravel(), minlength=len(counts))
            present = np.flatnonzero(counts)
            return cls(np.asarray(present, np.float64) + float(low), counts[present])
        if counted.size > _MAX_SAMPLED:
            chosen = np.random.default_rng(0).integers(0, counted.size, _MAX_SAMPLED)
            counted = np.append(counted.ravel()[chosen], [low, high])
        found, counts = np.unique(counted, return_counts=True)
        return cls(np.asarray(found, np.float64), counts)

    @property
    def total(self) -> int:
        """How many samples were counted."""
        return int(self.counts.sum())

    def percentile(self, percent: float) -> float:
        """As numpy.percentile of all samples: linear between neighbours."""
        ends = np.cumsum(self.counts)
        rank = percent / 100 * (int(ends[-1]) - 1)
        below, above = self.values[np.searchsorted(ends, [int(rank), np.ceil(rank)], side="right")]
        part, step = rank - int(rank), above - below
        return float(below + step * part if part < 0.5 else above - step * (1 - part))

    def inner(self) -> Levels:
        """All levels but the lowest and the highest."""
        return Levels(self.values[1:-1], self.counts[1:-1])


def offset(block: Samples, low: Any) -> NDArray[np.intp]:
    """Non-negative numbers of integer levels, counted from `low`, without overflow."""
    wide = block if block.dtype == np.uint64 else block.astype(np.int64)
    return (wide - wide.dtype.type(low)).astype(np.intp)


def blocks(samples: Samples) -> Iterator[Samples]:
    """Rows of samples, a bounded number at a time."""
    rows = max(1, _BLOCK * len(samples) // samples.size)
    return (samples[top : top + rows] for top in range(0, len(samples), rows))
