"""What things are made of: a drawn surface, remade of wood, metal or plastic.

Used by drawings.py, after a noun has its shape and before it is lit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scenes.brush import Brush, Floats, Surface, named_colour
from scenes.drawn_metal import metal
from scenes.nouns import BRIGHT

WOODS = ((0.80, 0.62, 0.41), (0.66, 0.45, 0.27), (0.49, 0.31, 0.18), (0.86, 0.73, 0.54))


def relief(surface: Surface) -> Floats:
    """How light each pixel is beside the thing's middle tone: (side, side, 1), about 1."""
    tone = surface.albedo.mean(axis=2, keepdims=True)
    middle = np.median(tone[surface.alpha > 0.5]) if (surface.alpha > 0.5).any() else 1.0
    lightness: Floats = np.clip(tone / max(float(middle), 0.05), 0.45, 1.25)
    return lightness


def of_wood(brush: Brush, surface: Surface) -> Surface:
    """Dull, with a grain along the thing."""
    tone = np.array(WOODS[int(brush.rng.integers(len(WOODS)))], np.float32)
    rings = brush.y * brush.between(9, 22) + brush.noise(3) * brush.between(0.8, 2.5)
    grain = 1 - brush.between(0.1, 0.25) * np.abs(np.sin(rings)) + 0.05 * brush.noise(24)
    albedo = tone * brush.between(0.85, 1.1) * grain[..., None] * relief(surface) ** 0.5
    return replace(surface, albedo=albedo, gloss=0.06, shininess=8.0, ambient=0.5)


def of_metal(*names: str) -> Callable[[Brush, Surface], Surface]:
    """Shining, in the colour of one of the metals `names`."""

    def made(brush: Brush, surface: Surface) -> Surface:
        tone = metal(brush, *names).astype(np.float32)
        mirror = 1 + 0.18 * np.sin(brush.x * brush.between(3, 9) + brush.noise(3))
        albedo = tone * mirror[..., None] * relief(surface)
        gloss = brush.between(0.4, 0.9)
        return replace(surface, albedo=albedo, gloss=gloss, shininess=16.0, ambient=0.38)

    return made


def of_plastic(brush: Brush, surface: Surface) -> Surface:
    """Smooth, in a bright colour of its own."""
    tone = named_colour(str(brush.rng.choice(BRIGHT)), brush.rng)
    albedo = brush.plain(tone) * relief(surface) ** 0.3
    return replace(surface, albedo=albedo, gloss=0.25, shininess=30.0, ambient=0.55)


FINISHES: dict[str, Callable[[Brush, Surface], Surface]] = {
    "wooden": of_wood,
    "metal": of_metal("silver", "iron"),
    "gold": of_metal("gold"),
    "silver": of_metal("silver"),
    "copper": of_metal("copper"),
    "plastic": of_plastic,
}
