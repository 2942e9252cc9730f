"""How large an image must be seen: the choice behind `--tiles auto`, from samples of the image.

Beside the path image -> count: counter.py -> [scale.py] -> windows.py

Each sample is counted twice, the second time at twice the size. If the counts agree, the objects
are large enough already, and a larger view would break them up; only if it shows a multiple of them
did both views take clusters for objects. If the second count is higher and its objects lie close
together, the first view had merged or missed small ones. Neither quantity depends on the weights: a
ratio of counts, and a distance in pixels of a window.
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
MIN_GROWTH = 1.3  # from which a count at twice the size is another count
OVERRULING_GROWTH = 4  # from which it is so even if views before agreed
MAX_PITCH_PX = 52  # distance of neighbours, seen at twice the size, up to which objects are small
FINE_PITCH_PX = 44  # up to which they are so small that all of an image's own pixels are needed
MIN_OBJECTS = 3  # in all samples; with fewer, their size is unknown
MAX_SAMPLES = 8  # four windows each, at every size
CELL_PX, BLUR_PX = 4, 24  # the pitch is measured on densities pooled and blurred by so much

Densities = NDArray[np.float32]  # (B, side, side) objects per pixel
# Windows (B, side, side, 3) -> densities of the prompts and, if the weights know a generic prompt,
# of any object.
See = Callable[[Pixels], list[Densities]]


class View(NamedTuple):
    """What is seen in all samples at one size."""

    objects: float
    pitch_px: float  # typical distance of neighbours; infinite if nothing is seen

    @classmethod
    def of(cls, densities: Densities) -> View:
        """Measure the pitch by the density around the objects: lone ones seem BLUR_PX apart."""
        from scipy.ndimage import gaussian_filter  # 0.1 s: paid only when tiles are chosen

        side = densities.shape[1] // CELL_PX
        cells = densities.reshape(-1, side, CELL_PX, side, CELL_PX).sum(axis=(2, 4))
        objects = float(cells.sum(dtype=np.float64))
        if objects == 0:
            return cls(0.0, math.inf)
        blur = (0, BLUR_PX / CELL_PX, BLUR_PX / CELL_PX)
        around = float((cells * gaussian_filter(cells, blur)).sum(dtype=np.float64) / objects)
        return cls(objects, CELL_PX / math.sqrt(around))


class Comparison(NamedTuple):
    """The same samples seen with half as many tiles and with `tiles`."""

    tiles: int
    before: View
    after: View


def most_tiles(pixels: Pixels, side_px: int) -> float:
    """How many times `side_px` the shorter side of an image (H, W, 3) may be resized to."""
    return min(float(MAX_TILES), MAX_ENLARGEMENT * int(min(pixels.shape[:2])) / side_px)


def choose_tiles(
    comparisons: Iterable[Comparison],
    limit: float,
    min_growth: float = MIN_GROWTH,
    max_pitch_px: float = MAX_PITCH_PX,
) -> int:
    """Choose how many times `side_px` the shorter side is resized to, at most `limit` times.

    A power of two; if objects are still small at the largest compared, the whole of the limit.
    """
    chosen, smallest_growth, finest = 1, min_growth, False
    for tiles, before, after in comparisons:
        grown = after.objects >= max(MIN_OBJECTS, smallest_growth * before.objects)
        finest = grown and after.pitch_px <= FINE_PITCH_PX
        if grown and after.pitch_px <= max_pitch_px:
            chosen, smallest_growth = tiles, min_growth
        elif not grown and before.objects >= MIN_OBJECTS:
            smallest_growth = OVERRULING_GROWTH  # what is seen is seen at both sizes
    return int(limit) if finest else chosen


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
