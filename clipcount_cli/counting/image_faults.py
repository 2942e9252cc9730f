"""What is wrong with an image file, in words: every way to fail becomes an ImageReadError."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from clipcount_cli.counting.decode_budget import OverBudgetError
from clipcount_cli.counting.page_names import page_hint
from clipcount_cli.errors import ImageReadError
from clipcount_cli.extras import install_hint
from clipcount_cli.files import CHECK_PATH, is_folder

MAX_PIXELS = 180_000_000  # 540 MB as RGB; phones reach 200 MP only by interpolation
MAX_ASPECT = 50  # beyond it the resized image is a thread hundreds of windows long

_WEB_ADDRESS = re.compile(r"(https?|ftp|s3):/+", re.IGNORECASE)  # a path keeps one slash of two
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_IMPOSTORS = (  # how a file that is no image begins, and what it is then
    (rb"%PDF", "a PDF document"),
    (rb"PK\x03\x04", "a ZIP archive or an office document"),
    (rb"version https://git-lfs", "a Git LFS pointer (`git lfs pull` fetches the image)"),
    (rb"\s*(<!doctype html|<html|<head|<body)", "a web page"),
    (rb"\s*(<\?xml|<svg)", "an XML or SVG document"),
    (rb"\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ", "an archive"),
    (rb"....ftyp(isom|mp4|M4V|qt  |avc1)", "a video"),
    (rb"[\t\n\r -~\x80-\xff]+\Z", "text"),
)
_UNREAD = (  # the same of images in formats that no reader knows
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "in JPEG XL, which is not read"),
    (rb".{128}DICM", "in DICOM, which is not read"),
    (rb"ZISRAWFILE", "in Zeiss CZI, which is not read"),
)
_IMAGE_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|II\*\x00|MM\x00\*|BM|RIFF....WEBP|....ftyp(avi|hei|hev|mif|msf)|\0\0\0\x0cjP",
    re.DOTALL,
)


class Refusal(Exception):  # noqa: N818 - a decision, not a fault
    """A sound file that is not read; the message follows the file's name."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@contextmanager
def refusing(name: str, stream: BinaryIO | None = None) -> Iterator[None]:
    """Turn any error of a decoder into an ImageReadError that names the image."""
    try:
        yield
    except OverBudgetError:
        raise
    except Refusal as error:
        raise ImageReadError(f"{name} {error}", hint=error.hint) from error.__cause__
    except UnidentifiedImageError as error:
        raise _unidentified(name, stream) from error
    except Image.DecompressionBombError as error:
        raise ImageReadError(
            f"{name} holds an image of more than {MAX_PIXELS // 10**6} megapixels",
            hint="make it smaller, or cut it into parts",
        ) from error
    except MemoryError as error:
        raise ImageReadError(
            f"{name} needs more memory than is available to decode",
            hint="close other programs, or make it smaller",
        ) from error
    except Exception as error:  # Pillow's decoders raise many others: struct.error, KeyError
        cut_off = "truncated" in str(error).lower() or isinstance(error, EOFError)
        state = "is cut off" if cut_off else "is broken"
        raise ImageReadError(
            f"{name} {state}: {reason(error)}", hint="download or export the image again"
        ) from error


def refuse_extremes(width: int, height: int) -> None:
    """Raise Refusal if an image has no pixels, too many, or is too elongated."""
    if min(width, height) < 1:
        raise Refusal(f"has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise Refusal(
            f"has {width} x {height} = {width * height / 1e6:.0f} megapixels,"
            f" over the limit of {MAX_PIXELS // 10**6}",
            hint="make it smaller, or cut it into parts",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Refusal(
            f"is {width} x {height}: more than {MAX_ASPECT} times longer than wide",
            hint="cut it into parts",
        )


def cannot_open(source: Path | BinaryIO, name: str, error: OSError) -> ImageReadError:
    """The error for a file that the system does not open."""
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
        if address := _WEB_ADDRESS.match(name):
            address_shown = f"{address[1]}://{name[address.end() :]}"
            return ImageReadError(
                f"{address_shown} is a web address, not a file", hint="download the image first"
            )
        hint = page_hint(str(source)) or CHECK_PATH
        return ImageReadError(f"{name} does not exist", hint=hint)
    if isinstance(error, PermissionError):
        return ImageReadError(f"{name} may not be read", hint="check its permissions")
    return ImageReadError(f"{name} cannot be read: {reason(error)}", hint=CHECK_PATH)


def _unidentified(name: str, stream: BinaryIO | None) -> ImageReadError:
    beginning = b""
    if stream is not None:
        stream.seek(0)
        beginning = stream.read(512)
    if not beginning:
        return ImageReadError(f"{name} is empty (0 bytes)", hint="download or export it again")
    if beginning[4:8] == b"ftyp" and beginning[8:12] in _HEIF_BRANDS and "HEIF" not in Image.OPEN:
        return ImageReadError(
            f"{name} is a HEIC photo, which needs an extra package", hint=install_hint("heif")
        )
    if _IMAGE_BEGINNINGS.match(beginning):
        return ImageReadError(
            f"{name} begins like an image, but is cut off or broken",
            hint="download or export the image again",
        )
    for pattern, kind in _IMPOSTORS:
        if re.match(pattern, beginning, re.IGNORECASE | re.DOTALL):
            return ImageReadError(f"{name} is {kind}, not an image")
    unread = (kind for pattern, kind in _UNREAD if re.match(pattern, beginning, re.DOTALL))
    kind = next(unread, "not an image of a known format")
    return ImageReadError(f"{name} is {kind}", hint="convert it to JPEG, PNG or TIFF")


def reason(error: BaseException) -> str:
    """The words of an error on one line, or its kind."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__
