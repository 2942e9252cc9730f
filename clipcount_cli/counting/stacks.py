"""Which pages of a stack are read: one, or the brightest of all, of one channel or of each page.

Pages are numbered as they are stored. Microscopes also store channels as pages; ImageJ, OME and
tifffile record that in the file; with `--channel N` only the pages of that channel are numbered.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipcount_cli.counting.image_faults import Refusal
from clipcount_cli.counting.notices import Notice
from clipcount_cli.errors import UsageError, quantity

Page = int | Literal["max"]  # from 1; "max": the brightest sample of all pages


@dataclass(frozen=True)
class Selection:
    """What to read of an image file that holds several images."""

    page: Page | None = None  # None: the first, with a notice if there are others
    channel: int | None = None  # from 1; None: all samples of a page

    def __post_init__(self) -> None:
        allowed = {"page": (None, "max"), "channel": (None,)}
        for name, number in (("page", self.page), ("channel", self.channel)):
            if number not in allowed[name] and not (type(number) is int and number >= 1):
                hint = f"{name}s count from 1" + ('; "max" projects all' * (name == "page"))
                raise UsageError(f"there is no {name} {number!r}", hint=hint)


FIRST_PAGE = Selection()


def parse_page(text: str | None) -> Page | None:
    """Parse `--page`: a number or max. Raises UsageError."""
    if text is None:
        return None
    if text == "max":
        return "max"
    if text.isascii() and text.isdecimal():
        return int(text)
    if text == "all":
        raise UsageError(
            "--page all is for batch",
            hint="to count in each page: clipcount batch stack.tif --page all --csv counts.csv",
        )
    raise UsageError(f"--page {text}: not a page", hint="give a number from 1, or max")


@dataclass(frozen=True)
class Stack:
    """The pages of a file, and which of them are channels of one another."""

    pages: int = 1
    order: tuple[tuple[str, int], ...] = ()  # (axis, size), slowest first

    @property
    def channels(self) -> int:
        """How many channels are stored as pages."""
        return dict(self.order).get("C", 1)

    def pages_of(self, channel: int | None) -> list[int]:
        """The pages (from 0) of a channel (from 1); all of them if channels are not pages.

        Raises Refusal if there is no such channel.
        """
        if channel is None or self.channels == 1:
            return list(range(self.pages))
        if channel > self.channels:
            raise no_channel(channel, self.channels)
        axes, sizes = zip(*self.order, strict=True)
        numbers = np.arange(self.pages).reshape(sizes)
        return [int(n) for n in np.take(numbers, channel - 1, axis=axes.index("C")).ravel()]


def no_channel(number: int, channels: int) -> Refusal:
    """The refusal of a channel (from 1) that an image lacks."""
    hint = f"choose --channel 1 to {channels}" if channels > 1 else "leave out --channel"
    return Refusal(f"has {quantity(channels, 'channel')}, no channel {number}", hint)


def read_stack(pages: int, description: str) -> Stack:
    """Understand what ImageJ, OME or tifffile wrote about `pages` pages of a TIFF.

    What does not account for exactly these pages (a file of a larger set) is not used.
    """
    for read in (_imagej_order, _ome_order, _tifffile_order):
        order = read(description)
        if order and math.prod(size for _, size in order) == pages:
            return Stack(pages, tuple(order))
    return Stack(pages)


def _imagej_order(description: str) -> list[tuple[str, int]]:
    if not description.startswith("ImageJ="):
        return []
    sizes = dict(re.findall(r"^(channels|slices|frames)=(\d+)\s*$", description, re.MULTILINE))
    keys = (("T", "frames"), ("Z", "slices"), ("C", "channels"))
    return [(axis, int(sizes.get(key, 1))) for axis, key in keys]


def _ome_order(description: str) -> list[tuple[str, int]]:
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", description)
    if pixels is None:
        return []
    facts = dict(re.findall(r'\b(DimensionOrder|Size[CZT])\s*=\s*"(\w+)"', pixels[0]))
    samples = re.search(r'\bSamplesPerPixel\s*=\s*"([1-9]\d*)"', description)
    axes = facts.get("DimensionOrder", "XYCZT")[:1:-1]  # slowest first, without X and Y
    sizes = {axis: int(facts.get(f"Size{axis}", 1)) for axis in axes}
    if samples and "C" in sizes:  # the samples of a colour image count as channels
        sizes["C"] //= int(samples[1])
    return list(sizes.items())


def _tifffile_order(description: str) -> list[tuple[str, int]]:
    try:
        facts = json.loads(description)
        sizes = zip(str(facts["axes"]), map(int, facts["shape"]), strict=True)
        return [(axis, size) for axis, size in sizes if axis not in "YXS"]
    except (ValueError, TypeError, KeyError):
        return []


def choose_pages(stack: Stack, selection: Selection) -> list[int]:
    """The pages (from 0) to read; several are projected. Raises Refusal if one does not exist."""
    pages = stack.pages_of(selection.channel)
    if selection.page == "max":
        return pages
    number = selection.page or 1
    if number > len(pages):
        which = "" if len(pages) == stack.pages else f" of channel {selection.channel}"
        held = quantity(len(pages), "page")
        hint = f"choose --page 1 to {len(pages)}, or max" if len(pages) > 1 else "leave out --page"
        raise Refusal(f"has {held}{which}, no page {number}", hint)
    return [pages[number - 1]]


def unread_notices(stack: Stack, selection: Selection) -> tuple[Notice, ...]:
    """The notice about pages and channels that were neither chosen nor excluded."""
    channels = stack.channels if selection.channel is None else 1
    held = len(stack.pages_of(selection.channel))
    if selection.page == "max" and channels > 1:
        brief = f"brightest of {channels} channels"
        return (Notice(brief, f"{brief}: choose one with --channel N"),)
    if selection.page is not None or held == 1:
        return ()
    channel, options = "", "--page"
    if channels > 1:
        channel, options = f", channel 1 of {channels}", "--page and --channel"
    brief = f"first of {held} pages{channel}"
    return (Notice(brief, f"counting page 1 of {held}{channel} (choose with {options})"),)
