"""Notices about an image that was counted: which part of it was read, what limits the count.

An image or a result carries a tuple of them; `count` prints the full text, as a warning if it casts
doubt on the count; `batch` writes the brief one into `message`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from clipcount_cli.errors import quantity, shortened


class Notice(NamedTuple):
    """One remark, in two lengths."""

    brief: str  # a table cell holds it beside others: "first of 5 pages"
    full: str = ""  # with what to do next; empty if `brief` is complete
    doubtful: bool = False  # whether the count may be wrong, rather than made of a part

    def __str__(self) -> str:
        return self.full or self.brief


def as_message(notices: Iterable[Notice]) -> str:
    """The `message` of a row that is ok: brief texts, each once, separated by semicolons."""
    return "; ".join(dict.fromkeys(notice.brief for notice in notices))


def over_images(messages: Iterable[tuple[str, str]]) -> list[str]:
    """One line per message, from pairs of an image and its message: how many images, and which."""
    images: dict[str, dict[str, None]] = {}
    for image, message in messages:
        if message:
            images.setdefault(message, {})[image] = None
    return [
        f"{message} ({quantity(len(names), 'image')}): {shortened(list(names))}"
        for message, names in images.items()
    ]
