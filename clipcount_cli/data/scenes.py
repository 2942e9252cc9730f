"""Rendered scenes with known dots: what the embedded model learns from, and is tested on.

Sprites for scenes, step 4 of 4: brush.py -> drawings.py -> catalogue.py -> [scenes.py]
A scene follows from (seed, catalogue, config, part) alone, on any machine.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from clipcount_cli.data.backgrounds import lay_plate, pick_ground
from clipcount_cli.data.brush import Floats, Pixels
from clipcount_cli.data.catalogue import Catalogue, Cutout, vocabulary
from clipcount_cli.data.layout import Layout, draw_count, draw_size, in_perspective, lay_out
from clipcount_cli.data.nouns import ANY, EDIBLE, STRANGERS
from clipcount_cli.data.painting import Canvas, Light, Stamp, make_stamp, photograph

__all__ = ["Catalogue", "Cutout", "Scene", "SceneConfig", "render_scene", "vocabulary"]


@dataclass(frozen=True)
class SceneConfig:
    """How scenes are drawn; probabilities are shares of scenes."""

    side_px: int = 224  # everything scales with it
    empty: float = 0.04  # nothing but ground: every prompt is absent
    second_class: float = 0.55
    third_class: float = 0.3  # of the scenes with a second
    same_noun: float = 0.45  # a further class is the same noun in another colour
    grey: float = 0.07  # a photograph without colour: no colour is named
    assorted: float = 0.14  # one noun in three to six colours
    perspective: float = 0.2
    plate: float = 0.12  # things lie on a plate, or in a tray
    most_objects: int = 700
    least_visible: float = 0.3  # of an object, or it has no dot
    stamps: int = 14  # different looks a scene, shared among its classes: bounds the cost
    absent_prompts: int = 8


@dataclass(frozen=True)
class Group:
    """One class of a scene: so many of a noun in a colour."""

    noun: str
    colour: str  # "" where it is not named
    count: int


@dataclass(frozen=True)
class Scene:
    """A picture, the dots of every prompt that is true of it, and prompts that are not.

    pixels: (side, side, 3) uint8; points_px: prompt -> (K, 2) as (x, y); absent: hard ones first.
    """

    pixels: Pixels
    points_px: dict[str, Floats]
    absent: tuple[str, ...]


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
    ground = pick_ground(suited, config.side_px, rng, part, catalogue.photographs(part))
    light = Light.drawn(rng, shadows=suited != "microscope" and bool(rng.random() < 0.9))
    picture, dots = _compose(groups, catalogue, config, ground, light, rng, part)
    pixels = photograph(picture, rng, grey)
    upright = any(catalogue.nouns[group.noun].upright for group in groups)
    pixels, dots = _mirror(pixels, dots, upright, rng)
    points = _true_prompts(groups, dots, catalogue, grey, rng)
    return Scene(pixels, points, _absent_prompts(groups, points, catalogue, config, grey, rng))


def _plan(catalogue: Catalogue, config: SceneConfig, rng: np.random.Generator) -> list[Group]:
    """Choose one to three classes and how many of each."""
    if rng.random() < config.empty:
        return []
    names = sorted(catalogue.nouns)
    weights = np.array([catalogue.nouns[name].weight for name in names])
    total = min(draw_count(rng), config.most_objects)
    if rng.random() < 0.08:
        total = int(rng.integers(1, 8))
    if rng.random() < config.assorted:
        return _assortment(catalogue, total, rng)
    classes = 1 + int(rng.random() < config.second_class)
    classes += int(classes == 2 and rng.random() < config.third_class)
    groups: list[Group] = []
    for place in range(classes):
        noun = str(rng.choice(names, p=weights / weights.sum()))
        if groups and rng.random() < config.same_noun and catalogue.nouns[groups[0].noun].colours:
            noun = groups[0].noun
        elif groups and not _fits(noun, groups, catalogue):
            continue
        used = [group.colour for group in groups if group.noun == noun]
        free = [name for name in catalogue.nouns[noun].colours if name not in used]
        if used and not free:
            continue
        count = total if place == 0 else max(1, round(total * rng.uniform(0.1, 1.0)))
        groups.append(Group(noun, str(rng.choice(free)) if free else "", count))
    most = config.most_objects / max(sum(group.count for group in groups), config.most_objects)
    return [replace(group, count=max(1, int(group.count * most))) for group in groups]


def _assortment(catalogue: Catalogue, total: int, rng: np.random.Generator) -> list[Group]:
    """One noun in many colours, such as sweets or parked cars."""
    rows = [noun for _, noun in sorted(catalogue.nouns.items()) if len(noun.colours) > 2]
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
    """Whether a further noun can be told from those already there, and lies on such ground."""
    new = catalogue.nouns[noun]
    present = [catalogue.nouns[group.noun] for group in groups]
    if any(noun == old.plural or (new.akin and new.akin == old.akin) for old in present):
        return False
    return all((new.ground == "microscope") == (old.ground == "microscope") for old in present)


def _compose(
    groups: list[Group],
    catalogue: Catalogue,
    config: SceneConfig,
    ground: Floats,
    light: Light,
    rng: np.random.Generator,
    part: str,
) -> tuple[Floats, list[Floats]]:
    """Paint every group; returns the picture and the (K, 2) dots of each group that are seen."""
    if not groups:
        return ground, []
    total = sum(group.count for group in groups)
    size = draw_size(total, config.side_px, rng)
    # Wholly hidden things have no dot, so heaps overlap less than FSC-147's closest pairs
    room_px = config.side_px
    if rng.random() < config.plate and catalogue.nouns[groups[0].noun].ground == "any":
        room_px = round(config.side_px * rng.uniform(0.5, 0.75))
        ground = lay_plate(ground, room_px * rng.uniform(0.5, 0.62), rng)
    layout = lay_out(total, min(size, room_px / 3), room_px, rng, overlap=0.45)
    layout = replace(layout, centres_px=layout.centres_px + (config.side_px - room_px) / 2)
    if rng.random() < config.perspective:
        layout = in_perspective(layout, config.side_px, rng)
    owners = _share_out(groups, layout, rng)
    mean = ground[::8, ::8].mean((0, 1))
    stamps = [
        _stamps(group, len(groups), catalogue, config, layout, mean, light, rng, part)
        for group in groups
    ]
    margin = max(max(stamp.solid.shape) for row in stamps for stamp in row) + 2
    canvas = Canvas(ground, margin)
    turns = rng.integers(0, 1 << 30, total)
    for owner, centre, turn in zip(owners, layout.centres_px.tolist(), turns.tolist(), strict=True):
        row = stamps[owner]
        canvas.put(row[turn % len(row)], centre)
    seen = canvas.visible() >= config.least_visible
    centres = np.clip(layout.centres_px, 0, config.side_px - 1)
    return canvas.picture(), [centres[(owners == g) & seen] for g in range(len(groups))]


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
    catalogue: Catalogue,
    config: SceneConfig,
    layout: Layout,
    mean: Floats,
    light: Light,
    rng: np.random.Generator,
    part: str,
) -> list[Stamp]:
    """Make the different looks of one group."""
    noun = catalogue.nouns[group.noun]
    looks = min(group.count, max(3, config.stamps // classes))
    alike = not noun.round and not noun.upright and rng.random() < 0.4
    angle = float(rng.uniform(0, 2 * np.pi)) if alike else None
    cutouts = catalogue.cutouts(group.noun, group.colour, rng, looks, part, angle)
    if rng.random() < 0.3:  # all of one make
        cutouts = [cutouts[i % max(1, looks // 4)] for i in range(looks)]
    nominal = np.mean([np.sqrt(np.prod(cutout.rgba.shape[:2])) for cutout in cutouts])
    relative = layout.size_px * float(np.exp(rng.normal(0, 0.1))) / nominal
    spread = float(rng.choice([0.02, 0.06, 0.15]))
    stamps = []
    for cutout in cutouts:
        tilt = float(np.degrees(cutout.angle - angle)) if angle is not None else 0.0
        tilt = (tilt + 180) % 360 - 180 + float(rng.normal(0, 3))
        scale = relative * float(np.exp(rng.normal(0, spread)))
        tilt = tilt if not noun.round else 0.0
        stamps.append(make_stamp(cutout, scale, tilt, mean, light))
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


def _true_prompts(
    groups: list[Group],
    dots: list[Floats],
    catalogue: Catalogue,
    grey: bool,
    rng: np.random.Generator,
) -> dict[str, Floats]:
    """Name what is there: nouns, colours, kinds, everything."""
    members: dict[str, list[int]] = {}
    coloured = bool(groups) and all(group.colour for group in groups) and not grey
    say_food, say_kinds, say_singular, say_synonym = rng.random(4) < (0.3, 0.6, 0.15, 0.3)
    for index, group in enumerate(groups):
        noun = catalogue.nouns[group.noun]
        names = [noun.plural, "objects"]
        if group.colour and not grey:
            names.append(f"{group.colour} {noun.plural}")
        if coloured:
            names.append(f"{group.colour} objects")
        if say_singular:
            names.append(noun.singular)
        if say_synonym:
            names.extend(noun.synonyms)
        if say_kinds:
            names.extend(noun.kinds)
        if say_food and set(noun.kinds) & set(EDIBLE):
            names.append("food")
        for name in dict.fromkeys(names):
            members.setdefault(name, []).append(index)
    points = {name: np.concatenate([dots[i] for i in rows]) for name, rows in members.items()}
    if coloured and rng.random() < 0.6:
        points = {name: at for name, at in points.items() if not name.endswith(" objects")}
    return {name: at for name, at in points.items() if len(at)}


def _absent_prompts(
    groups: list[Group],
    points: dict[str, Floats],
    catalogue: Catalogue,
    config: SceneConfig,
    grey: bool,
    rng: np.random.Generator,
) -> tuple[str, ...]:
    """Name what is not there: the same noun in other colours, look-alikes, others, strangers."""
    hard: list[str] = []
    present = [catalogue.nouns[group.noun] for group in groups]
    groups_of = {noun.akin for noun in present if noun.akin}
    kinds = {kind for noun in present for kind in noun.kinds}
    if kinds & set(EDIBLE):
        kinds.add("food")
    others = [
        noun
        for name, noun in sorted(catalogue.nouns.items())
        if noun not in present and noun.akin not in groups_of and noun.plural not in kinds
    ]
    others = [others[i] for i in rng.permutation(len(others))[:12]]
    for group, noun in zip(groups, present, strict=True):
        colours = {other.colour for other in groups if other.noun == group.noun}
        unused = [colour for colour in ANY if colour not in colours]
        if group.colour and not grey:
            hard.extend(f"{unused[i]} {noun.plural}" for i in rng.permutation(len(unused))[:2])
            same = [other for other in others if group.colour in other.colours]
            hard.extend(f"{group.colour} {other.plural}" for other in same[:1])
    easy = [other.plural for other in others[:5]]
    easy.extend(kind for other in others[5:7] for kind in other.kinds if kind not in kinds)
    easy.extend(f"{rng.choice(o.colours)} {o.plural}" for o in others[7:9] if o.colours)
    strange = [str(word) for word in rng.choice(STRANGERS, 2) if word not in catalogue.nouns]
    easy = easy[:3] + strange + easy[3:]
    if not groups:
        easy = ["objects", *easy]
    names = [name for name in dict.fromkeys([*hard, *easy]) if name not in points]
    return tuple(names[: config.absent_prompts])
