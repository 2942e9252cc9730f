"""Training samples of a rendered scene, a crop of a photo, or four crops side by side.

A sample has four prompts, mostly of what is there, and dots for each. What follows from a seed
does not depend on any other seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from scenes.catalogue import Catalogue
from scenes.nouns import ANY, noun_of
from scenes.render import Scene, SceneConfig, render_scene

from clipcount_cli.config import GENERIC_PROMPT
from tiny.bank import Bank
from tiny.colours import NO_COLOUR, is_grey, missing
from tiny.photos import Photo, Points, change_look, crop, crop_side, read_photos, weights_of

SIDE_PX = 288  # the image tower's input
PROMPTS = 4
ABSENT = (0.25, 0.5, 0.25)  # the chances that none, one or two of the prompts name what is absent
STRANGE = 0.25  # share of samples in which one of these is unlike every noun of the bank
MISCOLOURED = 0.35  # share of photos queried for what they show in a colour that they lack
PHOTOS, MOSAICS = 0.22, 0.22  # shares of samples that show photos, and of those that join four
SCENES = SceneConfig(
    side_px=SIDE_PX, crowded=0.4, near=0.4, far=0.15, empty=0.06, two_sizes=0.1, materials=0.3
)
GLOWING = 0.45  # of the scenes with cells: fluorescence, bright on black
CELLS = {"cells", "cell nuclei"}
# Never named as absent from a photo that shows one kind of thing: they may be in its background
BACKGROUND = {
    *("leaves", "trees", "plants", "potted plants", "bonsai trees", "flowers", "seedlings"),
    *("people", "houses", "windows", "wheels", "tyres", "signs", "boards", "planks", "clouds"),
    *("stones", "rocks", "seeds", "dates", "nuts", "cells", "droplets"),
}
NOTHING = np.zeros((0, 2), np.float32)


@dataclass(frozen=True)
class Sample:
    """A picture (S, S, 3) uint8, its prompts with their dots, and what its nouns are called."""

    pixels: np.ndarray
    prompts: list[str]
    points_px: list[np.ndarray]  # of each prompt; none if it names nothing
    nouns: Points  # bank noun -> its dots
    objects_px: np.ndarray | None  # every object; None if not all of them are annotated
    colours: Points = field(default_factory=dict)  # colour -> dots of that colour


@dataclass(frozen=True)
class _View:
    """A picture, everything that may be asked about it, and what its nouns are called."""

    pixels: np.ndarray
    there: Points  # prompts that are true of it
    absent: list[str]  # prompts that are not, the best first
    nouns: Points
    objects_px: np.ndarray | None
    colours: Points

    def sample(self, rng: np.random.Generator) -> Sample:
        prompts = choose(self.there, self.absent, rng) or [GENERIC_PROMPT]
        points_px = [self.there.get(prompt, NOTHING) for prompt in prompts]
        return Sample(self.pixels, prompts, points_px, self.nouns, self.objects_px, self.colours)

    def mirrored(self) -> _View:
        """Left is right, and other prompts are the first absent ones."""
        return replace(
            self,
            pixels=np.ascontiguousarray(self.pixels[:, ::-1]),
            there=_mirrored(self.there),
            absent=self.absent[2:] + self.absent[:2],
            nouns=_mirrored(self.nouns),
            objects_px=None if self.objects_px is None else _mirror(self.objects_px),
            colours=_mirrored(self.colours),
        )


def _mirror(points_px: np.ndarray) -> np.ndarray:
    """Dots (K, 2) of a mirrored picture."""
    x = np.clip(SIDE_PX - 1 - points_px[:, :1], 0, None)
    return np.concatenate([x, points_px[:, 1:]], axis=1).astype(np.float32)


def _mirrored(points: Points) -> Points:
    return {name: _mirror(at) for name, at in points.items()}


@dataclass
class SampleSource:
    """All that samples are made of."""

    catalogue: Catalogue
    photos: list[Photo]
    bank: Bank
    strangers: tuple[str, ...] = ()  # nouns unlike every noun of the bank

    @classmethod
    def open(
        cls, material: Path | None, photos: Path, strangers: tuple[str, ...] = ()
    ) -> SampleSource:
        """Read cut-outs, models and training photos; without `material`, scenes show drawings.

        Raises DataError if something is missing.
        """
        catalogue = Catalogue.from_material(material, photographed=True)
        shown = read_photos(photos, "train")
        prompts = {prompt for photo in shown for prompt in photo.points_px}
        return cls(catalogue, shown, Bank(catalogue.nouns, prompts), strangers)

    @cached_property
    def _images(self) -> dict[Path, Image.Image]:
        return {photo.path: photo.read() for photo in self.photos}

    @cached_property
    def _weights(self) -> np.ndarray:
        return weights_of(self.photos)

    @cached_property
    def _single(self) -> list[int]:
        """The photos that show one kind of thing."""
        return [i for i, photo in enumerate(self.photos) if not photo.mixed]

    def sample(self, seed: int) -> Sample:
        """Make sample number `seed`."""
        return self.samples(seed, 1)[0]

    def samples(self, seed: int, views: int) -> list[Sample]:
        """Make sample number `seed` and, from its mirror image and back, `views` - 1 others."""
        rng = np.random.default_rng([seed, 7])
        if rng.random() >= PHOTOS:
            view = self._scene(seed, rng)
        else:
            view = self._mosaic(rng) if rng.random() < MOSAICS else self._photo(rng)
        made = [view.sample(rng)]
        while len(made) < views:
            view = view.mirrored()
            made.append(view.sample(rng))
        return made

    def _scene(self, seed: int, rng: np.random.Generator) -> _View:
        scene = render_scene(seed, self.catalogue, SCENES)
        glowing = rng.random() < GLOWING and bool(CELLS & set(scene.points_px))
        there = dict(scene.points_px)
        absent = list(scene.absent)
        if glowing:  # a stain's colour is no colour of the cell
            there = {p: at for p, at in there.items() if not set(ANY) & set(p.split())}
            absent = [p for p in absent if not set(ANY) & set(p.split())]
        nouns = {name: at for name, at in scene.points_px.items() if name in self.bank.nouns}
        absent = self._with_stranger(absent, rng)
        pixels = fluoresce(scene.pixels, rng) if glowing else scene.pixels
        colours = coloured(there) if not is_grey(pixels) else {NO_COLOUR: everything(scene)}
        return _View(pixels, there, absent, nouns, everything(scene), colours)

    def _photo(self, rng: np.random.Generator) -> _View:
        photo = self.photos[int(rng.choice(len(self.photos), p=self._weights))]
        image = self._images[photo.path]
        picture, points = crop(photo, image, crop_side(photo, image.size, rng), SIDE_PX, rng)
        return self._annotated(change_look(picture, rng), points, [photo], rng)

    def _mosaic(self, rng: np.random.Generator) -> _View:
        """Four crops of photos that show one kind each; now and then two of one photo."""
        weights = self._weights[self._single] / self._weights[self._single].sum()
        chosen = [self.photos[i] for i in rng.choice(self._single, 4, p=weights)]
        if rng.random() < 0.4:
            chosen[1] = chosen[0]
        half_px = SIDE_PX // 2
        whole = Image.new("RGB", (SIDE_PX, SIDE_PX))
        points: Points = {}
        for place, photo in enumerate(chosen):
            image = self._images[photo.path]
            side = crop_side(photo, image.size, rng, smallest=0.5)
            corner = (half_px * (place % 2), half_px * (place // 2))
            picture, found = crop(photo, image, side, half_px, rng)
            whole.paste(picture, corner)
            for prompt, at in found.items():
                points[prompt] = np.concatenate([points.get(prompt, NOTHING), at + corner])
        return self._annotated(change_look(whole, rng), points, chosen, rng)

    def _annotated(
        self, pixels: np.ndarray, points: Points, photos: Sequence[Photo], rng: np.random.Generator
    ) -> _View:
        """What may be asked about annotated photos, of which mixed ones are partly annotated."""
        complete = not any(photo.mixed for photo in photos)
        nouns = {noun: at.astype(np.float32) for noun, at in points.items() if len(at)}
        objects = np.concatenate([NOTHING, *nouns.values()]) if complete else None
        there = self._names_of(nouns, objects, rng)
        absent = self._absent(points, photos, complete, rng)
        absent = self._with_stranger(absent, rng)
        if nouns and rng.random() < MISCOLOURED and (lacked := missing(pixels)):
            absent.insert(0, f"{rng.choice(lacked)} {rng.choice(list(nouns))}")
        known = {noun: at for noun, at in nouns.items() if noun in self.bank.nouns}
        every = np.concatenate([NOTHING, *nouns.values()])
        colours = {NO_COLOUR: every} if is_grey(pixels) else {}
        return _View(pixels, there, absent, known, objects, colours)

    def _names_of(
        self, nouns: Points, objects: np.ndarray | None, rng: np.random.Generator
    ) -> Points:
        """What else is true of the nouns: "objects", kinds, synonyms."""
        there = dict(nouns)
        if objects is not None and len(objects):
            there[GENERIC_PROMPT] = objects
            for kind in sorted({kind for noun in nouns for kind in self.bank.kinds(noun)}):
                if rng.random() < 0.5:
                    of_kind = [at for noun, at in nouns.items() if kind in self.bank.kinds(noun)]
                    there[kind] = np.concatenate(of_kind)
        for noun, at in nouns.items():
            others = self.bank.names(noun)[1:]
            if others and rng.random() < 0.3:
                there[str(rng.choice(others))] = at
        return there

    def _with_stranger(self, absent: list[str], rng: np.random.Generator) -> list[str]:
        """Now and then, put a word first that names nothing the network knows."""
        if not self.strangers or rng.random() >= STRANGE:
            return absent
        return [str(rng.choice(self.strangers)), *absent]

    def _absent(
        self, points: Points, photos: Sequence[Photo], complete: bool, rng: np.random.Generator
    ) -> list[str]:
        """What is known to be absent; of completely annotated photos, any other noun as well."""
        given = sorted({prompt for photo in photos for prompt in photo.absent})
        absent = [p for p in given if not any(self.bank.may_be_same(p, noun) for noun in points)]
        if complete:
            others = [
                noun
                for noun in rng.choice(self.bank.nouns, 6, replace=False).tolist()
                if noun not in BACKGROUND
                and not any(
                    self.bank.may_be_same(noun, shown) or self.bank.look_alike(noun, shown)
                    for shown in points
                )
            ]
            absent = [*(absent if rng.random() < 0.6 else []), *others]
        return [absent[i] for i in rng.permutation(len(absent))]


def choose(there: Points, absent: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Choose prompts: mostly of what is there; `absent` in its order."""
    prompts = list(there)
    true = [prompts[i] for i in rng.permutation(len(prompts))]
    chosen = true[: PROMPTS - int(rng.choice(len(ABSENT), p=ABSENT))]
    return [*chosen, *absent[: PROMPTS - len(chosen)]]


def everything(scene: Scene) -> np.ndarray:
    return scene.points_px.get(GENERIC_PROMPT, NOTHING)


def coloured(there: Points) -> Points:
    """The dots of each colour that a scene names."""
    found: Points = {}
    for prompt, at in there.items():
        words = prompt.split()
        if words[0] in ANY and len(words) > 1 and noun_of(prompt) == " ".join(words[1:]):
            found[words[0]] = np.concatenate([found.get(words[0], NOTHING), at])
    return found


def fluoresce(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn dark cells on a bright ground into bright ones on black, in one stain's colour."""
    grey = pixels.astype(np.float32).mean(axis=2)
    light = np.percentile(grey, rng.uniform(80, 97)) - grey
    light = np.clip(light / max(float(np.percentile(light, 99.5)), 1.0), 0, 1)
    light = light ** rng.uniform(0.8, 1.6)
    stains = [(1, 1, 1), (0.15, 1, 0.2), (0.2, 0.35, 1), (1, 0.2, 0.15), (0.1, 0.9, 1)]
    stain = np.array(stains[rng.integers(len(stains))], np.float32)
    shown = light[..., None] * stain * rng.uniform(120, 255) + rng.uniform(0, 18)
    shown = shown + rng.normal(0, rng.uniform(0, 7), pixels.shape)
    return np.clip(shown, 0, 255).astype(np.uint8)
