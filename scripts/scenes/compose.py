"""Paste cut-outs on a background: one light, a soft shadow, occlusion, and then a camera.

`Canvas` remembers which object owns each pixel, so that hidden objects lose their dot.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from scenes.brush import Floats, Pixels
from scenes.catalogue import Cutout

SOLID = 0.4  # a pixel with this much alpha hides what is below


@dataclass(frozen=True)
class Light:
    """The light of one scene. It comes from the upper left, as drawn; scenes are then mirrored."""

    shadow_strength: float  # 0..1
    shadow_reach: float  # in object sizes, towards the lower right
    shadow_blur: float  # in object sizes
    pull: float  # how far colours are drawn towards the ground's mean, 0..1
    gain: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, shadows: bool) -> Light:
        return cls(
            shadow_strength=float(rng.uniform(0.1, 0.65)) * shadows,
            shadow_reach=float(rng.uniform(0.02, 0.22)),
            shadow_blur=float(rng.uniform(0.02, 0.14)),
            pull=float(rng.uniform(0, 0.16)),
            gain=float(rng.uniform(0.85, 1.1)),
        )


@dataclass(frozen=True)
class Stamp:
    """A cut-out at its final size: canvas = canvas * keep + add."""

    keep: Floats  # (h, w, 3), what shines through object and shadow
    add: Floats  # (h, w, 3) in 0..255
    solid: np.ndarray  # (h, w) bool
    area_px: int


def make_stamp(cutout: Cutout, scale: float, tilt: float, mean: Floats, light: Light) -> Stamp:
    """Resize a cut-out, turn it by `tilt` degrees, give it the scene's light and shadow."""
    height, width = (max(2, round(length * scale)) for length in cutout.rgba.shape[:2])
    rgba = cutout.halved if scale <= 0.5 else cutout.rgba
    whole = Image.frombuffer("RGBX", rgba.shape[1::-1], rgba, "raw", "RGBX", 0, 1)
    image = whole.resize((width, height), Image.Resampling.BILINEAR)
    if abs(tilt) > 2:
        image = image.rotate(tilt, Image.Resampling.BILINEAR, expand=True)
    small = np.asarray(image, np.float32)
    height, width = small.shape[:2]
    shadow_px = max(width, height) * (light.shadow_strength > 0)
    reach = round(light.shadow_reach * shadow_px)
    margin = round(2 * light.shadow_blur * shadow_px) + reach + 1
    inner = (slice(margin, margin + height), slice(margin, margin + width))
    alpha = np.zeros((height + 2 * margin, width + 2 * margin), np.float32)
    # A cut-out's rim carries what it was cut from: take a little off
    alpha[inner] = np.clip(small[..., 3] * (1.1 / 255) - 0.1, 0, 1)
    add = np.zeros((*alpha.shape, 3), np.float32)
    colour = small[..., :3] * np.float32(light.gain * (1 - light.pull)) + mean * light.pull
    add[inner] = colour * alpha[inner][..., None]
    keep = 1 - alpha
    if light.shadow_strength > 0:
        cast = np.zeros(alpha.shape, np.uint8)
        cast[reach:, reach:] = alpha[: alpha.shape[0] - reach, : alpha.shape[1] - reach] * 255
        soft = Image.fromarray(cast).filter(ImageFilter.BoxBlur(light.shadow_blur * shadow_px))
        keep *= 1 - np.asarray(soft, np.float32) * np.float32(light.shadow_strength / 255)
    solid = alpha > SOLID
    return Stamp(np.repeat(keep[..., None], 3, axis=2), add, solid, int(solid.sum()))


class Canvas:
    """A ground with a margin around it, so that objects cut by the border need no special case."""

    def __init__(self, ground: Floats, margin_px: int) -> None:
        self.side_px, self.margin_px = ground.shape[0], margin_px
        whole = self.side_px + 2 * margin_px
        self.colour: Floats = np.zeros((whole, whole, 3), np.float32)
        self.colour[margin_px:-margin_px, margin_px:-margin_px] = ground
        self.owner = np.full((whole, whole), -1, np.int16)
        self._areas: list[int] = []

    def put(self, stamp: Stamp, centre_px: Sequence[float]) -> None:
        """Paste a stamp, its middle at (x, y)."""
        height, width = stamp.solid.shape
        top = round(centre_px[1]) + self.margin_px - height // 2
        left = round(centre_px[0]) + self.margin_px - width // 2
        top = min(max(top, 0), self.owner.shape[0] - height)
        left = min(max(left, 0), self.owner.shape[1] - width)
        region = (slice(top, top + height), slice(left, left + width))
        view = self.colour[region]
        view *= stamp.keep
        view += stamp.add
        self.owner[region][stamp.solid] = len(self._areas)
        self._areas.append(stamp.area_px)

    def visible(self) -> Floats:
        """The share of each object that is seen, in the order of pasting."""
        margin = self.margin_px
        inner = self.owner[margin:-margin, margin:-margin]
        seen = np.bincount(inner.ravel() + 1, minlength=len(self._areas) + 1)[1:]
        shares: Floats = seen / np.maximum(np.array(self._areas), 1)
        return shares

    def picture(self) -> Floats:
        margin = self.margin_px
        return self.colour[margin:-margin, margin:-margin]


_NOISE_SIDE = 512
_noise_kept: list[Floats] = []


def _noise_sheet() -> Floats:
    if not _noise_kept:
        rng = np.random.Generator(np.random.PCG64(20230511))
        _noise_kept.append(rng.standard_normal((_NOISE_SIDE, _NOISE_SIDE, 3), dtype=np.float32))
    return _noise_kept[0]


def _sensor_noise(side_px: int, rng: np.random.Generator) -> Floats:
    """Gaussian noise, (side, side, 3): a random cut from one sheet, as drawing it again is slow."""
    sheet = _noise_sheet()
    if (sheets := -(-side_px // _NOISE_SIDE)) > 1:
        sheet = np.tile(sheet, (sheets, sheets, 1))
    top, left = rng.integers(0, len(sheet) - side_px + 1, 2)
    return sheet[top : top + side_px, left : left + side_px]


def photograph(picture: Floats, rng: np.random.Generator, grey: bool) -> Pixels:
    """Gain, colour cast, falling-off light, blur, noise, now and then JPEG; -> uint8."""
    side = picture.shape[0]
    gain = (rng.uniform(0.85, 1.12) * (1 + rng.uniform(-0.06, 0.06, 3))).astype(np.float32)
    light = np.ones((1, 1), np.float32)
    if rng.random() < 0.5:
        steps = np.linspace(-1, 1, side, dtype=np.float32)
        slope = rng.uniform(-0.22, 0.22, 2).astype(np.float32)
        light = light + slope[0] * steps[:, None] + slope[1] * steps[None, :]
    picture = picture * (light[..., None] * gain)
    if grey:
        picture = np.repeat(picture.mean(2, keepdims=True), 3, axis=2)
        contrast = np.float32(rng.uniform(0.5, 1.0))
        picture = picture * contrast + (1 - contrast) * np.float32(rng.uniform(30, 150))
    blur = rng.uniform(0, 1.8) * side / 384
    if blur > 0.35:
        image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
        picture = np.asarray(image.filter(ImageFilter.BoxBlur(blur)), np.float32)
    noise = _sensor_noise(side, rng)[..., : 1 if grey else 3]
    picture = picture + noise * np.float32(rng.uniform(0, 1) ** 2 * 8)
    pixels = np.clip(picture, 0, 255, out=picture).astype(np.uint8)
    if rng.random() < 0.1:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=int(rng.integers(35, 90)))
        pixels = np.asarray(Image.open(stream).convert("RGB"))
    return pixels
