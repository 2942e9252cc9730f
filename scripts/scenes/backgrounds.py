"""Procedural backgrounds for rendered scenes: cloth, wood, soil, paper, concrete, asphalt, clutter.

A kind and a number determine one background; render.py crops and re-lights them.
"""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from scenes.brush import Floats, Pixels, blend, smooth_noise

GROUND_SIDE_PX = 320
GROUNDS_PER_KIND = 20
PHOTOGRAPHED = 0.2  # share of photos among backgrounds, if there are any
BARE_PHOTOGRAPHED = 0.75  # the same, if nothing lies on them


def _tone(rng: np.random.Generator, vivid: float = 0.25) -> Floats:
    """A colour that grounds have: mostly greyish or brownish, light or dark, seldom vivid."""
    hue = rng.normal(0.09, 0.05) if rng.random() < 0.5 else rng.random()
    saturation = rng.uniform(0.4, 0.9) if rng.random() < vivid else rng.uniform(0, 0.25)
    value = rng.choice([rng.uniform(0.08, 0.3), rng.uniform(0.3, 0.7), rng.uniform(0.75, 1.0)])
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)


def _noise(rng: np.random.Generator, cells: int) -> Floats:
    return smooth_noise(rng, GROUND_SIDE_PX, cells)


def _cloudy(rng: np.random.Generator, first: int = 2, octaves: int = 5) -> Floats:
    """Noise of several scales, about -1..1."""
    total = np.zeros((GROUND_SIDE_PX, GROUND_SIDE_PX), np.float32)
    for octave in range(octaves):
        total += _noise(rng, first * 2**octave) * 0.6**octave
    return total / 1.6


def _grain(rng: np.random.Generator) -> Floats:
    return rng.standard_normal((GROUND_SIDE_PX, GROUND_SIDE_PX), dtype=np.float32)


def _axes(rng: np.random.Generator, turned: bool = True) -> tuple[Floats, Floats]:
    """Coordinates 0..1 across and along, turned by a random angle."""
    steps = np.linspace(0, 1, GROUND_SIDE_PX, dtype=np.float32)
    angle = np.float32(rng.uniform(0, np.pi) if turned else rng.choice([0, np.pi / 2]))
    across, down = steps[None, :], steps[:, None]
    return (
        across * np.cos(angle) + down * np.sin(angle),
        down * np.cos(angle) - across * np.sin(angle),
    )


def _tinted(tone: Floats, light: Floats) -> Floats:
    return tone * (1 + light)[..., None]


def _plain(rng: np.random.Generator) -> Floats:
    across, along = _axes(rng)
    slope = rng.uniform(0, 0.5) * (across - 0.5) + rng.uniform(0, 0.1) * _cloudy(rng, 1, 3)
    return _tinted(_tone(rng), slope + 0.004 * _grain(rng) + 0 * along)


def _white(rng: np.random.Generator) -> Floats:
    tone = np.float32(rng.uniform(0.85, 1.0)) * np.array(
        [1, rng.uniform(0.97, 1), 0.97], np.float32
    )
    return _tinted(tone, 0.06 * _noise(rng, 2) + 0.01 * _grain(rng))


def _dark(rng: np.random.Generator) -> Floats:
    tone = np.float32(rng.uniform(0.05, 0.25)) * np.array(
        [1, 1.0, rng.uniform(0.95, 1.2)], np.float32
    )
    return _tinted(tone, 0.3 * _cloudy(rng, 3) + rng.uniform(0, 0.25) * _grain(rng))


def _cloth(rng: np.random.Generator) -> Floats:
    across, along = _axes(rng)
    threads = rng.uniform(50, 130) * 2 * np.pi
    weave = np.sin(across * threads + _noise(rng, 4)) + np.sin(along * threads + _noise(rng, 4))
    folds = _noise(rng, int(rng.integers(2, 5))) * rng.uniform(0, 0.35)
    tone = _tone(rng, 0.5)
    ground = _tinted(tone, 0.08 * weave + folds + 0.04 * _grain(rng))
    if rng.random() < 0.4:  # stripes or checks
        period = rng.uniform(3, 14) * 2 * np.pi
        bands = np.clip(np.sin(across * period) * 6, 0, 1)
        if rng.random() < 0.5:
            bands = (bands + np.clip(np.sin(along * period) * 6, 0, 1)) / 2
        ground = ground + (_tone(rng, 0.5) - tone) * (bands * rng.uniform(0.3, 1))[..., None]
    return ground


def _wood(rng: np.random.Generator) -> Floats:
    """Planks with grain along them, lying at any angle."""
    side = GROUND_SIDE_PX * 3 // 2  # so that it can be turned
    grain = np.zeros((side, side), np.float32)
    for lines, strength in ((25, 0.09), (90, 0.08), (240, 0.05)):
        streaks = rng.standard_normal((int(rng.integers(3, 9)), lines), dtype=np.float32)
        grain += strength * np.asarray(
            Image.fromarray(streaks).resize((side, side), Image.Resampling.BICUBIC)
        )
    warp = np.cumsum(smooth_noise(rng, side, 6), 0) * 0.1
    planks = rng.uniform(2, 9)
    place = np.linspace(0, planks, side, dtype=np.float32)
    shades = rng.standard_normal(12).astype(np.float32)[place.astype(int)] * rng.uniform(0.02, 0.16)
    gap = np.clip(np.minimum(place % 1, 1 - place % 1) * side / planks / 2.5, 0.25, 1)
    tone = np.array([0.62, 0.42, 0.25], np.float32) * np.float32(rng.uniform(0.4, 1.45))
    tone = tone + np.float32(rng.uniform(0, 0.5)) * (tone.mean() - tone)
    rings = rng.uniform(0, 0.08) * np.sin(place[None, :] * 20 + warp)
    wood = _tinted(tone, grain + shades[None, :] + rings) * gap[None, :, None]
    picture = Image.fromarray((np.clip(wood, 0, 1) * 255).astype(np.uint8))
    turned = picture.rotate(rng.uniform(0, 90), Image.Resampling.BILINEAR)
    edge = (side - GROUND_SIDE_PX) // 2
    crop = turned.crop((edge, edge, edge + GROUND_SIDE_PX, edge + GROUND_SIDE_PX))
    return np.asarray(crop, np.float32) / 255


def _soil(rng: np.random.Generator) -> Floats:
    tone = np.array([0.4, 0.3, 0.2], np.float32) * np.float32(rng.uniform(0.5, 1.8))
    lumps = 0.35 * _cloudy(rng, 6) + 0.25 * _noise(rng, 60) + 0.12 * _grain(rng)
    return _tinted(tone, lumps)


def _gravel(rng: np.random.Generator) -> Floats:
    from scipy.spatial import cKDTree

    cells = int(rng.integers(300, 2500))
    spots = rng.random((cells, 2)).astype(np.float32)
    steps = np.linspace(0, 1, GROUND_SIDE_PX, dtype=np.float32)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    distance, nearest = cKDTree(spots).query(grid, k=2)
    shape = (GROUND_SIDE_PX, GROUND_SIDE_PX)
    shade = (rng.random(cells).astype(np.float32) - 0.5)[nearest[:, 0]].reshape(shape)
    seam = np.clip((distance[:, 1] - distance[:, 0]) * cells**0.5 * 2.5, 0, 1).reshape(shape)
    light = 0.5 * shade + 0.6 * (seam.astype(np.float32) - 0.8) + 0.08 * _grain(rng)
    return _tinted(_tone(rng, 0.05) * 0.8 + 0.1, light)


def _concrete(rng: np.random.Generator) -> Floats:
    tone = np.float32(rng.uniform(0.3, 0.8)) * np.array(
        [1, 0.99, rng.uniform(0.92, 1.02)], np.float32
    )
    light = rng.uniform(0.08, 0.25) * _cloudy(rng, 3) + rng.uniform(0.02, 0.1) * _grain(rng)
    return _tinted(tone, light)


def _street(rng: np.random.Generator) -> Floats:
    ground = _concrete(rng) * np.float32(rng.uniform(0.5, 1.0))
    across, along = _axes(rng, turned=bool(rng.random() < 0.5))
    lines = np.clip(1 - np.abs((across * rng.uniform(3, 9)) % 1 - 0.5) * rng.uniform(60, 90), 0, 1)
    rows = (along * rng.uniform(1, 3)) % 1 < rng.uniform(0.3, 1)
    return blend(ground, (0.8, 0.8, 0.78), lines * rows * rng.uniform(0, 0.9))


def _grass(rng: np.random.Generator) -> Floats:
    tone = np.array([rng.uniform(0.2, 0.45), rng.uniform(0.4, 0.6), 0.15], np.float32)
    blades = 0.3 * _noise(rng, 100) + 0.25 * _grain(rng) + 0.25 * _cloudy(rng, 5)
    return _tinted(tone, blades)


def _water(rng: np.random.Generator) -> Floats:
    tone = np.array(
        [rng.uniform(0.05, 0.35), rng.uniform(0.3, 0.65), rng.uniform(0.5, 0.8)], np.float32
    )
    waves = np.sin(_cloudy(rng, 4, 4) * rng.uniform(4, 12))
    return _tinted(tone, 0.12 * waves + 0.15 * _noise(rng, 3))


def _sky(rng: np.random.Generator) -> Floats:
    steps = np.linspace(1, 0, GROUND_SIDE_PX, dtype=np.float32)[:, None]
    blue = np.array([rng.uniform(0.3, 0.6), rng.uniform(0.5, 0.75), rng.uniform(0.7, 0.95)])
    evening = np.array([0.9, rng.uniform(0.55, 0.8), rng.uniform(0.4, 0.75)])
    high, low = (blue, evening) if rng.random() < 0.4 else (blue, blue * 0.4 + 0.6)
    clouds = np.clip(_cloudy(rng, 2) + rng.uniform(-0.6, 0.4), 0, 1) * rng.uniform(0.2, 1)
    ground = blend(_tinted(low, 0 * clouds), high, steps + 0 * clouds)
    return blend(ground, (rng.uniform(0.45, 1),) * 3, clouds) * np.float32(rng.uniform(0.6, 1.1))


def _clutter(rng: np.random.Generator) -> Floats:
    """A room out of focus: soft patches of several colours."""
    ground = _tinted(_tone(rng), np.zeros((GROUND_SIDE_PX, GROUND_SIDE_PX), np.float32))
    for _ in range(int(rng.integers(6, 30))):
        ground = blend(ground, _tone(rng, 0.4), _patch(rng))
    picture = Image.fromarray((np.clip(ground, 0, 1) * 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 12)))
    return _tinted(np.asarray(picture, np.float32) / 255, 0.03 * _grain(rng))


def _patch(rng: np.random.Generator, round_only: bool = False) -> Floats:
    """A filled ellipse or box somewhere, 0 or 1."""
    across, along = _axes(rng)
    centre = rng.integers(0, GROUND_SIDE_PX, 2)
    x = (across - across[centre[0], centre[1]]) / rng.uniform(0.03, 0.3)
    y = (along - along[centre[0], centre[1]]) / rng.uniform(0.03, 0.3)
    box = rng.random() < 0.5 and not round_only
    far = np.maximum(np.abs(x), np.abs(y)) if box else np.hypot(x, y)
    inside: Floats = np.float32(1) * (far < 1)
    return inside


def _tissue(rng: np.random.Generator) -> Floats:
    """What lies behind cells under the microscope: pale, or stained pink with white gaps."""
    pale = _tinted(np.full(3, rng.uniform(0.88, 0.98), np.float32), 0.01 * _grain(rng))
    stain = np.array(
        [rng.uniform(0.75, 0.95), rng.uniform(0.5, 0.85), rng.uniform(0.7, 0.92)], np.float32
    )
    fibres = rng.uniform(0, 0.15) * _noise(rng, 40) + rng.uniform(0, 0.15) * _cloudy(rng, 12)
    cover = np.clip(0.4 + rng.uniform(0, 1.2) * _cloudy(rng, 3), 0, 1) * rng.uniform(0.1, 1)
    if rng.random() < 0.4:  # fat cells leave round holes in the stain
        cover = np.ones_like(cover)
        for _ in range(int(rng.integers(2, 9))):
            cover = cover * (1 - _patch(rng, round_only=True))
    return blend(pale, _tinted(stain, fibres), cover)


KINDS: dict[str, Callable[[np.random.Generator], Floats]] = {
    "plain": _plain,
    "white": _white,
    "dark": _dark,
    "cloth": _cloth,
    "wood": _wood,
    "soil": _soil,
    "gravel": _gravel,
    "concrete": _concrete,
    "street": _street,
    "grass": _grass,
    "water": _water,
    "sky": _sky,
    "clutter": _clutter,
    "tissue": _tissue,
}
SUITED = {  # the kinds for each `Noun.ground`, the common ones named more than once
    "any": "plain plain white white dark cloth cloth wood wood concrete soil gravel clutter",
    "microscope": "tissue tissue tissue white",
    "street": "street street concrete concrete grass",
    "sky": "sky sky sky water plain",
    "water": "water water water dark plain",
    "shore": "water soil gravel concrete plain",
    "dark": "dark dark wood cloth clutter",
    "ground": "soil gravel concrete grass dark wood plain clutter",
}


def lay_plate(picture: Floats, radius_px: float, rng: np.random.Generator) -> Floats:
    """Put a plate, a bowl or a tray in the middle of a ground; (side, side, 3) in 0..255."""
    side = picture.shape[0]
    steps = np.arange(side, dtype=np.float32) - side / 2
    across, down = np.abs(steps)[None, :], np.abs(steps)[:, None]
    power = float(rng.choice([2, 2, 2, 8]))  # 8: a tray with round corners
    far = (across**power + down**power) ** np.float32(1 / power) / np.float32(radius_px * 1.18)
    cover = np.clip((1 - far) * radius_px, 0, 1)[..., None]
    shadow = np.clip((1.12 - far) * 8, 0, 1)[..., None] * np.float32(rng.uniform(0.1, 0.5))
    rim = np.clip(1 - np.abs(far - rng.uniform(0.84, 0.94)) * 25, 0, 1) * rng.uniform(-0.2, 0.15)
    slope = (steps[None, :] + steps[:, None]) * np.float32(rng.uniform(-0.25, 0.25) / side)
    pale = np.float32(rng.uniform(0.8, 1)) * np.array([1, 0.99, 0.97], np.float32)
    tone = (pale if rng.random() < 0.65 else _tone(rng, 0.4)) * 255
    plate = tone * (1 + rim + slope)[..., None]
    below = picture * (1 - shadow)
    return np.asarray(below + (plate - below) * cover, np.float32)


@cache
def ground(kind: str, number: int, part: str = "train") -> Pixels:
    """Paint ground `number` of a kind; (320, 320, 3) uint8."""
    rng = np.random.Generator(np.random.PCG64([zlib.crc32(f"{kind}/{part}".encode()), number]))
    return (np.clip(KINDS[kind](rng), 0, 1) * 255).astype(np.uint8)


def read_ground(path: Path) -> Pixels:
    """Read a photo as a background: its middle square; (320, 320, 3) uint8."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    fitted = ImageOps.fit(picture, (GROUND_SIDE_PX, GROUND_SIDE_PX), Image.Resampling.LANCZOS)
    return np.asarray(fitted)


def pick_ground(
    suited: str,
    side_px: int,
    rng: np.random.Generator,
    part: str,
    photographs: Sequence[Pixels],
    bare: bool = False,
) -> Floats:
    """Choose a ground for things of `Noun.ground`; a random crop, (side, side, 3) in 0..255.

    photographs: also used, except for the microscope; mostly out of focus.
    bare: nothing will lie on it, so it is mostly a photo, and a sharp one.
    """
    kind = str(rng.choice(SUITED[suited].split()))
    pixels = ground(kind, int(rng.integers(GROUNDS_PER_KIND)), part)
    share = BARE_PHOTOGRAPHED if bare else PHOTOGRAPHED
    photographed = suited != "microscope" and bool(rng.random() < share) and bool(photographs)
    if photographed:
        pixels = photographs[int(rng.integers(len(photographs)))]
    crop_px = int(GROUND_SIDE_PX * rng.uniform(0.45, 1.0))
    left, top = rng.integers(0, GROUND_SIDE_PX - crop_px + 1, 2)
    box = (int(left), int(top), int(left) + crop_px, int(top) + crop_px)
    crop = Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BILINEAR, box)
    if photographed and rng.random() < (0.2 if bare else 0.75):
        crop = crop.filter(ImageFilter.BoxBlur(rng.uniform(1, 8) * side_px / 224))
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.TRANSPOSE)
    return np.asarray(crop, np.float32)
