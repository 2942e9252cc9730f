"""One batch in several processes: how images are shared out, and how all rows reach one file.

commands -> run.py -> [processes.py] -> pipeline.py
Everything goes through the key-value store that torchrun already runs: an atomic counter hands out
images one at a time, so that no process idles at the end, and outcomes come back under the image's
number. No process waits in a collective operation, so a dead one does not keep others from saving.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from clipcount_cli import distributed
from clipcount_cli.batch.messages import (
    decode_jobs,
    decode_outcome,
    encode_jobs,
    encode_outcome,
)
from clipcount_cli.batch.plan import Job
from clipcount_cli.interrupts import Stop

if TYPE_CHECKING:
    from clipcount_cli.batch.pipeline import Outcome, Pipeline

Outcomes = Generator["Outcome", None, None]  # closing it ends the workers
ShareOut = Callable[["Pipeline", Sequence[Job], Stop], Outcomes]

JOBS_PER_KEY = 500
MIN_HELD = 4  # images that a process may always hold, so that it never waits for reading
MAX_BLOCK = 16  # images taken at once: each access to the store costs as much as a small image
AHEAD = 1024  # images that may be claimed beyond the last row written: bounds the store's memory
POLL_S = 0.02
SHUTDOWN_TIMEOUT_S = 3.0  # how long the first process waits for the others to end
SILENCE_TIMEOUT_S = 10.0  # after a signal, how long to wait for others without any news


def alone(pipeline: Pipeline, jobs: Sequence[Job], stop: Stop) -> Outcomes:
    """Count all jobs in this process."""
    return pipeline.run(jobs, stop)


@contextmanager
def joined() -> Iterator[Team]:
    """Join the other processes for one run; however it ends here, the others learn of it."""
    team = Team(distributed.store(), distributed.rank(), distributed.world_size())
    try:
        yield team
    finally:
        team.leave()


class Team:
    """The processes of one torchrun, as seen by one of them."""

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.store, self.rank = store, rank
        self._others = [other for other in range(size) if other != rank]
        self._claimed: deque[int] = deque()  # by this process, not yet counted
        self._written = 0  # by the first process: outcomes passed on without a gap
        self._page: tuple[int, list[Job]] = (-1, [])

    def lead(self, pipeline: Pipeline, jobs: Sequence[Job], stop: Stop) -> Outcomes:
        """Share out jobs, count some of them, and yield all outcomes in order.

        Once `stop` is true, yields what others still deliver, with gaps if a process died.
        """
        self._publish(jobs)
        outcomes: dict[int, Outcome] = {}
        with closing(pipeline.steps(self._claims(stop), stop)) as steps:
            for outcome in steps:
                if outcome is not None:
                    outcomes[self._claimed.popleft()] = outcome
                yield from self._in_order(outcomes)
        last_news = time.monotonic()
        while self._written < len(jobs) and not self._alone():
            if stop() and time.monotonic() - last_news > SILENCE_TIMEOUT_S:
                break
            for ready in self._in_order(outcomes):
                yield ready
                last_news = time.monotonic()
            time.sleep(POLL_S)
        yield from self._rest(outcomes)

    def assist(self, make_pipeline: Callable[[], Pipeline], stop: Stop) -> None:
        """Count what the first process shares out, until nothing is left."""
        if not self._wait_for("jobs", stop):
            return
        with closing(make_pipeline().steps(self._claims(stop), stop)) as steps:
            for outcome in filter(None, steps):
                self.store.set(f"outcome/{self._claimed.popleft()}", encode_outcome(outcome))

    def leave(self) -> None:
        """Notify the others; the first process, which may host the store, leaves last."""
        self.store.set(f"left/{self.rank}", b"1")
        if self.rank == 0:
            self.store.set("over", b"1")
            deadline = time.monotonic() + SHUTDOWN_TIMEOUT_S
            while not self._alone() and time.monotonic() < deadline:
                time.sleep(POLL_S)

    def _publish(self, jobs: Sequence[Job]) -> None:
        for page, start in enumerate(range(0, len(jobs), JOBS_PER_KEY)):
            self.store.set(f"jobs/{page}", encode_jobs(jobs[start : start + JOBS_PER_KEY]))
        self.store.set("written", b"0")
        self.store.set("jobs", str(len(jobs)))

    def _claims(self, stop: Stop) -> Iterator[Job | None]:
        """Jobs no other process has taken, in blocks; None while others should take them first.

        Blocks shrink towards the end, so that all processes finish at about the same time.
        """
        total = int(self.store.get("jobs"))
        while not (stop() or self._has("over")):
            left = max(0, total - self.store.add("claimed", 0))
            if len(self._claimed) > MIN_HELD + left // (1 + len(self._others)):
                yield None
                continue
            block = max(1, min(MAX_BLOCK, left // (4 * (1 + len(self._others)))))
            first = self.store.add("claimed", block) - block
            while first - int(self.store.get("written")) > AHEAD:
                if self._has("over"):
                    return
                yield None
            for index in range(first, min(first + block, total)):
                if stop():
                    return
                self._claimed.append(index)
                yield self._job(index)
            if first + block >= total:
                return

    def _job(self, index: int) -> Job:
        page, place = divmod(index, JOBS_PER_KEY)
        if self._page[0] != page:
            self._page = (page, decode_jobs(self.store.get(f"jobs/{page}")))
        return self._page[1][place]

    def _in_order(self, outcomes: dict[int, Outcome]) -> Iterator[Outcome]:
        """Yield the next outcomes, up to the first that is missing."""
        while self._written in outcomes or self._fetch(outcomes, self._written):
            yield outcomes.pop(self._written)
            self._written += 1
            self.store.set("written", str(self._written))

    def _fetch(self, outcomes: dict[int, Outcome], index: int) -> bool:
        if not self._has(f"outcome/{index}"):
            return False
        outcomes[index] = decode_outcome(self.store.get(f"outcome/{index}"))
        self.store.delete_key(f"outcome/{index}")
        return True

    def _rest(self, outcomes: dict[int, Outcome]) -> Iterator[Outcome]:
        """Yield the outcomes beyond a gap that a stopped or dead process left."""
        for index in range(self._written, self.store.add("claimed", 0)):
            if index in outcomes or self._fetch(outcomes, index):
                yield outcomes.pop(index)

    def _alone(self) -> bool:
        return all(self._has(f"left/{other}") for other in self._others)

    def _wait_for(self, key: str, stop: Stop) -> bool:
        while not self._has(key):
            if stop() or self._has("over"):
                return False
            time.sleep(POLL_S)  # not in a call of the store, which would block signals
        return True

    def _has(self, key: str) -> bool:
        return bool(self.store.check([key]))
