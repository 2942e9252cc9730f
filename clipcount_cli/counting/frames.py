"""One page of an image file as it is stored, and its way to 8-bit RGB.

Samples of 8 bits are final. Others keep their values until pages are projected and a channel is
chosen, and are stretched only then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipcount_cli.counting.image_faults import Refusal
from clipcount_cli.counting.notices import Notice
from clipcount_cli.counting.profiles import in_srgb
from clipcount_cli.counting.stacks import Stack, no_channel
from clipcount_cli.counting.stretch import stretch
from clipcount_cli.counting.to_rgb import as_array

QUARTER_TURNS = (5, 6, 7, 8)  # orientations in which width and height change places


class Header(NamedTuple):
    """What the header of an image file states, read without its pixels."""

    size: tuple[int, int]  # (width, height), upright
    stored_size: tuple[int, int]  # before the orientation is applied
    pages: int
    channels: int  # stored as pages

    @classmethod
    def of(cls, stored_size: tuple[int, int], orientation: object, stack: Stack) -> Header:
        """orientation: as EXIF and TIFF number it."""
        size = stored_size[::-1] if orientation in QUARTER_TURNS else stored_size
        return cls(size, stored_size, stack.pages, stack.channels)


@dataclass(frozen=True)
class Frame:
    """The upright samples of one page."""

    samples: NDArray[Any] | Image.Image  # (H, W) or (H, W, C); an image: 8-bit sRGB, opaque
    alpha: NDArray[np.uint8] | None = None  # (H, W), 0 transparent; None: opaque
    white_is_zero: bool = False
    no_data: float | None = None  # the value that stands for "not measured"
    profile: bytes | None = None  # ICC, to be applied once there are 8 bits
    shown: int = 3  # of more channels, how many are shown without a choice: 1 gray, 3 colours
    notices: tuple[Notice, ...] = ()

    @cached_property
    def values(self) -> NDArray[Any]:
        """The samples as an array, (H, W) or (H, W, C)."""
        return as_array(self.samples) if isinstance(self.samples, Image.Image) else self.samples

    @property
    def channels(self) -> int:
        return 1 if self.values.ndim == 2 else self.values.shape[2]

    @property
    def hidden(self) -> NDArray[np.bool_] | None:
        """(H, W), True where nothing was measured or can be seen; None: nowhere."""
        hidden = None if self.alpha is None else self.alpha == 0
        if self.no_data is None or self.values.dtype == np.uint8:
            return hidden
        missing = _equal(self.values, self.no_data)
        if missing.ndim == 3:
            missing = np.all(missing, axis=2)
        return missing if hidden is None else hidden | missing

    def channel(self, number: int) -> Frame:
        """One channel (from 1) as a gray frame. Raises Refusal if there is no such channel."""
        if number > self.channels:
            raise no_channel(number, self.channels)
        if self.values.ndim == 2:
            return self
        return replace(self, samples=self.values[..., number - 1], profile=None)


def _equal(values: NDArray[Any], number: float) -> NDArray[np.bool_]:
    if values.dtype.kind == "f":
        close = np.isclose(values, number, rtol=1e-5, atol=0)  # some programs write six digits
        return np.asarray(close)
    if not number.is_integer():
        return np.zeros(values.shape, bool)
    return np.asarray(values == int(number))


def project(frames: Iterable[Frame]) -> Frame:
    """The brightest sample of all frames at each place; what is hidden in all stays hidden.

    Raises Refusal if the frames differ in size or kind.
    """
    whole: Frame | None = None
    for frame in frames:
        whole = frame if whole is None else _brighter(whole, frame)
    if whole is None:
        raise Refusal("has no pages")
    return whole


def _brighter(a: Frame, b: Frame) -> Frame:
    if a.values.shape != b.values.shape or a.values.dtype != b.values.dtype:
        raise Refusal(
            f"has pages of {_shape(a)} and of {_shape(b)}, which cannot be projected",
            hint="choose one with --page N",
        )
    darkest = np.fmin if a.white_is_zero else np.fmax
    values = darkest(a.values, b.values)
    hidden_a, hidden_b = a.hidden, b.hidden
    if hidden_a is not None:
        values[hidden_a] = b.values[hidden_a]
    if hidden_b is not None:
        values[hidden_b] = a.values[hidden_b]
    alpha = None if a.alpha is None or b.alpha is None else np.maximum(a.alpha, b.alpha)
    notices = tuple(dict.fromkeys(a.notices + b.notices))
    return replace(a, samples=values, alpha=alpha, notices=notices)


def _shape(frame: Frame) -> str:
    height, width = frame.values.shape[:2]
    return f"{width} x {height} x {frame.channels} {frame.values.dtype}"


def as_rgb(frame: Frame) -> tuple[NDArray[np.uint8] | Image.Image, tuple[Notice, ...]]:
    """Bring a frame to (H, W, 3) uint8 RGB, alpha composited on white, with notices about it."""
    if isinstance(frame.samples, Image.Image):
        return frame.samples, frame.notices
    values, notices = _visible_channels(frame)
    hidden = frame.hidden
    if values.dtype != np.uint8:
        values, stretched = stretch(values, hidden)
        notices += stretched
    if frame.white_is_zero:
        values = 255 - values
    if frame.profile is not None:
        values, ignored = _in_srgb(values, frame.profile)
        notices += ignored
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    return _on_white(values, frame.alpha, hidden), notices


def _visible_channels(frame: Frame) -> tuple[NDArray[Any], tuple[Notice, ...]]:
    if frame.channels <= frame.shown:
        return frame.values, frame.notices
    first = "first" if frame.shown == 1 else f"first {frame.shown}"
    brief = f"{first} of {frame.channels} channels"
    notice = Notice(brief, f"{brief}: choose one with --channel N")
    values = frame.values[..., 0] if frame.shown == 1 else frame.values[..., : frame.shown]
    return values, (*frame.notices, notice)


def _in_srgb(
    pixels: NDArray[np.uint8], profile: bytes
) -> tuple[NDArray[np.uint8], tuple[Notice, ...]]:
    image = Image.fromarray(pixels)
    image.info["icc_profile"] = profile
    converted, notices = in_srgb(image)
    return (pixels if converted is image else np.asarray(converted)), notices


def _on_white(
    pixels: NDArray[np.uint8],
    alpha: NDArray[np.uint8] | None,
    hidden: NDArray[np.bool_] | None,
) -> NDArray[np.uint8]:
    if alpha is not None:
        opacity = alpha[..., None] / np.float32(255)
        pixels = (pixels * opacity + 255 * (1 - opacity) + 0.5).astype(np.uint8)
    elif hidden is not None and hidden.any():
        pixels = np.where(hidden[..., None], np.uint8(255), pixels)
    return pixels
