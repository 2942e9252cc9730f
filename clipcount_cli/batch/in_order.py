"""Outcomes leave in the order of their jobs, whichever is ready first.

pipeline.py -> [in_order.py]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")


class InOrder(Generic[_T]):
    """Items that start in an order, finish in any order, and leave in the order they started."""

    def __init__(self) -> None:
        self._started = self._left = 0
        self._finished: dict[int, _T] = {}

    @property
    def inside(self) -> int:
        """The number of items that have started and not yet left."""
        return self._started - self._left

    def start(self) -> int:
        """Start an item; return its place in the order."""
        self._started += 1
        return self._started - 1

    def finish(self, place: int, item: _T) -> None:
        """Keep an item until all those before it have left."""
        self._finished[place] = item

    def cut(self, place: int) -> None:
        """Forget the items that started at `place` or later: they will never finish."""
        self._started = min(self._started, place)

    def leaving(self) -> Iterator[_T]:
        """Take out the finished items that nothing unfinished precedes."""
        while self._left in self._finished:
            item = self._finished.pop(self._left)
            self._left += 1
            yield item
