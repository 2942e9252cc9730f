"""Read an image file as upright RGB pixels, or report why not; write pixels to a file.

Image -> count, step 1 of 5: [images.py] -> windows.py -> model.py -> counter.py -> heatmap.py

What is broken is refused rather than guessed at: half a photo has half a count.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageFile

from clipcount_cli.counting.decode_budget import decode_budget
from clipcount_cli.counting.frames import Header, as_rgb, project
from clipcount_cli.counting.image_faults import MAX_PIXELS, cannot_open, refuse_extremes, refusing
from clipcount_cli.counting.notices import Notice
from clipcount_cli.counting.pillow_frames import BeyondPillow, PillowFrames, frame_of
from clipcount_cli.counting.stacks import FIRST_PAGE, Selection, choose_pages, unread_notices
from clipcount_cli.counting.tiff_frames import TiffFrames
from clipcount_cli.counting.to_rgb import as_array
from clipcount_cli.errors import ImageReadError, UsageError
from clipcount_cli.files import atomic_write, require_folder, unsupported

MAX_STREAM_BYTES = 1 << 31  # what is read from a pipe, which may never end

# A folder is searched for these, whether or not an optional reader is installed: an image that
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


ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray


@dataclass
class DecodedImage:
    """A decoded image: upright, 8-bit RGB."""

    source: np.ndarray | Image.Image  # (H, W, 3); large photos are rarely needed as an array
    pages: int = 1  # of a TIFF, or frames of an animation
    notices: tuple[Notice, ...] = ()  # which part was read, what was done to its samples

    @property
    def pixels(self) -> np.ndarray:
        """The pixels (H, W, 3) uint8, not writable if they were read from a file.

        From then on `source` is the same array, so that a large photo is not held twice.
        """
        if isinstance(self.source, Image.Image):
            self.source = as_array(self.source)
            self.source.flags.writeable = False
        return self.source

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        if isinstance(self.source, Image.Image):
            return self.source.size
        height, width = self.source.shape[:2]
        return width, height


def read_image(
    source: Path | BinaryIO, name: str | None = None, selection: Selection = FIRST_PAGE
) -> DecodedImage:
    """Decode an image file or stream, whatever its suffix says.

    name: how messages call it (default: its path); selection: which page and channel of a stack.
    More than 8 bits per sample are stretched from the image's own 0.1 to 99.9 percentile; colours
    are brought to sRGB. Of 16-bit colour Pillow keeps 8 bits; PNG and TIFF are decoded twice to get
    both bytes, other formats (PPM, JPEG 2000, 16-bit gray with alpha) stay as Pillow reduces them.
    Raises ImageReadError: missing, broken, cut off, too large, too long, no such page.
    """
    with _named(source, name) as stream:
        try:
            return _decode(PillowFrames(stream), selection)
        except BeyondPillow:
            return _decode(TiffFrames(stream), selection)


class OpenImage:
    """An image file that stays open, to read one page after the other."""

    def __init__(self, path: Path, name: str) -> None:
        """Raises ImageReadError if the file cannot be opened."""
        self._resources = ExitStack()
        self._stream = self._resources.enter_context(_opened(path, name))
        self._frames: PillowFrames | None = None

    def read(self, name: str, selection: Selection) -> DecodedImage:
        """What `read_image` returns; a page must not be read twice in succession."""
        with refusing(name, self._stream), _strict_pillow():
            try:
                self._frames = self._frames or PillowFrames(self._stream)
                return _decode(self._frames, selection)
            except BeyondPillow:
                return _decode(TiffFrames(self._stream), selection)

    def close(self) -> None:
        self._resources.close()


def count_pages(
    source: Path | BinaryIO, name: str | None = None, selection: Selection = FIRST_PAGE
) -> int:
    """How many pages an image file has, of the channel of `selection` if pages are channels.

    Raises ImageReadError as `read_image` does, but decodes nothing.
    """
    with _undecoded(source, name) as frames:
        return len(frames.stack.pages_of(selection.channel))


def stored_page(
    source: Path | BinaryIO, name: str | None = None, selection: Selection = FIRST_PAGE
) -> int | None:
    """The page (from 1) that `selection` reads, as numbered across all channels.

    None if there is only one, or several are projected. Raises ImageReadError as `read_image` does.
    """
    with _undecoded(source, name) as frames:
        numbers = choose_pages(frames.stack, selection)
        return numbers[0] + 1 if frames.stack.pages > 1 and len(numbers) == 1 else None


def read_headers(
    source: Path | BinaryIO, pages: Iterable[int] = (1,), name: str | None = None
) -> dict[int, Header]:
    """The headers of those of `pages` (from 1) that an image file has; little of it is read.

    Raises ImageReadError as `read_image` does, but decodes nothing.
    """
    with _undecoded(source, name) as frames:
        wanted = sorted({page for page in pages if page <= frames.stack.pages})
        return {page: frames.header(page - 1) for page in wanted}


@contextmanager
def _undecoded(source: Path | BinaryIO, name: str | None) -> Iterator[PillowFrames | TiffFrames]:
    with _named(source, name) as stream:
        try:
            frames: PillowFrames | TiffFrames = PillowFrames(stream, verify=False)
        except BeyondPillow:
            frames = TiffFrames(stream)
        with closing(frames):
            yield frames


def from_pil(image: Image.Image) -> DecodedImage:
    """Bring a PIL image to upright RGB, as `read_image` does a file. Raises ImageReadError."""
    with refusing("the PIL image"), _strict_pillow():
        refuse_extremes(*image.size)
        image.load()
        source, notices = as_rgb(frame_of(image))
    return DecodedImage(source, notices=notices)


def as_pixels(image: ImageLike) -> np.ndarray:
    """Take a path, a PIL image or an (H, W, 3) uint8 array -> (H, W, 3) uint8 upright RGB.

    Raises ImageReadError as `read_image` does, or if an array is shaped otherwise.
    """
    if isinstance(image, Image.Image):
        return from_pil(image).pixels
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ImageReadError(
                f"the array is {image.dtype} of shape {image.shape}, expected uint8 (H, W, 3)",
                hint="give RGB pixels in 0..255, channels last",
            )
        with refusing("the array"):
            refuse_extremes(image.shape[1], image.shape[0])
        return image
    return read_image(Path(image)).pixels


def check_picture_suffix(path: Path) -> None:
    """Raise UsageError if no picture can be written to a file of this suffix."""
    if path.suffix.lower() not in _WRITERS:
        *suffixes, last = _WRITERS
        raise UsageError(
            f"cannot write an image to {path}: {unsupported(path)}",
            hint=f"end the name in {', '.join(suffixes)} or {last}",
        )


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB as PNG or JPEG, by the suffix of `path`: whole or not at all.

    An existing file is replaced. Raises UsageError for another suffix or a missing folder.
    """
    check_picture_suffix(path)
    writer = _WRITERS[path.suffix.lower()]
    require_folder(path)
    if writer == "JPEG" and max(pixels.shape) > _MAX_JPEG_SIDE_PX:
        raise UsageError(
            f"{path}: {pixels.shape[1]} x {pixels.shape[0]} px are too many for a JPEG",
            hint="end the name in .png",
        )
    settings = {"compress_level": 3} if writer == "PNG" else {"quality": 92, "subsampling": 0}
    with atomic_write(path) as unfinished:
        Image.fromarray(pixels).save(unfinished, writer, **settings)


@contextmanager
def _named(source: Path | BinaryIO, name: str | None) -> Iterator[BinaryIO]:
    """Open what is to be decoded; a failure becomes an ImageReadError that begins with `name`."""
    path = source if isinstance(source, Path) else getattr(source, "name", "the stream")
    called = name or str(path)
    with _opened(source, called) as stream, refusing(called, stream), _strict_pillow():
        yield stream


@contextmanager
def _opened(source: Path | BinaryIO, name: str) -> Iterator[BinaryIO]:
    """Yield a stream that can seek; a pipe is read into memory."""
    try:
        with _open_unblocked(source) if isinstance(source, Path) else nullcontext(source) as stream:
            yield stream if stream.seekable() else _buffered(stream, name)
    except OSError as error:
        raise cannot_open(source, name, error) from error


def _open_unblocked(path: Path) -> BinaryIO:
    """Open a file; a named pipe without a writer is then empty instead of blocking."""
    unblocked = getattr(os, "O_NONBLOCK", 0)  # not on Windows, which has no pipes among its files

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | unblocked)

    stream = open(path, "rb", opener=opener)  # noqa: SIM115 Path.open takes no opener
    if unblocked:
        os.set_blocking(stream.fileno(), True)
    return stream


def _buffered(stream: BinaryIO, name: str) -> BinaryIO:
    data = stream.read(MAX_STREAM_BYTES + 1)
    if len(data) > MAX_STREAM_BYTES:
        raise ImageReadError(
            f"{name} continues after {MAX_STREAM_BYTES >> 30} GiB", hint="save it to a file first"
        )
    return BytesIO(data)


class _StrictPillow:
    """Pillow's process-wide switches, held at our values while any thread decodes.

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
                # refuse_extremes is the real limit; Pillow's, at twice this, guards the images
                # that some formats hold inside
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


def _decode(frames: PillowFrames | TiffFrames, selection: Selection) -> DecodedImage:
    channel = selection.channel
    with closing(frames), decode_budget.taken(frames.decode_bytes):
        stack = frames.stack
        numbers = choose_pages(stack, selection)
        if stack.channels > 1:  # pages are channels, and the right pages are chosen
            channel = None
        frame = project(frames.frame(number, channel) for number in numbers)
        if channel is not None:
            frame = frame.channel(channel)
        source, notices = as_rgb(frame)
    if isinstance(source, np.ndarray):
        source.flags.writeable = False
    return DecodedImage(source, stack.pages, (*unread_notices(stack, selection), *notices))
