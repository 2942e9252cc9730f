"""Our own drawn cut-outs: a noun, a colour and a number give one individual, always the same.

Sprites for scenes, step 2 of 4: brush.py -> [drawings.py] -> catalogue.py -> render.py
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from scenes import drawn_grown as grown
from scenes import drawn_made as made
from scenes import drawn_metal as metal
from scenes.brush import Brush, Pixels, Surface, light_up, named_colour
from scenes.finishes import FINISHES

SPRITE_SIDE_PX = 96  # the 95th percentile of object sizes at 384 px is 113 px, at 224 px 66 px
TURNS = 24  # individuals are drawn at this many evenly spread angles

DRAWINGS: dict[str, Callable[[Brush], Surface]] = {
    "coins": metal.coin,
    "pills": made.pill,
    "candies": made.candy,
    "beads": made.bead,
    "pearls": made.pearl,
    "marbles": made.marble,
    "balls": made.ball,
    "buttons": made.button,
    "bottle caps": made.bottle_cap,
    "nuts": metal.hex_nut,
    "screws": metal.screw,
    "nails": metal.nail,
    "matches": made.match,
    "stars": made.star,
    "dice": made.die,
    "bricks": made.brick,
    "cars": made.car,
    "candles": made.candle,
    "rings": metal.ring,
    "paper clips": metal.paper_clip,
    "forks": metal.fork,
    "spoons": metal.spoon,
    "knives": metal.knife,
    "umbrellas": made.umbrella,
    "paper notes": made.paper_note,
    "dots": made.dot,
    "apples": grown.apple,
    "oranges": grown.orange,
    "lemons": grown.lemon,
    "tomatoes": grown.tomato,
    "cherries": grown.cherry,
    "strawberries": grown.strawberry,
    "blueberries": grown.blueberry,
    "grapes": grown.grape,
    "peas": grown.pea,
    "beans": grown.bean,
    "eggs": grown.egg,
    "potatoes": grown.potato,
    "cookies": grown.cookie,
    "stones": grown.stone,
    "logs": grown.log,
    "cells": grown.cell,
    "cell nuclei": grown.nucleus,
    "leaves": grown.leaf,
    "flowers": grown.flower,
    "fish": grown.fish,
    "crabs": grown.crab,
    "birds": grown.bird,
}


def turn_of(number: int) -> float:
    """The angle, in radians, at which individual `number` of any noun is drawn."""
    return 2 * np.pi * (number % TURNS) / TURNS


def draw(noun: str, look: str, number: int, part: str = "train", upright: bool = False) -> Pixels:
    """Draw individual `number` of `noun`; (96, 96, 4) uint8 with straight alpha.

    look: one of NAMED_COLOURS or FINISHES, or "" for the noun's own colour. Upright things stand,
    give or take a few degrees. Raises KeyError for a noun without a drawing.
    """
    seed = [zlib.crc32(f"{noun}/{look}/{part}".encode()), number]
    rng = np.random.Generator(np.random.PCG64(seed))
    finish = FINISHES.get(look)
    colour = "white" if finish else look
    tone = named_colour(colour or str(rng.choice(["red", "orange", "white", "brown"])), rng)
    angle = rng.normal(0, 0.12) if upright else turn_of(number)
    brush = Brush(rng, tone, part=part, angle=angle, side_px=SPRITE_SIDE_PX)
    surface = DRAWINGS[noun](brush)
    return light_up(finish(brush, surface) if finish else surface, rng)
