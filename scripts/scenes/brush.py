"""Shape, light and colour for drawn cut-outs: a height map and an albedo become an RGBA sprite.

Sprites for scenes, step 1 of 4: [brush.py] -> drawings.py -> catalogue.py -> render.py
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.floating[Any]]
Pixels = npt.NDArray[np.uint8]

# Hue in degrees, then saturation and value: ranges apart enough that people agree on the name.
NAMED_COLOURS: dict[str, tuple[tuple[float, float], ...]] = {
    "red": ((350, 366), (0.75, 1.0), (0.55, 0.95)),
    "orange": ((19, 33), (0.8, 1.0), (0.85, 1.0)),
    "yellow": ((47, 58), (0.6, 1.0), (0.85, 1.0)),
    "green": ((85, 150), (0.45, 0.95), (0.35, 0.85)),
    "blue": ((200, 240), (0.55, 0.95), (0.45, 0.95)),
    "purple": ((258, 288), (0.35, 0.8), (0.4, 0.85)),
    "pink": ((322, 348), (0.22, 0.55), (0.88, 1.0)),
    "white": ((20, 60), (0.0, 0.07), (0.88, 1.0)),
    "black": ((0, 360), (0.0, 0.3), (0.04, 0.17)),
    "brown": ((14, 30), (0.5, 0.8), (0.28, 0.5)),
}


def named_colour(name: str, rng: np.random.Generator) -> Floats:
    """Draw a colour that people call `name`; (3,) RGB in 0..1."""
    hue, saturation, value = (rng.uniform(*bounds) for bounds in NAMED_COLOURS[name])
    return np.array(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value), np.float32)


def smooth_noise(rng: np.random.Generator, side_px: int, cells: int) -> Floats:
    """Smooth noise of `cells` waves per side; (side, side) of about -1..1."""
    grid = rng.random((cells + 2, cells + 2), dtype=np.float32) * 2 - 1
    return np.asarray(Image.fromarray(grid).resize((side_px, side_px), Image.Resampling.BICUBIC))


@dataclass
class Surface:
    """A thing seen from the camera, before it is lit; maps are (side, side), albedo has 3 channels.

    Height is in half sides of the sprite; alpha and albedo are in 0..1.
    """

    height: Floats
    albedo: Floats
    alpha: Floats
    gloss: float = 0.2
    shininess: float = 20.0
    ambient: float = 0.45
    glow: Floats | None = None  # light that the thing gives out itself, (side, side, 3)


class Brush:
    """What a drawing function holds: turned coordinates, a colour, and its own randomness.

    `x`, `y` run over -1..1 in the object's own frame. If `part` is "test", every parameter
    comes from a gap in its range that "train" never uses: test drawings are different.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        colour: Floats,
        *,
        part: str = "train",
        angle: float = 0.0,
        side_px: int = 96,
    ) -> None:
        self.rng, self.colour, self.part, self.side_px = rng, colour, part, side_px
        steps = np.linspace(-1.06, 1.06, side_px, dtype=np.float32)
        across, down = steps[None, :], steps[:, None]
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        self.x: Floats = across * cosine + down * sine
        self.y: Floats = down * cosine - across * sine

    @property
    def radius(self) -> Floats:
        return np.hypot(self.x, self.y)

    @property
    def theta(self) -> Floats:
        return np.arctan2(self.y, self.x)

    def between(self, low: float, high: float) -> float:
        """Draw a parameter; training leaves out the band that the test drawings use."""
        share = self.rng.uniform(0.4, 0.6) if self.part == "test" else self.rng.uniform(0, 0.8)
        if self.part != "test" and share > 0.4:
            share += 0.2
        return low + float(share) * (high - low)

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def noise(self, cells: int) -> Floats:
        return smooth_noise(self.rng, self.side_px, cells)

    def inside(self, distance: Floats) -> Floats:
        """Turn a signed distance (negative inside, half sides) into soft-edged coverage 0..1."""
        cover: Floats = np.clip(0.5 - distance * (self.side_px / 2.12), 0, 1)
        return cover

    def plain(self, colour: Floats | None = None) -> Floats:
        shape = (self.side_px, self.side_px, 3)
        return np.broadcast_to(self.colour if colour is None else colour, shape).astype(np.float32)

    def pastel(self, fade: float) -> Floats:
        """The colour as a pale dye, where it keeps its name: a pale red would be a pink."""
        return self.plain(self.colour + (1 - self.colour) * fade * self.colour[1])

    def dome(self, radius: Floats | None = None, bulge: float = 1.0) -> Floats:
        """The height of a ball (or, with bulge < 1, of a lens) over normalised `radius`."""
        distance = self.radius if radius is None else radius
        return bulge * np.sqrt(np.clip(1 - distance**2, 0, 1))


def blend(below: Floats, colour: Floats | tuple[float, float, float], cover: Floats) -> Floats:
    """Lay `colour` over `below` where `cover` is 1; (side, side, 3)."""
    return below + (np.asarray(colour, np.float32) - below) * cover[..., None]


def box_distance(x: Floats, y: Floats, half_x: float, half_y: float, corner: float) -> Floats:
    """Signed distance to a rectangle with rounded corners."""
    over_x = np.abs(x) - (half_x - corner)
    over_y = np.abs(y) - (half_y - corner)
    outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
    return outside + np.minimum(np.maximum(over_x, over_y), 0) - corner


def light_up(surface: Surface, rng: np.random.Generator) -> Pixels:
    """Light a surface from the upper left; returns (side, side, 4) uint8 with straight alpha."""
    side = surface.height.shape[0]
    slope_y, slope_x = (slope * (side / 2.12) for slope in np.gradient(surface.height))
    direction = np.array([-0.55, -0.6, 0.75]) + rng.uniform(-0.12, 0.12, 3)
    direction /= np.linalg.norm(direction)
    upright = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    lambert = (-slope_x * direction[0] - slope_y * direction[1] + direction[2]) * upright
    light = surface.ambient + (1.25 - surface.ambient) * np.clip(lambert, 0, 1)
    half = direction + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    mirror = np.clip((-slope_x * half[0] - slope_y * half[1] + half[2]) * upright, 0, 1)
    colour = surface.albedo * light[..., None]
    colour = colour + (surface.gloss * mirror**surface.shininess)[..., None]
    if surface.glow is not None:
        colour = colour + surface.glow
    rgba = np.dstack([np.clip(colour, 0, 1), surface.alpha])
    return (rgba * 255 + 0.5).astype(np.uint8)
