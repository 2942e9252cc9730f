"""Masks as COCO run lengths: where the marked pixels lie.

coco.py <- [rle.py]. Runs alternate between background and object, down one column after the other.
They are a list of numbers, or the same numbers packed into text as pycocotools packs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clipcount_cli.data.formats.annotated import Point, box_centre

_FIRST_CHARACTER, _PAYLOAD, _SIGN, _MORE = 48, 0x1F, 0x10, 0x20  # six bits per character


def mask_centre(mask: Mapping[str, Any]) -> Point:
    """The centre of the bounding box of a mask; ValueError if it is empty or no whole mask.

    mask: {"size": [height, width], "counts": [...] or "..."}.
    """
    height, width = map(int, mask["size"])
    counts = mask["counts"]
    runs = list(_unpacked(counts)) if isinstance(counts, str) else [int(run) for run in counts]
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError("its runs do not fill the mask")
    pieces = list(_pieces(runs, height))
    left, top = min(x for x, _, _ in pieces), min(y for _, y, _ in pieces)
    right, bottom = max(x for x, _, _ in pieces), max(y for _, _, y in pieces)
    return box_centre(left, top, right + 1, bottom)


def _pieces(runs: Sequence[int], height: int) -> Iterator[tuple[int, int, int]]:
    """The first and last column of each run of the object, with the rows that it covers there."""
    start = 0
    for number, run in enumerate(runs):
        if number % 2 and run:
            first, last = start // height, (start + run - 1) // height
            rows = (start % height, (start + run - 1) % height + 1)
            top, bottom = rows if first == last else (0, height)
            yield first, top, bottom
            yield last, top, bottom
        start += run


def _unpacked(text: str) -> Iterator[int]:
    """The run lengths in a text of pycocotools: from the fourth on, differences to two before."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - _FIRST_CHARACTER
        value |= (bits & _PAYLOAD) << shift
        shift += 5
        if bits & _MORE:
            continue
        if bits & _SIGN:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        yield runs[-1]
        value = shift = 0
