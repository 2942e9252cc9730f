"""Cut an image into model-sized windows, and blend their densities back into one map.

Image -> count, step 2 of 5: images.py -> [windows.py] -> model.py -> counter.py -> heatmap.py

Along the longer side windows slide by `stride_px` over pixels padded with black beyond the edge, as
the authors' evaluation does; where the shorter side is larger than a window (`--tiles`) they slide
both ways.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipcount_cli.config import WindowConfig

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Density = NDArray[np.float32]  # (H, W)

SEAM_STEEPNESS = 3.0  # the overlap is blended with sigmoid(-3 ... 3)


class Origin(NamedTuple):
    """The upper left corner of a window, in pixels of the resized image."""

    y: int
    x: int


def resize_shorter_side(image: Pixels | Image.Image, side_px: int) -> Pixels:
    """Resize (H, W, 3) so that the shorter side is `side_px`: bilinear, antialiased."""
    width, height = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
    if min(height, width) == side_px:
        return np.asarray(image)
    if width >= height:
        size = (int(side_px * width / height), side_px)
    else:
        size = (side_px, int(side_px * height / width))
    photo = image if isinstance(image, Image.Image) else Image.fromarray(image)
    return np.asarray(photo.resize(size, Image.Resampling.BILINEAR))


def window_origins(height_px: int, width_px: int, config: WindowConfig) -> list[Origin]:
    """The origins of the windows of a resized image, row by row."""
    return [Origin(y, x) for y, x in itertools.product(*_starts_px(height_px, width_px, config))]


def _starts_px(height_px: int, width_px: int, config: WindowConfig) -> tuple[list[int], list[int]]:
    """Starts of the rows and of the columns of windows.

    Windows always slide along the width of a landscape, as the authors': a square image
    counts as one, and is seen twice.
    """
    landscape = width_px >= height_px
    return (
        _slide_px(height_px, config) if height_px > config.side_px else [0],
        _slide_px(width_px, config) if landscape or width_px > config.side_px else [0],
    )


def _slide_px(length_px: int, config: WindowConfig) -> list[int]:
    # As the authors do, pad by a full stride where the stride divides the length.
    padded = length_px + config.stride_px - length_px % config.stride_px
    return list(range(0, padded - config.side_px + 1, config.stride_px))


def cut_windows(pixels: Pixels, origins: list[Origin], config: WindowConfig) -> Pixels:
    """The windows (B, side, side, 3) at `origins`; areas beyond the image are black."""
    windows = np.empty((len(origins), config.side_px, config.side_px, 3), dtype=np.uint8)
    for window, origin in zip(windows, origins, strict=True):
        cut_window(pixels, origin, window)
    return windows


def cut_window(pixels: Pixels, origin: Origin, window: Pixels) -> None:
    """Copy the part at `origin` into `window` (side, side, 3)."""
    side = len(window)
    part = pixels[origin.y : origin.y + side, origin.x : origin.x + side]
    height, width = part.shape[:2]
    window[:height, :width] = part
    if height < side:
        window[height:] = 0
    if width < side:
        window[:height, width:] = 0


def join_densities(
    densities: Iterable[Density], height_px: int, width_px: int, config: WindowConfig
) -> Density:
    """Blend windows' densities, in the order of `window_origins`, into one map (height, width)."""
    mosaic = DensityMosaic(height_px, width_px, config)
    for density in densities:
        mosaic.add(density)
    return mosaic.whole


class DensityMosaic:
    """A map (height, width) in the making: windows' densities in the order of `window_origins`.

    No window is kept longer than its row is incomplete, so memory grows with the map alone.
    """

    def __init__(self, height_px: int, width_px: int, config: WindowConfig) -> None:
        rows, columns = _starts_px(height_px, width_px, config)
        self._height_px, self._columns, self._config = height_px, len(columns), config
        self._joined = np.empty((_length_px(len(rows), config), width_px), dtype=np.float32)
        self._row: list[Density] = []
        self._rows_done = 0

    def add(self, density: Density) -> None:
        """Blend in the next window's density (side, side)."""
        self._row.append(density)
        if len(self._row) < self._columns:
            return
        rows_px, width_px = self._joined.shape
        only = rows_px == self._config.side_px  # of most images: this row is the whole map
        strip = np.empty((self._config.side_px, width_px), np.float32) if not only else self._joined
        for number, window in enumerate(self._row):
            _lay(strip.T, window.T, number, self._config)
        if not only:
            _lay(self._joined, strip, self._rows_done, self._config)
        self._row = []
        self._rows_done += 1

    @property
    def whole(self) -> Density:
        """The map, once all windows are added."""
        return self._joined[: self._height_px]


def window_weights(height_px: int, width_px: int, config: WindowConfig) -> NDArray[np.float32]:
    """How much each pixel of each window contributes to the map: (B, 2, side), along y and x.

    Blending is linear and treats both sides alike, so that the sum of a map is the sum over windows
    of `density * weights[0][:, None] * weights[1]`: a device can sum without building the map.
    """
    rows, columns = _starts_px(height_px, width_px, config)
    down = _side_weights(len(rows), height_px, config)
    across = _side_weights(len(columns), width_px, config)
    return np.stack([np.stack(pair) for pair in itertools.product(down, across)])


@functools.lru_cache(maxsize=64)
def _side_weights(parts: int, length_px: int, config: WindowConfig) -> NDArray[np.float32]:
    """What is left of each part of a side once all are blended and the padding is cut off."""
    blended = np.zeros((_length_px(parts, config), parts), dtype=np.float32)
    for number in range(parts):
        ones = np.zeros((config.side_px, parts), dtype=np.float32)
        ones[:, number] = 1
        _lay(blended, ones, number, config)
    blended[length_px:] = 0
    starts = [number * config.stride_px for number in range(parts)]
    return np.stack([blended[x : x + config.side_px, n] for n, x in enumerate(starts)])


def _length_px(parts: int, config: WindowConfig) -> int:
    return config.side_px + config.stride_px * (parts - 1)


def _lay(joined: Density, part: Density, number: int, config: WindowConfig) -> None:
    """Put part `number` in its place along the first axis, fading from the last one into it."""
    start = number * config.stride_px
    part = part[: len(joined) - start]  # what lies beyond is padding
    overlap_px = config.side_px - config.stride_px if number else 0
    if overlap_px:
        seam = joined[start : start + overlap_px]
        change = part[:overlap_px] - seam
        change *= _shares_of_new(overlap_px)[:, None]
        seam += change
    joined[start + overlap_px : start + config.side_px] = part[overlap_px:]


@functools.lru_cache(maxsize=8)
def _shares_of_new(overlap_px: int) -> NDArray[np.float32]:
    """How much of each row of an overlap the later part takes over, from its first row on."""
    ramp = np.linspace(-SEAM_STEEPNESS, SEAM_STEEPNESS, overlap_px, dtype=np.float32)
    return np.asarray(1 / (1 + np.exp(-ramp)), dtype=np.float32)
