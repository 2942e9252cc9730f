"""Which part of an image a window shows, and how it is transformed: a few random numbers each.

[views.py] -> augment.py. Positions are continuous: pixel i covers i to i + 1, and a dot stands in
the middle of its pixel, so that a mirrored or turned dot stays on what it marks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipcount_cli.config import TrainConfig

Matrix = NDArray[np.float64]  # (3, 3): a position in the image -> in the window
Border = Literal["black", "edge", "symmetric", "reflect", "wrap"]

PLAIN_BORDERS: tuple[Border, ...] = ("black", "edge")
ALL_BORDERS: tuple[Border, ...] = ("black", "edge", "symmetric", "reflect", "wrap")
SEAM_PX = (10, 20)  # half the width in which two parts of a mosaic are blended
PART_PX = (150, 384)  # side of what a mosaic's part shows
QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # (row, column), the order of a mosaic's parts


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels."""

    x: int
    y: int
    width: int
    height: int

    def holds(self, points_px: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which of (K, 2) positions lie inside."""
        last = (self.x + self.width, self.y + self.height)
        within = (points_px >= (self.x, self.y)) & (points_px < last)
        return np.asarray(within.all(axis=1))


@dataclass(frozen=True)
class View:
    """One image's pixels in one window: `source` is cut out, then moved by `matrix`."""

    source: Box  # in the image
    matrix: Matrix
    shown: Box  # in the window; objects elsewhere belong to another view
    border: Border = "black"

    @property
    def moves(self) -> bool:
        """False where the source is copied pixel by pixel."""
        still = np.eye(3)
        still[:2, 2] = -self.source.x, -self.source.y
        return not np.array_equal(self.matrix, still)

    def place(self, points_px: NDArray[np.floating]) -> NDArray[np.float32]:
        """The dots (K, 2) that this view shows, in the window's pixels."""
        centres = np.floor(points_px) + 0.5
        centres = centres[self.source.holds(centres)]
        moved = centres @ self.matrix[:2, :2].T + self.matrix[:2, 2]
        placed: NDArray[np.float32] = moved[self.shown.holds(moved)].astype(np.float32)
        return placed


@dataclass(frozen=True)
class Colour:
    """What happens to a window's colours; 1, 1, 1, 0 leaves them as they are."""

    brightness: float
    contrast: float
    saturation: float
    hue: float  # in turns
    blur_px: float  # sigma
    noise: float  # standard deviation
    noise_seed: int


@dataclass(frozen=True)
class WindowPlan:
    """How one window is made: of one view, or of four around a seam."""

    views: tuple[View, ...]
    seam_px: int = 0
    colour: Colour | None = None


Size = tuple[int, int]  # (height, width) in pixels


def plain_window(size: Size, side_px: int, rng: np.random.Generator) -> WindowPlan:
    """A random part of an image, unchanged."""
    source = _part(size, side_px, rng)
    view = View(source, _moved(-source.x, -source.y), Box(0, 0, side_px, side_px))
    return WindowPlan((view,))


def changed_window(
    size: Size, side_px: int, config: TrainConfig, rng: np.random.Generator
) -> WindowPlan:
    """An image turned, zoomed, sheared, shifted and mirrored, then cut; colours change, too.

    Of a very wide image, only a part of twice the window's side is used.
    """
    source = _part(size, 2 * side_px, rng)
    height, width = source.height, source.width
    matrix = _moved(-source.x - width / 2, -source.y - height / 2)
    matrix = (
        _moved(*(rng.uniform(-1, 1, 2) * config.translate * (width, height)))
        @ _turned(
            np.deg2rad(rng.uniform(-1, 1) * config.rotation_deg),
            np.deg2rad(rng.uniform(-1, 1) * config.shear_deg),
            1 + rng.uniform(-1, 1) * config.scale,
        )
        @ matrix
    )
    matrix = np.diag([*rng.choice([-1.0, 1.0], 2), 1.0]) @ matrix
    cut = _part((height, width), side_px, rng)
    matrix = _moved(width / 2 - cut.x, height / 2 - cut.y) @ matrix
    borders = ALL_BORDERS if config.borders == "mirrored" else PLAIN_BORDERS
    border = borders[rng.integers(len(borders))]
    view = View(source, matrix, Box(0, 0, side_px, side_px), border)
    return WindowPlan((view,), colour=draw_colour(config, rng))


def mosaic_window(sizes: tuple[Size, ...], side_px: int, rng: np.random.Generator) -> WindowPlan:
    """Four random parts of images of these `sizes`, resized and blended at the seams."""
    seam = int(rng.integers(SEAM_PX[0], SEAM_PX[1] + 1))
    half = side_px // 2
    views = []
    for size, (row, column) in zip(sizes, QUARTERS, strict=True):
        length = int(rng.integers(min(PART_PX[0], side_px), min(PART_PX[1], side_px) + 1))
        source = _part(size, length, rng)
        scale = (half + 2 * seam) / length
        matrix = np.diag([scale, scale, 1.0]) @ _moved(-source.x, -source.y)
        matrix = _moved(column * half - seam, row * half - seam) @ matrix
        views.append(View(source, matrix, Box(column * half, row * half, half, half), "edge"))
    return WindowPlan(tuple(views), seam_px=seam)


def draw_colour(config: TrainConfig, rng: np.random.Generator) -> Colour:
    """Draw a change of colours, blur and noise."""
    largest = (config.brightness, config.contrast_jitter, config.saturation)
    brightness, contrast, saturation = (float(1 + rng.uniform(-1, 1) * most) for most in largest)
    return Colour(
        brightness,
        contrast,
        saturation,
        float(rng.uniform(-1, 1) * config.hue),
        blur_px=float(rng.uniform(min(0.1, config.blur_px), config.blur_px)),
        noise=config.noise,
        noise_seed=int(rng.integers(2**63)),
    )


def _part(size: Size, side_px: int, rng: np.random.Generator) -> Box:
    """A random square of an image, or all of a side that is shorter."""
    height, width = (min(side_px, length) for length in size)
    y, x = (int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1)))
    return Box(x, y, width, height)


def _moved(x: float, y: float) -> Matrix:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _turned(angle: float, shear: float, zoom: float) -> Matrix:
    """Shear along x, then turn, then zoom, around the origin."""
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    sheared = np.array([[1.0, np.tan(shear), 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(turn @ sheared)
