"""Every cut-out that scenes may show, by noun and colour; drawn when first asked for, then kept.

Sprites for scenes, step 3 of 4: brush.py -> drawings.py -> [catalogue.py] -> scenes.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from clipcount_cli.data.brush import Pixels
from clipcount_cli.data.drawings import DRAWINGS, TURNS, draw, turn_of
from clipcount_cli.data.nouns import NOUNS, Noun, vocabulary_of

INDIVIDUALS = 2 * TURNS  # drawn of each noun and colour; bounds the memory to about 0.4 GB


@dataclass(frozen=True)
class Cutout:
    """One thing without its background; rgba is (h, w, 4) uint8, straight alpha, trimmed."""

    noun: str
    attributes: tuple[str, ...]  # ("red",), or () where the colour is its own
    rgba: Pixels
    source: str
    part: str  # "train" or "test"
    angle: float = 0.0  # how it is turned, in radians


@dataclass
class Catalogue:
    """Nouns and the cut-outs that show them."""

    nouns: Mapping[str, Noun]
    _kept: dict[tuple[str, str, int, str], Cutout] = field(default_factory=dict, repr=False)

    @classmethod
    def drawn(cls) -> Catalogue:
        """The catalogue of our own drawings alone: it needs no material."""
        return cls({name: NOUNS[name] for name in DRAWINGS})

    def cutouts(
        self,
        noun: str,
        colour: str,
        rng: np.random.Generator,
        n: int,
        part: str = "train",
        angle: float | None = None,
    ) -> list[Cutout]:
        """Choose `n` individuals of a noun in a colour ("": its own), turned by `angle` if given."""
        numbers = rng.integers(0, INDIVIDUALS, n)
        if angle is not None:
            step = round(angle / (2 * np.pi) * TURNS) % TURNS
            numbers = step + TURNS * rng.integers(0, INDIVIDUALS // TURNS, n)
        return [self._cutout(noun, colour, int(number), part) for number in numbers]

    def _cutout(self, noun: str, colour: str, number: int, part: str) -> Cutout:
        key = (noun, colour, number, part)
        if key not in self._kept:
            rgba = trim(draw(noun, colour, number, part, self.nouns[noun].upright))
            attributes = (colour,) if colour else ()
            self._kept[key] = Cutout(noun, attributes, rgba, "drawn", part, turn_of(number))
        return self._kept[key]


def trim(rgba: Pixels) -> Pixels:
    """Cut transparent margins away."""
    solid = rgba[..., 3] > 12
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    if rows.size == 0:
        return rgba
    return np.ascontiguousarray(rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def vocabulary(catalogue: Catalogue) -> list[str]:
    """List every word and phrase that prompts of this catalogue's scenes are made of, sorted."""
    return vocabulary_of(dict(catalogue.nouns))
