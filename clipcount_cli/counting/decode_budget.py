"""Bound the memory that all threads together spend on decoding: large images take turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

DECODE_BUDGET_BYTES = 2 << 30


class OverBudgetError(Exception):
    """An image is larger than what may be decoded in this process."""


class DecodeBudget:
    """Bytes that may be in use by decoders at a time; first come, first served."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._refuses = False  # instead of decoding an image above the limit alone
        self._turn = threading.Lock()
        self._returned = threading.Condition()

    def restrict(self, limit_bytes: int) -> None:
        """Refuse images above `limit_bytes`: other processes decode at the same time."""
        self.limit_bytes, self._refuses = limit_bytes, True

    @contextmanager
    def taken(self, estimated_bytes: int) -> Iterator[None]:
        """Wait until `estimated_bytes` are free; an image above the limit is decoded alone.

        Raises OverBudgetError for such an image if the budget is a restricted one.
        """
        if self._refuses and estimated_bytes > self.limit_bytes:
            raise OverBudgetError
        wanted = min(estimated_bytes, self.limit_bytes)
        with self._turn, self._returned:  # while one waits, smaller images cannot overtake it
            self._returned.wait_for(lambda: self.used_bytes + wanted <= self.limit_bytes)
            self.used_bytes += wanted
        try:
            yield
        finally:
            with self._returned:
                self.used_bytes -= wanted
                self._returned.notify()


decode_budget = DecodeBudget(DECODE_BUDGET_BYTES)
