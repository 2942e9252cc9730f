"""Read the pages of an image file with Pillow, each upright and with all bits of its samples.

Image -> count, within step 1 of 5: images.py uses it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import replace
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from clipcount_cli.counting.frames import Frame, Header
from clipcount_cli.counting.image_faults import Refusal, refuse_extremes
from clipcount_cli.counting.libtiff_errors import libtiff_errors
from clipcount_cli.counting.notices import Notice
from clipcount_cli.counting.stacks import Stack, read_stack
from clipcount_cli.counting.tiff_frames import (
    NO_DATA_TAG,
    SAMPLE_FORMAT_TAG,
    describe,
    no_data_value,
)
from clipcount_cli.counting.to_rgb import as_array, flatten, strips

HIGH_BYTES = Notice("8 of 16 bits read", "8 of 16 bits read: Pillow drops the rest of such planes")

_COUNTED_FORMATS = frozenset({"TIFF", "GIF", "WEBP", "PNG", "AVIF", "HEIF"})  # with pages or frames
_SIZED_PAGES = frozenset({"TIFF", "HEIF"})  # whose pages differ in size, unlike frames
_PROGRAM_FORMATS = frozenset({"EPS", "WMF"})  # Pillow would start another program to draw them
_DATA_FORMATS = frozenset({"HDF5", "GRIB", "BUFR"})  # which Pillow only recognises
_ORIENTATION_TAG = 0x0112
_SUBFILE_TYPE_TAG, _BITS_TAG, _PHOTOMETRIC_TAG, _DESCRIPTION_TAG = 254, 258, 262, 270  # of TIFF
_WIDTH_TAG, _HEIGHT_TAG, _SAMPLES_TAG, _PLANES_TAG, _PROFILE_TAG = 256, 257, 277, 284, 34675
# ImageOps.exif_transpose also rewrites the EXIF, which fails for tags that Pillow cannot write.
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BeyondPillow(Exception):  # noqa: N818 - a reason to use another reader
    """A TIFF that may be sound, but that Pillow cannot read in full."""


class PillowFrames:
    """The pages or frames of an image file. Raises BeyondPillow, Refusal, or what Pillow raises."""

    def __init__(self, stream: BinaryIO, verify: bool = True) -> None:
        """verify: compare the checksums of a PNG, which reads all of it."""
        self._stream = stream
        self._image = _open(stream, verify)
        _refuse_kind(self._image)
        refuse_extremes(*self._image.size)
        self._tags = getattr(self._image, "tag_v2", {})
        pages = _count_pages(self._image)
        self.stack: Stack = read_stack(pages, str(self._tags.get(_DESCRIPTION_TAG, "")))

    def header(self, number: int = 0) -> Header:
        """What is known of a page (from 0) before it is decoded."""
        if self._image.format in _SIZED_PAGES:
            self._image.seek(number)
        # Pillow gives the size of an oriented TIFF upright, or as it is stored: by its version.
        size = self._tags.get(_WIDTH_TAG), self._tags.get(_HEIGHT_TAG)
        stored = size if all(isinstance(side, int) for side in size) else self._image.size
        return Header.of(cast(tuple[int, int], stored), _orientation(self._image), self.stack)

    @property
    def decode_bytes(self) -> int:
        """Memory that decoding a page takes at most: Pillow's copies, and the samples of them."""
        width, height = self._image.size
        stored = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}.get(self._image.mode, 4)
        deep_colour = keep_byte(self._image, "high")
        return width * height * (2 * stored + (9 if deep_colour else 3))

    def close(self) -> None:
        """Nothing to do: the stream belongs to the caller."""

    def frame(self, number: int, channel: int | None = None) -> Frame:
        """Decode one page (from 0); `channel` (from 1) is the one that will be used."""
        image = self._image
        _seek(image, number)
        refuse_extremes(*image.size)
        stored = int(self._tags.get(_SAMPLES_TAG, 1))
        if channel is not None and len(image.getbands()) < min(channel, stored):
            raise BeyondPillow(f"channel {channel} of {stored}")
        if keep_byte(image, "high"):
            return self._deep_frame(number)
        frame = frame_of(_loaded(image, self._stream))
        if self.stack.pages > 1:  # Pillow may decode the next page into the same memory
            frame = replace(frame, samples=frame.values)
        if channel is None and image.mode == "L" and stored > 1:
            brief = f"first of {stored} channels"
            notice = Notice(brief, f"{brief}: choose one with --channel N")
            frame = replace(frame, notices=(*frame.notices, notice))
        return frame

    def _deep_frame(self, number: int) -> Frame:
        """Join the two bytes of 16-bit colour, decoded one after the other to save memory."""
        compressed_planes = self._tags.get(_PLANES_TAG) == 2 and self._image.tile[0][0] == "libtiff"
        if compressed_planes and importlib.util.find_spec("tifffile"):
            raise BeyondPillow("compressed planes of 16 bits")
        high = self._byte(number, "high")
        values = np.empty((high.height, high.width, 3), np.uint16)
        alpha = np.empty(values.shape[:2], np.uint8) if high.mode == "RGBA" else None
        for rows, strip in strips(high):
            values[rows] = strip[..., :3]
            if alpha is not None:
                alpha[rows] = strip[..., 3]
        values <<= 8
        profile, key = high.info.get("icc_profile"), high.info.get("transparency")
        del high
        for rows, strip in strips(self._byte(number, "low")):
            values[rows] |= strip[..., :3]
        if alpha is None and isinstance(key, tuple):
            alpha = np.uint8(255) * np.any(values != key, axis=-1)
        return Frame(
            values,
            alpha,
            no_data=no_data_value(self._tags.get(NO_DATA_TAG)),
            profile=profile,
            notices=(HIGH_BYTES,) if compressed_planes else (),
        )

    def _byte(self, number: int, which: Literal["high", "low"]) -> Image.Image:
        image = Image.open(self._stream)
        _seek(image, number)
        keep_byte(image, which)
        return upright(_loaded(image, self._stream))


def _open(stream: BinaryIO, verify: bool) -> ImageFile.ImageFile:
    stream.seek(0)
    beginning = stream.read(16)
    if beginning[4:8] == b"ftyp" and "HEIF" not in Image.OPEN:
        _add_heif_reader()
    if verify and beginning.startswith(b"\x89PNG"):
        # decoding passes over the checksums of the pixel data, and over a missing end
        Image.open(stream, formats=["PNG"]).verify()
    try:
        return Image.open(stream)
    except (UnidentifiedImageError, KeyError) as error:
        if beginning[:2] in (b"II", b"MM") and describe(stream):
            raise BeyondPillow(str(error)) from error
        raise


def _add_heif_reader() -> None:
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return  # optional; the error for the file names the package to install


def _refuse_kind(image: Image.Image) -> None:
    if image.format in _PROGRAM_FORMATS:
        raise Refusal(
            f"is {image.format}: a file of a drawing program, not a photo", hint="export it as PNG"
        )
    if image.format in _DATA_FORMATS:
        raise Refusal(
            f"is {image.format}: measurements, not an image", hint="export it as PNG or TIFF"
        )
    subfile_type = getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE_TAG, 0)
    if isinstance(subfile_type, int) and subfile_type & 1:  # DNG, NEF and other raw files
        raise Refusal(
            "shows only a thumbnail, as camera raw files do", hint="export it as JPEG or TIFF"
        )


def _count_pages(image: ImageFile.ImageFile) -> int:
    if image.format not in _COUNTED_FORMATS:
        return 1
    try:
        return getattr(image, "n_frames", 1)
    except SyntaxError as error:  # "unknown pixel mode": of any page, all of which Pillow looks at
        if image.format != "TIFF":
            raise
        raise BeyondPillow(str(error)) from error


def _seek(image: ImageFile.ImageFile, number: int) -> None:
    image.seek(number)
    if _PROFILE_TAG not in getattr(image, "tag_v2", {_PROFILE_TAG}):
        image.info.pop("icc_profile", None)  # of a page read before, which Pillow leaves there


def _loaded(image: ImageFile.ImageFile, stream: BinaryIO) -> ImageFile.ImageFile:
    """Decode, and refuse what libtiff found wrong even if it continued."""
    if image.format != "TIFF":
        image.load()
        if image.format == "JPEG2000":
            _refuse_missing_end(stream)
        return image
    with libtiff_errors() as reports:
        try:
            image.load()
        except ValueError as error:  # "unknown raw mode": planes that Pillow cannot combine
            raise BeyondPillow(str(error)) from error
        except OSError as error:
            if any("not configured" in report for report in reports):  # a codec it lacks
                raise BeyondPillow(reports[0]) from error
            raise OSError(reports[0] if reports else str(error)) from error
    if reports:
        raise OSError(reports[0])
    return image


def _refuse_missing_end(stream: BinaryIO) -> None:
    """Pillow returns black for a JPEG 2000 file cut off right after its header."""
    stream.seek(-min(4096, stream.seek(0, os.SEEK_END)), os.SEEK_END)
    if b"\xff\xd9" not in stream.read():
        raise EOFError("the end of the image data is missing")


def frame_of(image: Image.Image) -> Frame:
    """The samples of a decoded image of any of Pillow's modes, upright."""
    tags = getattr(image, "tag_v2", {})
    image = upright(image)
    signed, bits = tags.get(SAMPLE_FORMAT_TAG, (1,))[0] == 2, tags.get(_BITS_TAG, (0,))[0]
    if image.mode.startswith(("I", "F")):
        values = as_array(image)
        if image.mode == "I" and bits == 32 and not signed:
            values = values.view(np.uint32)
        key = image.info.get("transparency")
        opaque = np.uint8(255) * (values != key) if isinstance(key, int) else None
        zero_is_white = tags.get(_PHOTOMETRIC_TAG) == 0  # Pillow leaves it as it is stored
        return Frame(values, opaque, zero_is_white, **_annotations(image, tags))
    if image.mode == "L" and signed and bits == 8:
        return Frame(as_array(image).view(np.int8), **_annotations(image, tags))
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return Frame(as_array(image.convert("L")), profile=image.info.get("icc_profile"))
    pixels, notices = flatten(image)
    return Frame(pixels, notices=notices)


def _annotations(image: Image.Image, tags: Any) -> dict[str, Any]:
    return {
        "no_data": no_data_value(tags.get(NO_DATA_TAG)),
        "profile": image.info.get("icc_profile"),
    }


def upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; damaged EXIF beside sound pixels is ignored."""
    transpose = _TRANSPOSE.get(_orientation(image))
    return image if transpose is None else image.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # its parser raises all sorts
        return 1
    return found if isinstance(found, int) else 1


def keep_byte(image: Image.Image, which: Literal["high", "low"]) -> bool:
    """Let an image not loaded yet deliver this byte of its samples; False if they are not 16-bit.

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
        wanted = f"{name};16{'B' if big == (which == 'high') else 'L'}"
        if name == "LA":  # has no second unpacker: the high byte serves as both
            wanted = unpacker
        remade = getattr(tile, "_make", tuple)  # a plain tuple in older Pillows, now a named one
        tiles.append(remade((codec, box, offset, (wanted, *rest) if rest else wanted)))
    opened.tile = tiles
    return bool(tiles)
