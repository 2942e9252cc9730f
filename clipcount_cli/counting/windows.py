"""Cut a photograph into model-sized windows, and blend their densities back into one map.

Image -> count, step 2 of 5: images.py -> [windows.py] -> model.py -> counter.py -> heatmap.py

Along the longer side windows slide by `stride_px` over pixels padded with black beyond the edge, as
the authors' evaluation does; where the shorter side is larger than a window (`--tiles`) they slide
both ways.
"""

from __future__ import annotations

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
    """The upper left corner of a window, in pixels of the resized photograph."""

    y: int
    x: int


def resize_shorter_side(pixels: Pixels, side_px: int) -> Pixels:
    """Resize (H, W, 3) so that the shorter side is `side_px`: bilinear, antialiased."""
    height, width = pixels.shape[:2]
    if min(height, width) == side_px:
        return pixels
    if width >= height:
        size = (int(side_px * width / height), side_px)
    else:
        size = (side_px, int(side_px * height / width))
    resized = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized)


def window_origins(height_px: int, width_px: int, config: WindowConfig) -> list[Origin]:
    """Where the windows of a resized photograph start, row by row."""
    return [Origin(y, x) for y, x in itertools.product(*_starts_px(height_px, width_px, config))]


def _starts_px(height_px: int, width_px: int, config: WindowConfig) -> tuple[list[int], list[int]]:
    """Starts of the rows and of the columns of windows.

    Windows always slide along the width of a landscape, as the authors': a square photograph is
    one too, and is seen twice.
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
    """The windows (B, side, side, 3) at `origins`; what lies beyond the photograph is black."""
    side = config.side_px
    windows = np.zeros((len(origins), side, side, 3), dtype=np.uint8)
    for window, (y, x) in zip(windows, origins, strict=True):
        part = pixels[y : y + side, x : x + side]
        window[: part.shape[0], : part.shape[1]] = part
    return windows


def join_densities(
    densities: Iterable[Density], height_px: int, width_px: int, config: WindowConfig
) -> Density:
    """Blend windows' densities, in the order of `window_origins`, into one map (height, width)."""
    windows = iter(densities)
    rows, columns = _starts_px(height_px, width_px, config)
    strips = [
        _blend(list(itertools.islice(windows, len(columns))), config, axis=1)[:, :width_px]
        for _ in rows
    ]
    return _blend(strips, config, axis=0)[:height_px]


def _blend(parts: list[Density], config: WindowConfig, axis: int) -> Density:
    """Lay parts along `axis`, each `stride_px` after the last, fading over the overlap."""
    overlap_px = config.side_px - config.stride_px
    ramp = np.linspace(-SEAM_STEEPNESS, SEAM_STEEPNESS, overlap_px, dtype=np.float32)
    share_of_new = 1 / (1 + np.exp(-ramp))[:, None]
    first, *others = (part.swapaxes(0, axis) for part in parts)  # views: `axis` comes first
    length_px = config.side_px + config.stride_px * len(others)
    joined = np.zeros((length_px, first.shape[1]), dtype=np.float32)
    joined[: config.side_px] = first
    for number, new in enumerate(others, start=1):
        start = number * config.stride_px
        seam = joined[start : start + overlap_px]
        seam += (new[:overlap_px] - seam) * share_of_new
        joined[start + overlap_px : start + config.side_px] = new[overlap_px:]
    return joined.swapaxes(0, axis)
