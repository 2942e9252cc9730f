"""Every cut-out that scenes may show, by noun and colour; drawn when first needed, then kept.

Sprites for scenes, step 3 of 4: brush.py -> drawings.py -> [catalogue.py] -> render.py
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from scenes.backgrounds import read_ground
from scenes.brush import Pixels
from scenes.cutouts import read_cutouts
from scenes.drawings import DRAWINGS, TURNS, draw, turn_of
from scenes.nouns import CUT_OUT, MATERIALS, MODELLED, NOUNS, PICTURED, Noun, vocabulary_of
from scenes.pictures import (
    FOLDERS,
    LOOKS,
    Look,
    dye,
    looks_of,
    read_picture,
    read_views,
    vary,
)

PICTURE_EVERY = 3  # individuals of a noun that is also drawn: one in three is a picture
INDIVIDUALS = 2 * TURNS  # of each noun and colour; bounds the memory to about 0.5 GB
VIEW_STEP = 17  # from one individual's view to the next's: it divides no number of views
MODELLED_INDIVIDUALS = 8 * TURNS  # of a noun with 3-D models, which are seen from many sides
CUT_OUT_INDIVIDUALS = 4 * TURNS  # of a noun with views, in a catalogue of twice as many nouns


@dataclass(frozen=True)
class Cutout:
    """One thing without its background; rgba is (h, w, 4) uint8, straight alpha, trimmed."""

    noun: str
    attributes: tuple[str, ...]  # ("red",) or ("wooden",), or () if the colour is its own
    rgba: Pixels
    source: str
    part: str  # "train" or "test"
    angle: float = 0.0  # how it is turned, in radians

    @cached_property
    def halved(self) -> Pixels:
        """The thing at half its size: most are shown smaller still, and shrink faster from here."""
        height, width = self.rgba.shape[:2]
        # Colours continue beyond the outline, so straight alpha can be resized without dark seams
        whole = Image.frombuffer("RGBX", (width, height), self.rgba, "raw", "RGBX", 0, 1)
        return np.asarray(whole.reduce(2))


@dataclass
class Catalogue:
    """Nouns and the cut-outs that show them."""

    nouns: Mapping[str, Noun]
    material: Path | None = None  # pictures that scripts/scenes/fetch.py fetched
    photographed: bool = False  # whether nouns are also shown by cut-outs of photos
    _kept: dict[tuple[str, str, int, str], Cutout] = field(default_factory=dict, repr=False)
    _pictures: dict[tuple[str, str], Pixels] = field(default_factory=dict, repr=False)
    _views: dict[tuple[str, str], list[Pixels]] = field(default_factory=dict, repr=False)
    _grounds: dict[str, list[Pixels]] = field(default_factory=dict, repr=False)

    @classmethod
    def drawn(cls) -> Catalogue:
        """The catalogue of our own drawings alone: it needs no material."""
        return cls({name: NOUNS[name] for name in DRAWINGS})

    @classmethod
    def from_material(cls, folder: Path | None, photographed: bool = False) -> Catalogue:
        """Our own drawings and the pictures of `folder`, if any.

        photographed: show its cut-outs of photos as well, and the nouns that they alone show.
        Raises DataError if a picture is missing.
        """
        if folder is None:
            return cls.drawn()
        nouns = {**NOUNS, **PICTURED, **MODELLED, **(CUT_OUT if photographed else {})}
        catalogue = cls(nouns, folder, photographed)
        for part in FOLDERS:
            for noun in MODELLED:
                catalogue._views_of(noun, part)
            for looks in LOOKS.values():
                for look in looks:
                    catalogue._picture(look, part)
        return catalogue

    def cutouts(
        self,
        noun: str,
        colour: str,
        rng: np.random.Generator,
        n: int,
        part: str = "train",
        angle: float | None = None,
    ) -> list[Cutout]:
        """Choose `n` individuals of a noun in a colour ("": its own), turned by `angle` if any."""
        of_views = CUT_OUT_INDIVIDUALS if self.photographed else MODELLED_INDIVIDUALS
        numbers = np.arange(of_views if self._views_of(noun, part) else INDIVIDUALS)
        if angle is not None:
            step = round(angle / (2 * np.pi) * TURNS) % TURNS
            numbers = numbers[step::TURNS]
        pictured = np.array([is_pictured(int(number)) for number in numbers])
        style = rng.random()  # mostly one artist's work alone
        if style < 0.8 and 0 < pictured.sum() < len(numbers):
            numbers = numbers[pictured == (style < 0.25)]
        numbers = numbers[rng.integers(0, len(numbers), n)]
        return [self._cutout(noun, colour, int(number), part) for number in numbers]

    def _cutout(self, noun: str, colour: str, number: int, part: str) -> Cutout:
        key = (noun, colour, number, part)
        if key not in self._kept:
            rgba, source = self._made(noun, colour, number, part)
            attributes = (colour,) if colour else ()
            self._kept[key] = Cutout(noun, attributes, trim(rgba), source, part, turn_of(number))
        return self._kept[key]

    def _made(self, noun: str, colour: str, number: int, part: str) -> tuple[Pixels, str]:
        """Draw an individual, or vary a picture or a view of it; returns it with its source."""
        upright = self.nouns[noun].upright
        looks = looks_of(noun, colour) if self.material is not None else []
        views = self._views_of(noun, part)
        pictured = (looks or views) and is_pictured(number) and colour not in MATERIALS
        if noun in DRAWINGS and not pictured:
            return draw(noun, colour, number, part, upright), "drawn"
        if views and (not looks or is_modelled(number)):
            rgba, tone, source = views[number * VIEW_STEP % len(views)], colour, "models"
        else:
            look = looks[(number * 5 + number // TURNS) % len(looks)]
            rgba, source = self._picture(look, part), FOLDERS[part]
            tone = look.repaint or (colour if look.dyed else "")
        if tone:
            seed = [zlib.crc32(f"{noun}/{colour}".encode()), number]
            rgba = dye(rgba, tone, np.random.Generator(np.random.PCG64(seed)))
        return vary(rgba, noun, number, upright), source

    def _views_of(self, noun: str, part: str) -> list[Pixels]:
        key = (noun, part)
        if key not in self._views:
            needed = noun in MODELLED
            folder = self.material
            self._views[key] = [] if folder is None else read_views(folder, noun, part, needed)
            if folder is not None and self.photographed:
                self._views[key] += read_cutouts(folder, noun)
        return self._views[key]

    def _picture(self, look: Look, part: str) -> Pixels:
        key = (look.emoji, part)
        if key not in self._pictures:
            assert self.material is not None
            self._pictures[key] = read_picture(self.material, look, part)
        return self._pictures[key]

    def photographs(self, part: str) -> list[Pixels]:
        """Photos to use as backgrounds: every fifth is kept for "test"."""
        if part not in self._grounds:
            paths = (
                [] if self.material is None else sorted((self.material / "grounds").glob("*.png"))
            )
            kept = [path for i, path in enumerate(paths) if (i % 5 == 0) == (part == "test")]
            self._grounds[part] = [read_ground(path) for path in kept]
        return self._grounds[part]


def is_pictured(number: int) -> bool:
    """Whether individual `number` of a noun that is also drawn is a picture."""
    return (number + number // TURNS) % PICTURE_EVERY == 0


def is_modelled(number: int) -> bool:
    """Whether individual `number` of a noun with pictures and 3-D models is a view of a model."""
    return number // PICTURE_EVERY % 2 == 0


def trim(rgba: Pixels) -> Pixels:
    """Cut transparent margins away."""
    solid = rgba[..., 3] > 12
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    if rows.size == 0:
        return rgba
    return np.ascontiguousarray(rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def vocabulary(catalogue: Catalogue) -> list[str]:
    """List every word and phrase that prompts of this catalogue's scenes are made of, sorted."""
    return vocabulary_of(catalogue.nouns)
