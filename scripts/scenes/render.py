"""Rendered scenes with known dots, on which the embedded model is trained and tested.

Sprites for scenes, step 4 of 4: brush.py -> drawings.py -> catalogue.py -> [render.py]
A scene depends on (seed, catalogue, config, part) alone, on any machine.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from scenes.backgrounds import lay_plate, pick_ground
from scenes.brush import Floats, Pixels
from scenes.catalogue import Catalogue, Cutout, vocabulary
from scenes.compose import Canvas, Light, Stamp, make_stamp, photograph
from scenes.layout import (
    Layout,
    draw_count,
    draw_size,
    in_perspective,
    lay_out,
    park,
    smallest_size,
)
from scenes.nouns import SIZES, Noun, named_alike
from scenes.wording import Group, absent_prompts, true_prompts

FEW = 25  # things that may be seen from nearby, at most
MIN_SMALL = 0.4  # how large small things are beside large ones

__all__ = ["Catalogue", "Cutout", "Scene", "SceneConfig", "render_scene", "vocabulary"]


@dataclass(frozen=True)
class SceneConfig:
    """How scenes are drawn; probabilities are shares of scenes."""

    side_px: int = 224  # everything scales with it
    crowded: float = 0.0  # show the larger of two drawn counts
    near: float = 0.0  # of the scenes with few things: they are seen from nearby
    far: float = 0.0  # are seen from further away: everything is smaller
    empty: float = 0.04  # nothing but ground: every prompt is absent
    second_class: float = 0.55
    third_class: float = 0.3  # of the scenes with a second
    same_noun: float = 0.45  # a further class is the same noun in another colour
    two_sizes: float = 0.0  # the first noun in two sizes, which are named
    materials: float = 0.0  # of the classes that may be: of one material, which is named
    grey: float = 0.07  # an image without colour: no colour is named
    assorted: float = 0.14  # one noun in three to six colours
    perspective: float = 0.2
    parked: float = 0.6  # of the scenes with cars: side by side in rows
    filled: float = 0.12  # one heap covers everything
    filled_heap: float = 0.4  # the same, for nouns that are often heaped
    alike: float = 0.4  # long things all lie in one direction
    one_make: float = 0.4  # things of one class are copies of few individuals
    plate: float = 0.12  # things lie on a plate, or in a tray
    max_objects: int = 700
    min_visible: float = 0.3  # of an object, or it has no dot
    stamps: int = 14  # different looks per scene, shared among its classes: bounds the cost
    absent_prompts: int = 8


@dataclass(frozen=True)
class Setting:
    """What all groups of one scene share."""

    catalogue: Catalogue
    config: SceneConfig
    light: Light
    part: str


@dataclass(frozen=True)
class Arrangement:
    """Where things lie, the ground (perhaps with a plate), and how they are turned."""

    layout: Layout
    ground: Floats
    angle: float | None = None  # all things are turned like this
    upright: bool = False  # the far side is up: the picture must not be turned


@dataclass(frozen=True)
class Scene:
    """A picture, the dots of every prompt that is true of it, and prompts that are not.

    pixels: (side, side, 3) uint8; points_px: prompt -> (K, 2) as (x, y); absent: hard ones first;
    size_px: of the objects (square root of the box), 0 if there are none.
    """

    pixels: Pixels
    points_px: dict[str, Floats]
    absent: tuple[str, ...]
    size_px: float = 0.0


def render_scene(
    seed: int, catalogue: Catalogue, config: SceneConfig | None = None, part: str = "train"
) -> Scene:
    """Render scene number `seed`; part "test" shows cut-outs and grounds kept from "train"."""
    config = config or SceneConfig()
    rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(part.encode())]))
    groups = _plan(catalogue, config, rng)
    grey = bool(rng.random() < config.grey)
    suited = catalogue.nouns[groups[0].noun].ground if groups else "any"
    if rng.random() < 0.2 and suited != "microscope":
        suited = "any"
    photographs = catalogue.photographs(part)
    ground = pick_ground(suited, config.side_px, rng, part, photographs, bare=not groups)
    shadows = suited not in ("microscope", "sky") and bool(rng.random() < 0.9)
    light = Light.drawn(rng, shadows)
    setting = Setting(catalogue, config, light, part)
    picture, dots, upright, size_px = _compose(groups, ground, setting, rng)
    pixels = photograph(picture, rng, grey)
    pixels, dots = _mirror(pixels, dots, upright, rng)
    points = true_prompts(groups, dots, catalogue.nouns, grey, rng)
    absent = absent_prompts(groups, points, catalogue.nouns, grey, rng)
    return Scene(pixels, points, tuple(absent[: config.absent_prompts]), size_px)


def _plan(catalogue: Catalogue, config: SceneConfig, rng: np.random.Generator) -> list[Group]:
    """Choose one to three classes and how many of each."""
    if rng.random() < config.empty:
        return []
    names = sorted(catalogue.nouns)
    weights = np.array([catalogue.nouns[name].weight for name in names])
    total = draw_count(rng)
    if _chance(config.crowded, rng):
        total = max(total, draw_count(rng))
    total = min(total, config.max_objects)
    if rng.random() < 0.08:
        total = int(rng.integers(1, 8))
    many = [noun for _, noun in sorted(catalogue.nouns.items()) if len(noun.colours) > 2]
    if many and rng.random() < config.assorted:
        return _assortment(many, total, rng)
    classes = 1 + int(rng.random() < config.second_class)
    classes += int(classes == 2 and rng.random() < config.third_class)
    groups: list[Group] = []
    for place in range(classes):
        noun = str(rng.choice(names, p=weights / weights.sum()))
        if groups and rng.random() < config.same_noun and groups[0].look:
            noun = groups[0].noun
        elif groups and not _fits(noun, groups, catalogue):
            continue
        used = [group.look for group in groups if group.noun == noun]
        free = _free_looks(catalogue.nouns[noun], used, config, rng)
        if used and not free:
            continue
        count = total if place == 0 else max(1, round(total * rng.uniform(0.1, 1.0)))
        groups.append(Group(noun, str(rng.choice(free)) if free else "", count))
    if total > 1 and _chance(config.two_sizes, rng):
        groups = _in_two_sizes(groups, rng)
    most = config.max_objects / max(sum(group.count for group in groups), config.max_objects)
    return [replace(group, count=max(1, int(group.count * most))) for group in groups]


def _free_looks(
    noun: Noun, used: list[str], config: SceneConfig, rng: np.random.Generator
) -> list[str]:
    """The colours, or sometimes materials, that set a noun's next group apart from those in use."""
    of_material = bool(noun.materials) and (
        any(look in noun.materials for look in used) or _chance(config.materials, rng)
    )
    looks = noun.materials if of_material else noun.colours
    return [look for look in looks if not any(named_alike(look, other) for other in used)]


def _in_two_sizes(groups: list[Group], rng: np.random.Generator) -> list[Group]:
    """Make some things of the first group smaller; others of that noun would be neither."""
    first, size = groups[0], str(rng.choice(list(SIZES)))
    smaller = min(max(1, round(first.count * rng.uniform(0.2, 0.8))), first.count - 1)
    return [
        replace(first, count=first.count - smaller, size=size),
        replace(first, count=smaller, size=SIZES[size]),
        *(group for group in groups[1:] if group.noun != first.noun),
    ]


def _chance(share: float, rng: np.random.Generator) -> bool:
    """True in `share` of the calls; what is never wanted draws nothing, and changes no scene."""
    return share > 0 and bool(rng.random() < share)


def _assortment(rows: list[Noun], total: int, rng: np.random.Generator) -> list[Group]:
    """One noun in many colours, such as sweets or parked cars."""
    weights = np.array([noun.weight for noun in rows])
    noun = rows[int(rng.choice(len(rows), p=weights / weights.sum()))]
    classes = min(int(rng.integers(3, 7)), len(noun.colours), total)
    shares = rng.dirichlet(np.full(classes, 3.0)) * total
    colours = rng.permutation(noun.colours)[:classes]
    return [
        Group(noun.plural, str(colour), max(1, round(share)))
        for colour, share in zip(colours, shares, strict=True)
    ]


def _fits(noun: str, groups: list[Group], catalogue: Catalogue) -> bool:
    """Whether another noun is unlike those already there, and lies on such a background."""
    new = catalogue.nouns[noun]
    present = [catalogue.nouns[group.noun] for group in groups]
    if any(noun == old.plural or set(new.akin) & set(old.akin) for old in present):
        return False
    return all((new.ground == "microscope") == (old.ground == "microscope") for old in present)


def _arrange(
    groups: list[Group], ground: Floats, setting: Setting, rng: np.random.Generator
) -> Arrangement:
    """Decide where everything lies, and on what."""
    side_px, first = setting.config.side_px, setting.catalogue.nouns[groups[0].noun]
    total = sum(group.count for group in groups)
    size_px = draw_size(total, side_px, rng)
    if _chance(setting.config.far, rng):
        size_px = max(size_px * rng.uniform(0.35, 0.8), smallest_size(side_px))
    if total <= FEW and _chance(setting.config.near, rng):
        largest_px = side_px * 0.8 / np.sqrt(total)
        size_px = max(size_px, min(size_px * rng.uniform(1.3, 3.0), largest_px))
    if groups[0].size:
        size_px = max(size_px, smallest_size(side_px) / MIN_SMALL)
    if first.plural == "cars" and rng.random() < setting.config.parked:
        slant = float(np.pi / 2 + rng.normal(0, 0.15))
        return Arrangement(park(total, size_px, side_px, rng), ground, slant)
    room_px = side_px
    if rng.random() < setting.config.plate and first.ground == "any":
        room_px = round(side_px * rng.uniform(0.5, 0.75))
        ground = lay_plate(ground, room_px * rng.uniform(0.5, 0.62), rng)
    filled = setting.config.filled_heap if first.heaped else setting.config.filled
    apart = first.apart if rng.random() < 0.75 else 0.5  # now and then a heap whatever it is
    layout = lay_out(total, min(size_px, room_px / 3), room_px, rng, overlap=apart, filled=filled)
    layout = replace(layout, centres_px=layout.centres_px + (side_px - room_px) / 2)
    # What is far looks small, whatever its size
    tilted = bool(rng.random() < setting.config.perspective) and not groups[0].size
    if tilted:
        layout = in_perspective(layout, side_px, rng)
    return Arrangement(layout, ground, upright=tilted)


def _compose(
    groups: list[Group], ground: Floats, setting: Setting, rng: np.random.Generator
) -> tuple[Floats, list[Floats], bool, float]:
    """Paint every group; returns the picture, each group's visible dots, what is up, the size."""
    if not groups:
        return ground, [], False, 0.0
    arranged = _arrange(groups, ground, setting, rng)
    layout = arranged.layout
    owners = _share_out(groups, layout, rng)
    mean = arranged.ground[::8, ::8].mean((0, 1))
    stamps = [_stamps(group, len(groups), arranged, mean, setting, rng) for group in groups]
    margin = max(max(stamp.solid.shape) for row in stamps for stamp in row) + 2
    canvas = Canvas(arranged.ground, margin)
    ranks = np.argsort(np.argsort(layout.scales, kind="stable"), kind="stable") / len(owners)
    ranks = ranks + rng.uniform(-0.1, 0.1, len(owners))  # a look of about the right size
    for owner, centre, rank in zip(
        owners.tolist(), layout.centres_px.tolist(), ranks.tolist(), strict=True
    ):
        row = stamps[owner]
        canvas.put(row[min(max(int(rank * len(row)), 0), len(row) - 1)], centre)
    seen = canvas.visible() >= setting.config.min_visible
    centres = np.clip(layout.centres_px, 0, setting.config.side_px - 1)
    dots = [centres[(owners == index) & seen] for index in range(len(groups))]
    upright = arranged.upright or any(
        setting.catalogue.nouns[group.noun].upright for group in groups
    )
    return canvas.picture(), dots, upright, layout.size_px


def _share_out(groups: list[Group], layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Decide which group each place belongs to: mixed, or each on its own side."""
    owners = np.repeat(np.arange(len(groups)), [group.count for group in groups])
    if len(groups) == 1 or rng.random() < 0.55:
        return rng.permutation(owners)
    angle = rng.uniform(0, 2 * np.pi)
    along = layout.centres_px @ np.array([np.cos(angle), np.sin(angle)])
    along = along + rng.normal(0, 1, len(along)) * layout.size_px * rng.choice([0, 0.5, 1.5])
    shared = np.empty_like(owners)
    shared[np.argsort(along, kind="stable")] = owners
    return shared


def _stamps(
    group: Group,
    classes: int,
    arranged: Arrangement,
    mean: Floats,
    setting: Setting,
    rng: np.random.Generator,
) -> list[Stamp]:
    """Make the different looks of one group, from the smallest to the largest."""
    noun = setting.catalogue.nouns[group.noun]
    looks = min(group.count, max(3, setting.config.stamps // classes))
    angle = arranged.angle
    if (
        angle is None
        and not noun.round
        and not noun.upright
        and rng.random() < setting.config.alike
    ):
        angle = float(rng.uniform(0, 2 * np.pi))
    cutouts = setting.catalogue.cutouts(group.noun, group.look, rng, looks, setting.part, angle)
    if rng.random() < setting.config.one_make:
        cutouts = [cutouts[i % max(1, looks // 4)] for i in range(looks)]
    nominal = np.mean([np.sqrt(np.prod(cutout.rgba.shape[:2])) for cutout in cutouts])
    relative = arranged.layout.size_px * float(np.exp(rng.normal(0, 0.1))) / nominal
    if group.is_smaller:
        relative *= float(rng.uniform(MIN_SMALL, 0.6))
    scales = np.quantile(arranged.layout.scales, (np.arange(looks) + 0.5) / looks) * relative
    stamps = []
    for cutout, scale in zip(cutouts, scales.tolist(), strict=True):
        tilt = 0.0  # individuals lie at angles of their own
        if angle is not None:
            tilt = float((np.degrees(cutout.angle - angle) + 180) % 360 - 180 + rng.normal(0, 3))
        stamps.append(make_stamp(cutout, scale, tilt, mean, setting.light))
    return stamps


def _mirror(
    pixels: Pixels, dots: list[Floats], upright: bool, rng: np.random.Generator
) -> tuple[Pixels, list[Floats]]:
    """Mirror and transpose, so that the light comes from anywhere (upright things stay upright)."""
    last = pixels.shape[0] - 1
    across, down, swap = rng.random(3) < 0.5
    if across:
        pixels = pixels[:, ::-1]
        dots = [np.stack([last - d[:, 0], d[:, 1]], 1) for d in dots]
    if down and not upright:
        pixels = pixels[::-1]
        dots = [np.stack([d[:, 0], last - d[:, 1]], 1) for d in dots]
    if swap and not upright:
        pixels = pixels.transpose(1, 0, 2)
        dots = [d[:, ::-1] for d in dots]
    return np.ascontiguousarray(pixels), [np.ascontiguousarray(d, np.float32) for d in dots]
