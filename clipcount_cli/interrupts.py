"""SIGINT and SIGTERM become a flag that a long run checks between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from clipcount_cli import console, distributed
from clipcount_cli.errors import InterruptedRunError

Stop = Callable[[], bool]  # whether a run should end, checked between two steps


@dataclass
class Interruption:
    """Whether the user or the system has requested the run to end."""

    notice: str = ""  # printed at the first signal
    requested: bool = False
    previous: dict[int, Any] = field(default_factory=dict)  # signal number -> its usual handler
    _at_once: bool = False

    def request(self, _number: int, _frame: FrameType | None) -> None:
        """Note a signal; the next has its usual effect, except under torchrun (it repeats it)."""
        self.requested = True
        if distributed.world_size() == 1:
            self.restore()
            if self.notice:
                console.warn(self.notice)
        if self._at_once:
            raise InterruptedRunError("")

    def restore(self) -> None:
        """Restore the previous handler of every signal."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise InterruptedRunError at a signal in this block, which must not change any state.

        Several processes do not: they stop together, after the same step.
        """
        self._at_once = distributed.world_size() == 1
        if self._at_once and self.requested:
            raise InterruptedRunError("")
        try:
            yield
        finally:
            self._at_once = False


@contextmanager
def interruptible(notice: str = "") -> Iterator[Interruption]:
    """Catch SIGINT and SIGTERM for the length of a run, in the main thread."""
    interruption = Interruption(notice)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            interruption.previous[number] = signal.signal(number, interruption.request)
    try:
        yield interruption
    finally:
        interruption.restore()
