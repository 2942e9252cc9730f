"""Read any photograph as upright RGB pixels, or say why not; write pixels to a file.

Image -> count, step 1 of 5: [images.py] -> windows.py -> model.py -> counter.py -> heatmap.py

EXIF, alpha, palettes, CMYK, 16 bits, cut-off files and decompression bombs are dealt with here and
nowhere else. What is broken is refused rather than guessed at: half a photograph has half a count.
"""

from __future__ import annotations

import importlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from clipcount_cli.counting.notices import Notice
from clipcount_cli.counting.to_rgb import flatten, flatten_deep, keep_byte
from clipcount_cli.errors import ImageReadError, UsageError
from clipcount_cli.files import atomic_write, is_folder

MAX_PIXELS = 180_000_000  # 540 MB as RGB; phones reach 200 MP only by interpolation
MAX_ASPECT = 50  # beyond it the resized photograph is a thread hundreds of windows long
MAX_STREAM_BYTES = 1 << 31  # what is read from a pipe, which may never end

# A folder is searched for these, whether or not an optional reader is installed: a photograph that
# cannot be read is a failure to report, not a file to pass over.
IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "bmp", "dib", "tif", "tiff"),
        *("gif", "heic", "heif", "hif", "avif", "jp2", "j2k", "jpx", "pbm", "pgm", "ppm", "pnm"),
        *("tga", "qoi"),
    )
)
_MAX_JPEG_SIDE_PX = 65_500
_WRITERS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}

_COUNTED_FORMATS = frozenset({"TIFF", "GIF", "WEBP", "PNG", "AVIF", "HEIF"})  # with pages or frames
_PROGRAM_FORMATS = frozenset({"EPS", "WMF"})  # Pillow would start another program to draw them

_SUBFILE_TYPE_TAG = 254  # of TIFF
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

_IMPOSTORS = (  # how a file that is no image begins, and what it is then
    (rb"%PDF", "a PDF document"),
    (rb"PK\x03\x04", "a ZIP archive or an office document"),
    (rb"\s*(<!doctype html|<html|<head|<body)", "a web page"),
    (rb"\s*(<\?xml|<svg)", "an XML or SVG document"),
    (rb"\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ", "an archive"),
    (rb"....ftyp(isom|mp4|M4V|qt  |avc1)", "a video"),
    (rb"[\t\n\r -~\x80-\xff]+\Z", "text"),
)
_IMAGE_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|II\*\x00|MM\x00\*|BM|RIFF....WEBP|....ftyp(avi|hei|hev|mif|msf)|\0\0\0\x0cjP",
    re.DOTALL,
)


ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray


class DecodedImage(NamedTuple):
    """A decoded photograph."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB, upright, not writable
    pages: int = 1  # of a TIFF, or frames of an animation; the first one is read
    notices: tuple[Notice, ...] = ()  # which part of the file was read, and the like


def read_image(source: Path | BinaryIO, name: str | None = None) -> DecodedImage:
    """Decode an image file or stream, whatever its suffix says.

    name: how messages call it (default: its path). More than 8 bits a sample are stretched from
    the picture's own 0.1 to 99.9 percentile. Of 16-bit colour Pillow keeps 8 bits; PNG and TIFF are
    decoded twice to get both bytes, other formats (PPM, JPEG 2000, 16-bit gray with alpha) stay as
    Pillow reduces them. Raises ImageReadError: missing, broken, cut off, too large, too long.
    """
    path = source if isinstance(source, Path) else getattr(source, "name", "the stream")
    called = name or str(path)
    with _opened(source, called) as stream, _refusing(called, stream), _strict_pillow():
        return _decode(stream)


def as_pixels(image: ImageLike) -> np.ndarray:
    """Take a path, a PIL image or an (H, W, 3) uint8 array -> (H, W, 3) uint8 upright RGB.

    Raises ImageReadError as `read_image` does, or if an array is shaped otherwise.
    """
    if isinstance(image, Image.Image):
        with _refusing("the PIL image"), _strict_pillow():
            _refuse_extremes(*image.size)
            image.load()
            return flatten(_upright(image))
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ImageReadError(
                f"the array is {image.dtype} of shape {image.shape}, expected uint8 (H, W, 3)",
                hint="give RGB pixels in 0..255, channels last",
            )
        with _refusing("the array"):
            _refuse_extremes(image.shape[1], image.shape[0])
        return image
    return read_image(Path(image)).pixels


def check_picture_suffix(path: Path) -> None:
    """Raise UsageError if no picture can be written to a file of this suffix."""
    if path.suffix.lower() not in _WRITERS:
        raise UsageError(
            f"{path}: cannot write pictures as {path.suffix or 'a file without suffix'}",
            hint=f"end the name in {', '.join(_WRITERS)}",
        )


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB as PNG or JPEG, by the suffix of `path`: whole or not at all.

    An existing file is replaced. Raises UsageError for another suffix or a missing folder.
    """
    check_picture_suffix(path)
    writer = _WRITERS[path.suffix.lower()]
    if not is_folder(path.parent):
        raise UsageError(
            f"{path}: the folder {path.parent} does not exist", hint="create it, or name another"
        )
    if writer == "JPEG" and max(pixels.shape) > _MAX_JPEG_SIDE_PX:
        raise UsageError(
            f"{path}: {pixels.shape[1]} x {pixels.shape[0]} px are too many for a JPEG",
            hint="end the name in .png",
        )
    settings = {"compress_level": 3} if writer == "PNG" else {"quality": 92, "subsampling": 0}
    with atomic_write(path) as unfinished:
        Image.fromarray(pixels).save(unfinished, writer, **settings)


@contextmanager
def _opened(source: Path | BinaryIO, name: str) -> Iterator[BinaryIO]:
    """Yield a stream that can seek; a pipe is read into memory."""
    try:
        with _open_unblocked(source) if isinstance(source, Path) else nullcontext(source) as stream:
            yield stream if stream.seekable() else _buffered(stream, name)
    except OSError as error:
        raise _unopened(source, name, error) from error


def _open_unblocked(path: Path) -> BinaryIO:
    """Open a file; a named pipe nobody writes to is then empty, where it would hang for ever."""
    unblocked = getattr(os, "O_NONBLOCK", 0)  # not on Windows, which has no pipes among its files

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | unblocked)

    stream = open(path, "rb", opener=opener)  # noqa: SIM115 Path.open takes no opener
    if unblocked:
        os.set_blocking(stream.fileno(), True)
    return stream


def _unopened(source: Path | BinaryIO, name: str, error: OSError) -> ImageReadError:
    if isinstance(source, Path):
        if is_folder(source):
            return ImageReadError(
                f"{name} is a folder",
                hint="`clipcount batch FOLDER --csv FILE` counts in all of it",
            )
        if isinstance(error, FileNotFoundError) and source.is_symlink():
            return ImageReadError(
                f"{name} is a link to {source.readlink()}, which does not exist",
                hint="restore the file it points to, or remove the link",
            )
    if isinstance(error, FileNotFoundError):
        return ImageReadError(f"{name} does not exist", hint="check the spelling and the folder")
    if isinstance(error, PermissionError):
        return ImageReadError(f"{name} may not be read", hint="check its permissions")
    return ImageReadError(f"{name} cannot be read: {_reason(error)}")


def _buffered(stream: BinaryIO, name: str) -> BinaryIO:
    data = stream.read(MAX_STREAM_BYTES + 1)
    if len(data) > MAX_STREAM_BYTES:
        raise ImageReadError(
            f"{name} goes on after {MAX_STREAM_BYTES >> 30} GiB", hint="save it to a file first"
        )
    return BytesIO(data)


@contextmanager
def _refusing(name: str, stream: BinaryIO | None = None) -> Iterator[None]:
    """Turn whatever Pillow stumbles on into an ImageReadError that names the picture."""
    try:
        yield
    except _RefusedError as error:
        raise ImageReadError(f"{name} {error}", hint=error.hint) from error.__cause__
    except UnidentifiedImageError as error:
        raise _unidentified(name, stream) from error
    except Image.DecompressionBombError as error:
        raise ImageReadError(
            f"{name} holds a picture over {MAX_PIXELS // 10**6} megapixels"
        ) from error
    except Exception as error:  # Pillow's decoders raise whatever comes up: struct.error, KeyError
        if isinstance(error, MemoryError):
            raise ImageReadError(f"{name} needs more memory than there is to decode") from error
        cut_off = "truncated" in str(error).lower() or isinstance(error, EOFError)
        state = "is cut off" if cut_off else "is broken"
        raise ImageReadError(
            f"{name} {state}: {_reason(error)}", hint="fetch or export the picture again"
        ) from error


class _RefusedError(Exception):
    """A sound file we do not read; the message follows the file's name."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def _unidentified(name: str, stream: BinaryIO | None) -> ImageReadError:
    beginning = b""
    if stream is not None:
        stream.seek(0)
        beginning = stream.read(512)
    if not beginning:
        return ImageReadError(f"{name} is empty (0 bytes)", hint="fetch or export it again")
    if beginning[4:8] == b"ftyp" and beginning[8:12] in _HEIF_BRANDS and "HEIF" not in Image.OPEN:
        return ImageReadError(
            f"{name} is a HEIC photograph, which needs an extra package",
            hint="run `pip install 'clipcount-cli[heif]'`",
        )
    if _IMAGE_BEGINNINGS.match(beginning):
        return ImageReadError(
            f"{name} begins like a picture, but is cut off or broken",
            hint="fetch or export the picture again",
        )
    for pattern, kind in _IMPOSTORS:
        if re.match(pattern, beginning, re.IGNORECASE | re.DOTALL):
            return ImageReadError(f"{name} is {kind}, not a picture")
    return ImageReadError(
        f"{name} is no picture of a known format", hint="convert it to JPEG, PNG or TIFF"
    )


class _StrictPillow:
    """Pillow's process-wide switches, held at our values while any thread reads a picture.

    A program that embeds us may have allowed truncated files or another size limit for itself; it
    finds its own values again once the last reader has left.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._readers == 0:
                self._theirs = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
                # _refuse_extremes is the real limit; Pillow's, at twice this, guards the pictures
                # some formats hold inside
                ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, MAX_PIXELS
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if self._readers == 0:
                    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = self._theirs


_strict_pillow = _StrictPillow()


def _decode(stream: BinaryIO) -> DecodedImage:
    stream.seek(0)
    beginning = stream.read(16)
    if beginning[4:8] == b"ftyp" and "HEIF" not in Image.OPEN:
        _add_heif_reader()
    if beginning.startswith(b"\x89PNG"):
        # decoding passes over the checksums of the pixel data, and over a missing end
        Image.open(stream, formats=["PNG"]).verify()
    with Image.open(stream) as image:
        _refuse_kind(image)
        _refuse_extremes(*image.size)
        pages = getattr(image, "n_frames", 1) if image.format in _COUNTED_FORMATS else 1
        deep = keep_byte(image, "high")
        image.load()
        if image.format == "JPEG2000":
            _refuse_missing_end(stream)
        if not deep:
            return DecodedImage(flatten(_upright(image)), pages, _unread(pages))
        high = np.asarray(_upright(image))
    with Image.open(stream) as image:
        keep_byte(image, "low")
        image.load()
        low = np.asarray(_upright(image))
    pixels = flatten_deep(high, low, image.info.get("transparency"))
    return DecodedImage(pixels, pages, _unread(pages))


def _unread(pages: int) -> tuple[Notice, ...]:
    return (Notice(f"first of {pages} pages"),) if pages > 1 else ()


def _add_heif_reader() -> None:
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return  # optional; `_unidentified` says how to get it


def _refuse_kind(image: Image.Image) -> None:
    if image.format in _PROGRAM_FORMATS:
        raise _RefusedError(
            f"is {image.format}: a drawing program's file, not a photograph",
            hint="export it as PNG",
        )
    subfile_type = getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE_TAG, 0)
    if isinstance(subfile_type, int) and subfile_type & 1:  # DNG, NEF and other raw files
        raise _RefusedError(
            "shows only a thumbnail, as camera raw files do", hint="export it as JPEG or TIFF"
        )


def _refuse_extremes(width: int, height: int) -> None:
    if min(width, height) < 1:
        raise _RefusedError(f"has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise _RefusedError(
            f"has {width} x {height} = {width * height / 1e6:.0f} megapixels,"
            f" over the limit of {MAX_PIXELS // 10**6}",
            hint="make it smaller, or cut it into parts",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise _RefusedError(
            f"is {width} x {height}: more than {MAX_ASPECT} times longer than wide",
            hint="cut it into parts",
        )


def _refuse_missing_end(stream: BinaryIO) -> None:
    """Pillow returns black for a JPEG 2000 file cut off right after its header."""
    stream.seek(-min(4096, stream.seek(0, os.SEEK_END)), os.SEEK_END)
    if b"\xff\xd9" not in stream.read():
        raise EOFError("the end of the image data is missing")


def _upright(image: Image.Image) -> Image.Image:
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image  # exif_transpose would copy it
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF beside sound pixels; its parser raises all sorts
        return image


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__
