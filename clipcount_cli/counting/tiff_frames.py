"""Read the TIFFs that Pillow cannot, with the optional package tifffile, or name what they hold.

Microscopes and numerical programs store samples of 64 bits, floats in colour, any number of
channels, or JPEG 2000 data: sound files, of a kind to be named.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from PIL import TiffImagePlugin

from clipcount_cli.counting.frames import QUARTER_TURNS, Frame, Header
from clipcount_cli.counting.image_faults import Refusal, refuse_extremes
from clipcount_cli.counting.stacks import Stack, read_stack
from clipcount_cli.extras import install_hint

NO_DATA_TAG, SAMPLE_FORMAT_TAG = 42113, 339  # the first is GDAL's
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _ORIENTATION, _SAMPLES = 256, 257, 258, 259, 274, 277
_FORMATS = {1: "uint", 2: "int", 3: "float", 5: "complex int", 6: "complex"}
_RARE_COMPRESSIONS = dict.fromkeys((33003, 33004, 33005, 34712), "JPEG 2000")
_RARE_COMPRESSIONS |= dict.fromkeys((50002, 52546), "JPEG XL")
_RARE_COMPRESSIONS |= {34887: "LERC", 34892: "lossy JPEG", 34925: "LZMA"}
_RARE_COMPRESSIONS |= {50000: "Zstandard", 50001: "WebP"}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_MAX_PAGE_BYTES = 4_000_000_000  # unpacked: 180 megapixels of five 32-bit channels have 3.6 GB
_ALPHA = (1, 2)  # kinds of extra samples that hold opacity


def describe(stream: BinaryIO) -> str | None:
    """What a TIFF holds, in words after "holds"; None if its header cannot be read."""
    try:
        stream.seek(0)
        header = stream.read(8)
        if header[2:3] == b"+" or header[3:4] == b"+":  # BigTIFF
            header += stream.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        stream.seek(tags.next)
        tags.load(stream)
        bits, samples = tags[_BITS], tags.get(_SAMPLES, 1)
        kind = _FORMATS.get(tags.get(SAMPLE_FORMAT_TAG, (1,))[0], "unknown")
    except Exception:  # damaged headers raise many kinds of errors
        return None
    held = f"{kind}{bits[0]} samples" + (f" ({samples} per pixel)" if samples > 1 else "")
    compression = tags.get(_COMPRESSION, 1)
    if compression in _RARE_COMPRESSIONS or compression not in TiffImagePlugin.COMPRESSION_INFO:
        held += f" compressed as {_RARE_COMPRESSIONS.get(compression, f'type {compression}')}"
    return held


class TiffFrames:
    """The pages of a TIFF, read by tifffile. Raises Refusal if it is not installed."""

    def __init__(self, stream: BinaryIO) -> None:
        held = describe(stream)
        if held is None:
            raise ValueError("its header is damaged")
        try:
            from tifffile import TiffFile
        except ImportError as error:
            raise _needs_extra(held) from error
        self._held = held
        self._file_bytes = stream.seek(0, 2)
        stream.seek(0)
        with _quiet():
            self._file = TiffFile(stream)
            first = self._file.pages.first
            self.stack: Stack = read_stack(len(self._file.pages), first.description)
            samples = first.imagewidth * first.imagelength * first.samplesperpixel
            self.decode_bytes = samples * (4 * (first.bitspersample or 8) // 8 + 3)

    def header(self, number: int = 0) -> Header:
        """What is known of a page (from 0) before it is decoded."""
        with _quiet():
            page: Any = self._file.pages[number]
            turned = page.tags.valueof(_ORIENTATION, default=1)
        return Header.of((page.imagewidth, page.imagelength), turned, self.stack)

    def close(self) -> None:
        self._file.close()

    def frame(self, number: int, _channel: int | None = None) -> Frame:
        """Decode one page (from 0), all channels of it."""
        with _quiet():
            page: Any = self._file.pages[number]
            refuse_extremes(page.imagewidth, page.imagelength)
            self._refuse_kind(page)
            values = self._values(page)
        values = _upright(values, page.tags.valueof(_ORIENTATION, default=1))
        values, alpha = _split_alpha(values, tuple(page.extrasamples))
        colours = page.photometric in (_RGB, _YCBCR) or values.shape[2:] == (3,)
        return Frame(
            values,
            alpha,
            shown=3 if colours else 1,
            white_is_zero=page.photometric == _WHITE_IS_ZERO,
            no_data=no_data_value(page.tags.valueof(NO_DATA_TAG)),
            profile=page.tags.valueof(34675),
        )

    def _refuse_kind(self, page: Any) -> None:
        known = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR)
        if page.nbytes > _MAX_PAGE_BYTES:
            raise Refusal(
                f"holds {self._held}, {page.nbytes / 1e9:.0f} GB on one page",
                hint="save fewer channels, or cut it into parts",
            )
        if page.dtype is None or page.dtype.kind not in "buif" or not known or page.imagedepth > 1:
            raise Refusal(f"holds {self._held}", hint="save it as gray or RGB of 8 or 16 bits")
        ends = np.add(page.dataoffsets, page.databytecounts)
        if len(ends) == 0 or ends.max() > self._file_bytes:
            raise EOFError("image data are missing")

    def _values(self, page: Any) -> np.ndarray:
        try:
            values: np.ndarray = page.asarray(maxworkers=1)
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise _needs_extra(self._held) from error
            raise
        if page.axes == "SYX":
            values = np.moveaxis(values, 0, 2)
        return np.uint8(255) * values if values.dtype == bool else values


def no_data_value(text: object) -> float | None:
    """The number in GDAL's no-data tag; None if there is none, or it is not a number."""
    try:
        value = float(str(text).strip(" \0").replace(",", "."))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _needs_extra(held: str) -> Refusal:
    return Refusal(
        f"holds {held}, which need an extra package",
        hint=f"{install_hint('tiff')}, or save it as gray or RGB of 8 or 16 bits",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tifffile's log off stderr."""
    logger = logging.getLogger("tifffile")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Undo TIFF's orientation, 1 to 8; values: (H, W) or (H, W, C)."""
    if orientation in QUARTER_TURNS:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def _split_alpha(
    values: np.ndarray, extra_samples: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Part colours from opacity; other extra samples are channels like the rest, but for RGB."""
    if values.ndim == 2:
        return values, None
    colours = values.shape[2] - len(extra_samples)
    if extra_samples and int(extra_samples[0]) in _ALPHA:
        opacity = values[..., colours]
        top = 1.0 if opacity.dtype.kind == "f" else np.iinfo(opacity.dtype).max
        alpha = (np.clip(opacity / top, 0, 1) * 255 + 0.5).astype(np.uint8)
        values = values[..., :colours]
        return (values[..., 0] if colours == 1 else values), alpha
    return values, None
