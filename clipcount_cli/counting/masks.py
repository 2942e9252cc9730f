"""Read a mask: a black and white image counts inside the white, a label image label by label.

Beside the path image -> count: [masks.py] -> regions.py -> counter.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from clipcount_cli.counting.regions import Labels
from clipcount_cli.counting.stacks import Page
from clipcount_cli.errors import ImageReadError, quantity
from clipcount_cli.files import CHECK_PATH

INSIDE = "inside"  # the name of a two-valued mask's only region
BLACK_AND_WHITE = 0.95  # share of black or white pixels from which gray ones are soft edges
NEARLY = 0.06  # of full scale: how far lossy compression moves black and white
MAX_LABELS = 65_535


def read_mask(path: Path, width_px: int, height_px: int, page: Page | None = None) -> Labels:
    """Read the regions that `path` draws in an image of `width_px` x `height_px`.

    page: which one of a stack the image is; a mask that is a stack, too, holds one for each page.

    Two values, one of them 0: the region "inside". Otherwise one region per value above 0, or per
    colour other than black. Transparent pixels are outside. Raises ImageReadError if the file
    cannot be read, has another size, or holds no region.
    """
    values = _values(path, page)
    height, width = values.shape[:2]
    if (width, height) != (width_px, height_px):
        swapped = (width, height) == (height_px, width_px)
        hint = "turn the mask: the image is shown upright, by its EXIF orientation"
        raise ImageReadError(
            f"the mask {path} is {width} x {height}, but the image is {width_px} x {height_px}",
            hint=hint if swapped else "draw the mask on the upright image, at its full size",
        )
    labels = _of_colours(values) if values.ndim == 3 else _of_values(values)
    if not labels.names:
        raise ImageReadError(
            f"the mask {path} is all black: no region to count in", hint="paint regions white"
        )
    if len(labels.names) > MAX_LABELS:
        raise ImageReadError(f"the mask {path} holds {len(labels.names)} labels")
    return labels


def _values(path: Path, page: Page | None) -> NDArray[Any]:
    """The samples (H, W), or colours (H, W, 3) uint8, of an upright mask; transparent is 0."""
    try:
        with Image.open(path) as image:
            if (pages := getattr(image, "n_frames", 1)) > 1:
                image.seek(_frame_number(path, pages, page))
            image.load()
            return _samples(ImageOps.exif_transpose(image))
    except ImageReadError:
        raise
    except FileNotFoundError as error:
        raise ImageReadError(f"the mask {path} does not exist", hint=CHECK_PATH) from error
    except Exception as error:  # Pillow's decoders raise all sorts
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageReadError(
            f"the mask {path} cannot be read: {reason}", hint="save it as PNG or TIFF"
        ) from error


def _frame_number(path: Path, pages: int, page: Page | None) -> int:
    if not isinstance(page, int):
        raise ImageReadError(f"the mask {path} has {pages} pages", hint="save a single page")
    if page > pages:
        raise ImageReadError(
            f"the mask {path} has {quantity(pages, 'page')}, no page {page}",
            hint="save a page for each of the image, or a single one for all",
        )
    return page - 1


def _samples(image: Image.Image) -> NDArray[Any]:
    if image.mode == "P" and (image.getpalette() or [])[:3] == [0, 0, 0]:
        return np.asarray(image)  # as label editors write it: a palette index per label
    if image.mode in ("1", "L", "F") or image.mode.startswith("I"):
        return np.asarray(image.convert("L") if image.mode == "1" else image)
    rgba = np.asarray(image.convert("RGBA"))
    colours = rgba[..., :3] * (rgba[..., 3:] >= 128)
    gray = (colours == colours[..., :1]).all()
    return colours[..., 0] if gray else colours


def _of_values(values: NDArray[Any]) -> Labels:
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.rint(values)).any():
            values = values > np.nanmax(values) / 2
        else:
            values = values.astype(np.int64)
    present = np.unique(values)
    if len(present) > 2 and _is_black_and_white(values):
        return Labels((INSIDE,), (values > np.iinfo(values.dtype).max // 2).astype(np.uint8))
    labels = present[present > 0]
    if len(labels) == 1:
        return Labels((INSIDE,), (values > 0).astype(np.uint8))
    index = np.searchsorted(labels, values, side="right")
    return Labels(tuple(str(label) for label in labels.tolist()), index.astype(np.uint16))


def _is_black_and_white(values: NDArray[Any]) -> bool:
    """Whether gray is only what smoothing, or a lossy format, left between black and white."""
    if values.dtype not in (np.uint8, np.uint16):
        return False
    pixels_of = np.bincount(values.ravel(), minlength=np.iinfo(values.dtype).max + 1)
    near = round(NEARLY * len(pixels_of))
    black_or_white = pixels_of[0] + pixels_of[-1]
    if pixels_of[1 : near + 1].all():  # a lossy format: every shade of nearly black occurs
        black_or_white = pixels_of[: near + 1].sum() + pixels_of[-near:].sum()
    return bool(pixels_of[-1] and black_or_white >= BLACK_AND_WHITE * values.size)


def _of_colours(colours: NDArray[np.uint8]) -> Labels:
    packed = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    present = np.unique(packed)
    names = present[present > 0]
    index = np.searchsorted(names, packed, side="right")
    return Labels(tuple(f"#{name:06x}" for name in names.tolist()), index.astype(np.uint16))
