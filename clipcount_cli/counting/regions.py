"""Parts of an image that are counted on their own: rectangles, a mask, or a label image.

A count is the sum of the density inside, so the regions of a partition add up to the whole.
Beside the path image -> count: counter.py -> [regions.py]; masks.py reads label images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from clipcount_cli.counting.windows import Density
from clipcount_cli.errors import UsageError

STRIP_ROWS = 256  # of a label image summed at once: bounds the memory of a large one


class Regions(Protocol):
    """Named parts of an image; a density map may have any scale of that image."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def counts(self, density: Density) -> list[float]:
        """The sum of a density map (h, w) inside each region."""
        ...

    def inside(self, density: Density) -> Density:
        """The density map (h, w) with zeros outside all regions."""
        ...


class Box(NamedTuple):
    """A rectangle in pixels of the upright image."""

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def parse(cls, text: str) -> Box:
        """Read "X,Y,W,H"; raises UsageError."""
        try:
            box = cls(*(float(part) for part in text.split(",")))
        except (TypeError, ValueError):
            box = cls(math.nan, math.nan, math.nan, math.nan)
        if not all(map(math.isfinite, box)) or min(box) < 0 or min(box.width, box.height) == 0:
            raise UsageError(
                f'"{text}" is not a region',
                hint="give left, top, width and height in pixels: 0,0,640,480",
            )
        return box

    def __str__(self) -> str:
        return ",".join(f"{side:g}" for side in self)


@dataclass(frozen=True)
class Boxes:
    """Rectangles in an image of `width_px` x `height_px`; they may overlap."""

    boxes: tuple[Box, ...]
    width_px: int
    height_px: int

    @classmethod
    def of(cls, boxes: Sequence[Box], width_px: int, height_px: int) -> Boxes:
        """Raises UsageError if a box reaches beyond the image."""
        for box in boxes:
            if box.x + box.width > width_px or box.y + box.height > height_px:
                raise UsageError(
                    f"the region {box} reaches beyond the image, which is {width_px} x {height_px}",
                    hint="regions are X,Y,W,H in pixels of the upright image",
                )
        return cls(tuple(boxes), width_px, height_px)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, self.boxes))

    def counts(self, density: Density) -> list[float]:
        covered = (self._covered(box, density.shape) for box in self.boxes)
        return [float(down @ density.astype(np.float64) @ across) for down, across in covered]

    def inside(self, density: Density) -> Density:
        share = np.zeros(density.shape)
        for box in self.boxes:
            share = np.maximum(share, np.outer(*self._covered(box, density.shape)))
        return (density * share).astype(np.float32)

    def _covered(
        self, box: Box, shape: tuple[int, ...]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The share of each row (h,) and of each column (w,) of a map that lies in `box`."""
        down = _overlap(box.y, box.height, self.height_px, shape[0])
        return down, _overlap(box.x, box.width, self.width_px, shape[1])


def _overlap(start_px: float, length_px: float, whole_px: int, cells: int) -> NDArray[np.float64]:
    """The share of each of `cells` equal parts of an axis that lies in the given stretch of it."""
    edges = np.arange(cells + 1) * (whole_px / cells)
    reach = np.minimum(edges[1:], start_px + length_px) - np.maximum(edges[:-1], start_px)
    share: NDArray[np.float64] = np.clip(reach, 0, None) * (cells / whole_px)
    return share


@dataclass(frozen=True, eq=False)
class Labels:
    """A label image: `index` (H, W) holds k where `names[k - 1]` lies, 0 outside all regions."""

    names: tuple[str, ...]
    index: NDArray[np.unsignedinteger]

    def counts(self, density: Density) -> list[float]:
        index, rows, columns = self._aligned(density.shape)
        per_pixel = density / np.outer(np.bincount(rows), np.bincount(columns))
        sums = np.zeros(len(self.names) + 1)
        for top in range(0, len(rows), STRIP_ROWS):
            strip = slice(top, top + STRIP_ROWS)
            spread = per_pixel[rows[strip]][:, columns]
            sums += np.bincount(index[strip].ravel(), spread.ravel(), minlength=len(sums))
        return [float(total) for total in sums[1:]]

    def inside(self, density: Density) -> Density:
        index, rows, columns = self._aligned(density.shape)
        share = np.zeros(density.shape)
        first_column = np.searchsorted(columns, np.arange(density.shape[1]))
        for row in range(density.shape[0]):
            start, stop = np.searchsorted(rows, (row, row + 1))
            labelled = (index[start:stop] > 0).mean(axis=0)
            share[row] = np.add.reduceat(labelled, first_column)
        return (density * share / np.bincount(columns)).astype(np.float32)

    def _aligned(
        self, shape: tuple[int, ...]
    ) -> tuple[NDArray[np.unsignedinteger], NDArray[np.intp], NDArray[np.intp]]:
        """The labels, at least as fine as a map of `shape`; each row's and each column's cell."""
        fineness = max(
            math.ceil(cells / px) for cells, px in zip(shape, self.index.shape, strict=True)
        )
        index = self.index.repeat(fineness, 0).repeat(fineness, 1) if fineness > 1 else self.index
        rows, columns = (
            ((np.arange(px) + 0.5) * (cells / px)).astype(np.intp)
            for px, cells in zip(index.shape, shape, strict=True)
        )
        return index, rows, columns
