"""Bring a decoded picture of any of Pillow's modes to 8-bit RGB: the second half of images.py.

Image -> count, within step 1 of 5: images.py asks for it, nobody else.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Literal, cast

import numpy as np
from PIL import Image, ImageFile

_STRETCHED_PERCENTILES = (0.1, 99.9)
_STRETCH_BLOCK = 1 << 22  # samples turned into 8 bits at a time, so that float64 stays small
_BITS_TAG, _PHOTOMETRIC_TAG = 258, 262  # of TIFF


def flatten(image: Image.Image) -> np.ndarray:
    """Bring any of Pillow's modes to (H, W, 3) uint8 RGB, alpha laid on white."""
    if image.mode.startswith(("I", "F")):
        return _flatten_gray(image)
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        return np.asarray(cast(Image.Image, converted))
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(white)


def _flatten_gray(image: Image.Image) -> np.ndarray:
    """Stretch one channel of 16 or 32 bits or floats to (H, W, 3) uint8."""
    values = np.asarray(image)
    key = image.info.get("transparency")
    opaque = values != key if isinstance(key, int) else None
    gray = _stretch(values, opaque)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == 0:  # WhiteIsZero, left as it is stored
        gray = 255 - gray
    if opaque is not None:
        gray[~opaque] = 255
    return np.repeat(gray[..., None], 3, axis=2)


def flatten_deep(high: np.ndarray, low: np.ndarray, key: object = None) -> np.ndarray:
    """Join the two bytes of 16-bit colour, (H, W, 3 or 4) each, and stretch all channels alike.

    key: the colour (16 bits a channel) that stands for transparent, if any.
    """
    values = (high[..., :3].astype(np.uint16) << 8) | low[..., :3]
    if high.shape[-1] == 4:
        alpha = high[..., 3:]
    elif isinstance(key, tuple):
        alpha = np.uint8(255) * np.any(values != key, axis=-1, keepdims=True)
    else:
        return _stretch(values)
    opacity = alpha / np.float32(255)
    laid = _stretch(values, alpha[..., 0] > 0) * opacity + 255 * (1 - opacity)
    return (laid + 0.5).astype(np.uint8)


def _stretch(values: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Map the 0.1 to 99.9 percentile of `values` (where `counted`) to 0..255 uint8.

    Where these two are equal (a few bright cells on a flat ground) minimum and maximum serve.
    """
    sample = values if counted is None else values[counted]
    if values.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(sample, _STRETCHED_PERCENTILES)
    if low == high:
        low, high = float(sample.min()), float(sample.max())
    stretched = np.empty(values.shape, np.uint8)
    span = (high - low) or 1.0
    rows = max(1, _STRETCH_BLOCK * len(values) // values.size)
    for top in range(0, len(values), rows):
        block = (values[top : top + rows].astype(np.float64) - low) / span
        np.nan_to_num(block, copy=False, nan=0.0)
        stretched[top : top + rows] = np.clip(block, 0, 1) * 255 + 0.5
    return stretched


def keep_byte(image: Image.Image, which: Literal["high", "low"]) -> bool:
    """Let a picture not loaded yet deliver this byte of its samples; False if they are not 16-bit.

    Pillow has no 16-bit colour: its unpackers for big and little endian each keep the byte that
    is the high one in their order, so that the wrong one delivers the low byte.
    """
    if image.mode not in ("RGB", "RGBA") or image.format not in ("PNG", "TIFF"):
        return False
    opened = cast(ImageFile.ImageFile, image)
    tags = getattr(image, "tag_v2", {})
    file_order = "B" if getattr(tags, "prefix", b"MM") == b"MM" else "L"
    sixteen = 16 in tags.get(_BITS_TAG, ())
    tiles: list[Any] = []
    for tile in opened.tile:
        codec, box, offset, args = tile
        unpacker, *rest = args if isinstance(args, tuple) else (args,)
        layout = re.fullmatch(r"(RGB|RGBA|RGBX|LA|[RGBA]);16([BLN])", unpacker)
        if layout:
            name, order = layout.groups()
        elif sixteen and unpacker in tuple("RGBA"):  # uncompressed planes, which Pillow takes for
            name, order = unpacker, file_order  # 8-bit ones
        else:
            return False
        big = order == "B" or (order == "N" and sys.byteorder == "big")
        asked = f"{name};16{'B' if big == (which == 'high') else 'L'}"
        if name == "LA":  # has no second unpacker: the high byte serves as both
            asked = unpacker
        remade = getattr(tile, "_make", tuple)  # a plain tuple in older Pillows, now a named one
        tiles.append(remade((codec, box, offset, (asked, *rest) if rest else asked)))
    opened.tile = tiles
    return bool(tiles)
