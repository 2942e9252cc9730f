"""How large an image must be seen: the choice behind `--tiles auto`, from samples of the image.

Beside the path image -> count: counter.py -> [scale.py] -> windows.py

Each sample is counted twice, the second time at twice the size. If the counts agree, the objects
are large enough already, and a larger view would break them up; only if it shows a multiple of them
did both views take clusters for objects. If the second count is higher, the first view had merged
or missed small objects, unless what is seen has become diffuse or lies far apart: so do parts of
objects that are too large. No quantity depends on the weights: a ratio of counts, a distance in
pixels of a window, a ratio of densities.
scripts/score_tiles.py measures how well the choice does with given weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipcount_cli.config import WindowConfig
from clipcount_cli.counting.windows import Origin, Pixels, cut_windows, resize_shorter_side

MAX_TILES = 8  # bounds the cost of a count: about 700 windows for a 4:3 image
MAX_ENLARGEMENT = 1.1  # nothing is finer beyond an image's own pixels
OVERRULING_GROWTH = 4  # from which another count is believed even if views before agreed
MIN_OBJECTS = 3  # in all samples; with fewer, their size is unknown
MAX_SAMPLES = 8  # four windows each, at every size
CELL_PX, BLUR_PX = 4, 48  # the pitch is measured on densities pooled and blurred by so much

Densities = NDArray[np.float32]  # (B, side, side) objects per pixel
# Windows (B, side, side, 3) -> densities of the prompts and, if the weights know a generic prompt,
# of any object.
See = Callable[[Pixels], list[Densities]]


class Thresholds(NamedTuple):
    """When a view at twice the size is the better one."""

    growth: float = 1.1  # of the count, at least
    pitch_px: float = 118  # distance of neighbours, at most; lone objects seem 120 px apart
    sharpness: float = 0.75  # over that of the view before, at least...
    crowded_pitch_px: float = 60  # ...unless neighbours are as close, whose densities overlapped


class View(NamedTuple):
    """What is seen in all samples at one size."""

    objects: float
    pitch_px: float  # typical distance of neighbours; infinite if nothing is seen
    sharpness: float = 1.0  # mean density where objects are: less where they are larger than known

    @classmethod
    def of(cls, densities: Densities) -> View:
        """Measure the pitch by the density around the objects, blurred by BLUR_PX."""
        from scipy.ndimage import gaussian_filter  # 0.1 s: paid only when tiles are chosen

        side = densities.shape[1] // CELL_PX
        cells = densities.reshape(-1, side, CELL_PX, side, CELL_PX).sum(axis=(2, 4))
        objects = float(cells.sum(dtype=np.float64))
        if objects == 0:
            return cls(0.0, math.inf, 0.0)
        blur = (0, BLUR_PX / CELL_PX, BLUR_PX / CELL_PX)
        near = gaussian_filter(cells, blur, mode="constant")  # nothing is near beyond the window
        around = float((cells * near).sum(dtype=np.float64) / objects)
        sharpness = float(np.square(densities).sum(dtype=np.float64) / objects)
        return cls(objects, CELL_PX / math.sqrt(around), sharpness)


class Comparison(NamedTuple):
    """The same samples seen with half as many tiles and with `tiles`."""

    tiles: int
    before: View
    after: View


def most_tiles(pixels: Pixels, side_px: int) -> float:
    """How many times `side_px` the shorter side of an image (H, W, 3) may be resized to."""
    return min(float(MAX_TILES), MAX_ENLARGEMENT * int(min(pixels.shape[:2])) / side_px)


def choose_tiles(
    comparisons: Iterable[Comparison], limit: float, thresholds: Thresholds | None = None
) -> int:
    """Choose how many times `side_px` the shorter side is resized to, at most `limit` times.

    A power of two; if the largest view compared is the better one, the whole of the limit.
    """
    thresholds = thresholds or Thresholds()
    chosen, growth, better = 1, thresholds.growth, False
    for tiles, before, after in comparisons:
        grown = after.objects >= max(MIN_OBJECTS, growth * before.objects)
        better = grown and _shows_objects(before, after, thresholds)
        if better:
            chosen, growth = tiles, thresholds.growth
        elif not grown and before.objects >= MIN_OBJECTS:
            growth = OVERRULING_GROWTH  # what is seen is seen at both sizes
    return int(limit) if better else chosen


def _shows_objects(before: View, after: View, thresholds: Thresholds) -> bool:
    """Whether a view does not show parts of objects that are too large for it."""
    if after.pitch_px <= thresholds.crowded_pitch_px:
        return True
    sharp = after.sharpness >= thresholds.sharpness * before.sharpness
    return sharp and after.pitch_px <= thresholds.pitch_px


def compare_sizes(pixels: Pixels, see: See, config: WindowConfig) -> Iterator[Comparison]:
    """Look at samples of an image (H, W, 3) with 1 and 2 tiles, 2 and 4, and so on.

    Ends before the image would be enlarged, and at MAX_TILES. Each size costs at most
    4 x MAX_SAMPLES windows, all together at most 75 for a 4:3 image.
    """
    limit = most_tiles(pixels, config.side_px)
    if limit < 2:
        return
    image = resize_shorter_side(pixels, config.side_px)
    height_px, width_px = image.shape[:2]
    samples = _spread(height_px, width_px, config.side_px)
    coarse = see(cut_windows(image, samples, config))
    tiles = 2
    while tiles <= limit:
        image = resize_shorter_side(pixels, tiles * config.side_px)
        quarters = [quarter for sample in samples for quarter in _quarters(sample, config.side_px)]
        fine = see(cut_windows(image, quarters, config))
        question = _telling(coarse, fine)
        yield Comparison(tiles, View.of(coarse[question]), View.of(fine[question]))
        fullest = np.argsort(-fine[question].sum(axis=(1, 2)), kind="stable")[:MAX_SAMPLES]
        samples = [quarters[i] for i in fullest]
        coarse = [densities[fullest] for densities in fine]
        tiles *= 2


def _telling(coarse: list[Densities], fine: list[Densities]) -> int:
    """The first question that finds objects at either size; else the first one."""
    for question, densities in enumerate(zip(coarse, fine, strict=True)):
        if max(float(seen.sum()) for seen in densities) >= MIN_OBJECTS:
            return question
    return 0


def _spread(height_px: int, width_px: int, side_px: int) -> list[Origin]:
    """At most MAX_SAMPLES windows, evenly spread over an image, that cover it if they can."""
    starts = [
        np.linspace(0, length - side_px, min(MAX_SAMPLES, math.ceil(length / side_px)))
        for length in (height_px, width_px)
    ]
    return [Origin(round(y), round(x)) for y, x in itertools.product(*starts)]


def _quarters(sample: Origin, side_px: int) -> list[Origin]:
    """The four windows that show a window's content at twice the size."""
    steps = itertools.product((0, side_px), repeat=2)
    return [Origin(2 * sample.y + down, 2 * sample.x + across) for down, across in steps]
