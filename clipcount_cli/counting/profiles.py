"""Bring an image from the colour profile it carries to sRGB, which the network was trained on.

Most files carry none, or sRGB itself: their pixels stay as they are.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Any, cast

import numpy as np
from PIL import Image

from clipcount_cli.counting.notices import Notice

IGNORED = Notice(
    "colour profile ignored", "the colour profile is damaged, or not one for this kind of image"
)
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # colour space of a profile -> Pillow's mode
_SAME_LEVELS = 2  # two sRGB profiles differ by rounding


class _UnusableError(Exception):
    """The profile does not describe these pixels."""


def in_srgb(image: Image.Image) -> tuple[Image.Image, tuple[Notice, ...]]:
    """Apply the embedded profile, if any: an RGB or RGBA image, or `image` itself if it is sRGB.

    A damaged profile, or one of another colour space, is ignored, with a notice.
    """
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile or image.mode in ("1", "LAB"):
        return image, ()
    try:
        mode, transform = _transform(profile)
        if (mode == "CMYK") != (image.mode == "CMYK") or (mode == "L" and image.mode[0] != "L"):
            raise _UnusableError(f"{mode} profile in a {image.mode} image")
        return (image if transform is None else _applied(image, mode, transform)), ()
    except Exception:  # lcms and its binding raise OSError, TypeError and PyCMSError
        return image, (IGNORED,)


@lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, Any]:
    """Pillow's mode of a profile's colours, and what brings them to sRGB: None if they are."""
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    mode = _MODES[source.profile.xcolor_space.ljust(4)]
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    probe = _probe(mode)
    found = np.asarray(_apply(probe, transform)).astype(int)
    if np.abs(found[0, 0] - found[-1, -1]).max() < 128:  # black and white are nearly equal
        raise _UnusableError("the profile is damaged")
    change = np.abs(found - np.asarray(probe.convert("RGB"))).max()
    return mode, None if mode != "CMYK" and change <= _SAME_LEVELS else transform


def _probe(mode: str) -> Image.Image:
    """A small image of colours all over the space; its first and last pixel are black and white."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    colours = np.stack(np.meshgrid(*[steps] * 3, indexing="ij"), axis=-1).reshape(27, 27, 3)
    if mode == "RGB":
        return Image.fromarray(colours)
    return Image.fromarray(np.dstack([255 - colours, 255 - colours.max(axis=-1)]), "CMYK")


def _applied(image: Image.Image, mode: str, transform: Any) -> Image.Image:
    if not image.has_transparency_data:
        return _apply(image if image.mode == mode else image.convert(mode), transform)
    rgba = image.convert("RGBA")
    converted = _apply(rgba.convert("RGB").convert(mode), transform)
    converted.putalpha(rgba.getchannel("A"))
    return converted


def _apply(image: Image.Image, transform: Any) -> Image.Image:
    from PIL import ImageCms

    converted = cast(Image.Image, ImageCms.applyTransform(image, transform))
    converted.info.pop("transparency", None)
    return converted
