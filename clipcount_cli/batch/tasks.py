"""Tasks of other threads, whose results are handled in the thread that submitted them.

pipeline.py -> [tasks.py]. All state of a run is changed in one thread, so nothing needs a lock.
"""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from enum import Enum, auto
from functools import partial
from typing import TypeVar

_T = TypeVar("_T")


class Stage(Enum):
    """What a task does for its image."""

    READ = auto()
    NETWORK = auto()
    JOIN = auto()


class Tasks:
    """Tasks that are running, and those that are done but not yet handled."""

    def __init__(self) -> None:
        self._done: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._pending: Counter[Stage] = Counter()

    def pending(self, stage: Stage) -> int:
        """The number of tasks of a stage that were submitted and not yet handled."""
        return self._pending[stage]

    def submit(
        self,
        stage: Stage,
        pool: Executor,
        task: Callable[[], _T],
        then: Callable[[Future[_T]], None],
    ) -> Future[_T]:
        """Run `task` in `pool`; `handle` will call `then` with its future.

        A task may be cancelled in the thread that submitted it; then nothing is called.
        """

        def handle(done: Future[_T]) -> None:
            self._pending[stage] -= 1
            then(done)

        def on_done(done: Future[_T]) -> None:
            if done.cancelled():
                self._pending[stage] -= 1
            else:
                self._done.put(partial(handle, done))

        future = pool.submit(task)
        self._pending[stage] += 1
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
