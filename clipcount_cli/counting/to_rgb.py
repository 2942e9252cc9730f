"""Bring a decoded image of any of Pillow's modes to 8-bit RGB in sRGB.

Image -> count, within step 1 of 5: pillow_frames.py uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipcount_cli.counting.notices import Notice
from clipcount_cli.counting.profiles import in_srgb

_STRIP_PIXELS = 1 << 20  # copied out of Pillow at a time: it holds each copy twice for a moment


def flatten(
    image: Image.Image,
) -> tuple[NDArray[np.uint8] | Image.Image, tuple[Notice, ...]]:
    """Bring an image of 8-bit samples to (H, W, 3) uint8 sRGB, alpha laid on white.

    An image that is so already, as most photos, stays in Pillow's memory.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        corner = image.crop((0, 0, 1, 1))
        converted, ignored = in_srgb(corner)
        if converted is corner:
            return image, ignored
    if image.width * image.height <= _STRIP_PIXELS:
        return _flatten(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    notices: dict[Notice, None] = {}
    for rows, strip in _cut(image):
        pixels[rows], found = _flatten(strip)
        notices.update(dict.fromkeys(found))
    return pixels, tuple(notices)


def _flatten(image: Image.Image) -> tuple[NDArray[np.uint8], tuple[Notice, ...]]:
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        return np.asarray(cast(Image.Image, converted)), ()
    image, notices = in_srgb(image)
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB")), notices
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(white), notices


def as_array(image: Image.Image) -> NDArray[Any]:
    """The samples of an image, (H, W) or (H, W, C), copied in strips if it is large."""
    if image.width * image.height <= _STRIP_PIXELS:
        return np.asarray(image)
    first = np.asarray(image.crop((0, 0, 1, 1)))
    whole = np.empty((image.height, image.width, *first.shape[2:]), first.dtype)
    for rows, strip in strips(image):
        whole[rows] = strip
    return whole


def strips(image: Image.Image) -> Iterator[tuple[slice, NDArray[Any]]]:
    """The samples of an image as (rows, array), a bounded number at a time."""
    return ((rows, np.asarray(strip)) for rows, strip in _cut(image))


def _cut(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    height = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, height):
        bottom = min(top + height, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))
