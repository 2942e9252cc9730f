"""Work that other threads do, and whose outcome is handled in the thread that gave it.

pipeline.py -> [tasks.py]. All state of a run is changed in one thread, so nothing needs a lock.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

_T = TypeVar("_T")


@dataclass
class UnderWay:
    """How many tasks of each stage threads have, or wait to be handled."""

    reading: int = 0
    calling: int = 0
    joining: int = 0


class Tasks:
    """Tasks under way, and those that are done but not yet handled."""

    def __init__(self) -> None:
        self._done: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def submit(
        self,
        pool: ThreadPoolExecutor,
        task: Callable[[], _T],
        then: Callable[[Future[_T]], None],
    ) -> Future[_T]:
        """Let a thread of `pool` do `task`; `handle` will call `then` with what became of it."""

        def on_done(done: Future[_T]) -> None:
            if not done.cancelled():
                self._done.put(partial(then, done))

        future = pool.submit(task)
        future.add_done_callback(on_done)
        return future

    def handle(self, wait_s: float) -> None:
        """Handle all tasks that are done; wait for the first of them, but not forever."""
        wait = True
        try:
            while True:
                self._done.get(block=wait, timeout=wait_s)()
                wait = False
        except queue.Empty:
            return
