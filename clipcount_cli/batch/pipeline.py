"""Photographs flow through the network in full batches; outcomes leave in the order they came.

commands -> plan.py -> run.py -> [pipeline.py] -> results.py

Workers read, resize and draw, and on a CPU they also run the network, each its own batch on one
core: Pillow, NumPy and torch leave the interpreter free meanwhile. Windows of several images, and
pairs of a window and a prompt, fill batches of one fixed shape, padded where the last is not full.
So a result depends neither on what else is counted, nor on the number of workers or processes (a
matrix product split among threads is summed in another order).
Every queue is bounded: memory does not grow with the number of images.
"""

from __future__ import annotations

import itertools
import queue
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch

from clipcount_cli.batch.fixed_batch import DensityRow, FeatureRow, FixedBatch, HostCopy
from clipcount_cli.batch.plan import Job
from clipcount_cli.counting.counter import Counter, CountResult
from clipcount_cli.counting.images import read_image
from clipcount_cli.counting.model import PatchFeatures
from clipcount_cli.counting.notices import as_message
from clipcount_cli.counting.windows import (
    Origin,
    Pixels,
    cut_windows,
    join_densities,
    resize_shorter_side,
    window_origins,
)
from clipcount_cli.errors import ClipCountError, ImageReadError
from clipcount_cli.interrupts import Stop

_T = TypeVar("_T")

BATCH_WAIT_S = 2.0  # how long a batch that is not full waits for more images
POLL_S = 0.1  # how often a signal is looked for while nothing arrives
PIXEL_BUDGET_BYTES = 512 << 20  # of decoded images that wait for the network
JOINS_AHEAD = 2  # batches of densities that may wait to be joined
FINISHED_AHEAD = 4096  # outcomes that may wait for an earlier image, so that it stalls nobody


class Outcome(NamedTuple):
    """What became of one job: a count for each prompt, or a fault."""

    job: Job
    counts: tuple[float, ...] = ()
    size: tuple[int, int] = (0, 0)  # width and height of the upright photograph
    note: str = ""  # worth telling of an image that was counted
    fault: str = ""  # why it was not
    extras: tuple[Any, ...] = ()  # what `on_result` returned for each prompt


@dataclass
class Pipeline:
    """Counts jobs with one counter; `batch_windows` is the fixed shape of every network call."""

    counter: Counter
    batch_windows: int
    workers: int
    tiles: int = 1
    # Called in a worker with each result and its photograph: resized, or as it was if `keep_size`.
    on_result: Callable[[Job, Pixels, CountResult], Any] | None = None
    keep_size: bool = False

    def run(self, jobs: Iterable[Job], stop: Stop) -> Generator[Outcome, None, None]:
        """Yield an outcome per job, in order; once `stop` says so, only finish what is begun."""
        with closing(self.steps(jobs, stop)) as steps:
            yield from (outcome for outcome in steps if outcome is not None)

    def steps(
        self, jobs: Iterable[Job | None], stop: Stop
    ) -> Generator[Outcome | None, None, None]:
        """As `run`, but None is yielded between outcomes, and a None among jobs means: not now."""
        threads = torch.get_num_threads()
        with (
            ThreadPoolExecutor(self.workers, "worker", _use_one_core) as pool,
            ThreadPoolExecutor(1, "gpu") as gpu,  # starts no thread before it is used
        ):
            flow = _PipelineRun(self, pool, gpu if self.on_gpu else pool, iter(jobs), stop)
            try:
                yield from flow.outcomes()
            finally:
                pool.shutdown(cancel_futures=True)
                torch.set_num_threads(threads)

    @property
    def on_gpu(self) -> bool:
        """Whether the network has a device of its own, which one thread feeds."""
        return self.counter.device.type != "cpu"


def _use_one_core() -> None:
    torch.set_num_threads(1)


@dataclass(eq=False)
class _Image:
    """One image on its way."""

    order: int
    job: Job
    reading: Future[None] | None = None
    size: tuple[int, int] = (0, 0)  # width and height, upright
    resized: tuple[int, int] = (0, 0)  # height and width that the network sees
    note: str = ""
    shown: Pixels | None = None  # what `on_result` is given
    pixels: Pixels | None = None  # resized; gone once encoded
    origins: list[Origin] = field(default_factory=list)
    features: dict[int, FeatureRow] = field(default_factory=dict)  # by window
    densities: dict[int, dict[int, DensityRow]] = field(default_factory=dict)  # by prompt, window
    results: dict[int, tuple[float, Any]] = field(default_factory=dict)  # by number of the prompt


class _Window(NamedTuple):
    """A window of an image: one row of the encoder's batch."""

    image: _Image
    number: int


class _Pair(NamedTuple):
    """A window and a prompt: one row of the decoder's batch."""

    image: _Image
    prompt: int
    window: int


class _PipelineRun:
    """The moving parts of one run. All state is changed in one thread; workers run the tasks."""

    def __init__(
        self,
        pipeline: Pipeline,
        pool: ThreadPoolExecutor,
        network_pool: ThreadPoolExecutor,
        jobs: Iterator[Job | None],
        stop: Stop,
    ) -> None:
        self.pipeline, self.jobs, self.stop = pipeline, jobs, stop
        self.pool, self.network_pool = pool, network_pool
        self.network = FixedBatch(pipeline.counter, pipeline.batch_windows)
        self.network_calls = (
            2 if pipeline.on_gpu else pipeline.workers
        )  # that may be under way at once
        self.arrivals: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.held: dict[int, _Image] = {}
        self.windows: deque[_Window] = deque()
        self.pairs: deque[_Pair] = deque()
        self.finished: dict[int, Outcome] = {}
        self.begun = self.yielded = self.largest_bytes = 0
        self.reading = self.calling = self.joining = 0  # tasks of each kind under way
        self.last_call = time.monotonic()
        self.exhausted = False

    def outcomes(self) -> Iterator[Outcome | None]:
        while True:
            self._begin_more()
            while self.yielded in self.finished:
                outcome = self.finished.pop(self.yielded)
                self.yielded += 1
                yield outcome
            if self.exhausted and self.yielded == self.begun:
                return
            yield None
            self._feed_network()
            self._take_arrivals()

    def _begin_more(self) -> None:
        """Hand jobs to the workers, as far as memory allows."""
        if self.stop() and not self.exhausted:
            self.exhausted = True
            self._give_up_unread()
        while not self.exhausted and len(self.held) < self._room():
            if self.begun - self.yielded >= FINISHED_AHEAD:
                return
            try:
                job = next(self.jobs)
            except StopIteration:
                self.exhausted = True
                return
            if job is None:
                return
            image = self.held[self.begun] = _Image(self.begun, job)
            self.begun += 1
            self.reading += 1
            image.reading = self._submit(
                self.pool, partial(self._read, image), partial(self._read_done, image)
            )

    def _room(self) -> int:
        """How many images may be held: two batches' worth, fewer where they are large."""
        side_px = self.pipeline.tiles * self.pipeline.counter.windows.side_px
        largest = max(self.largest_bytes, 4 * side_px * side_px)
        wanted = 2 * self.pipeline.batch_windows + self.pipeline.workers
        return max(self.pipeline.workers + 1, min(wanted, PIXEL_BUDGET_BYTES // largest))

    def _give_up_unread(self) -> None:
        """Forget the jobs no worker has taken yet: they are the last ones begun."""
        for image in list(self.held.values()):
            if image.reading is not None and image.reading.cancel():
                del self.held[image.order]
                self.reading -= 1
                self.begun = min(self.begun, image.order)

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        task: Callable[[], _T],
        then: Callable[[Future[_T]], None],
    ) -> Future[_T]:
        """Let a worker do `task`; `then` is called in this thread, with what became of it."""

        def arrive(done: Future[_T]) -> None:
            if not done.cancelled():
                self.arrivals.put(partial(then, done))

        future = pool.submit(task)
        future.add_done_callback(arrive)
        return future

    def _take_arrivals(self) -> None:
        """Wait for what workers have done, and go on with it."""
        wait = True
        try:
            while True:
                self.arrivals.get(block=wait, timeout=POLL_S)()
                wait = False
        except queue.Empty:
            return

    def _read(self, image: _Image) -> None:
        if image.job.fault:
            raise ImageReadError(f"{image.job.image}: {image.job.fault}")
        photo = read_image(Path(image.job.path), image.job.image)
        height, width = photo.pixels.shape[:2]
        windows = self.pipeline.counter.windows
        image.size = (width, height)
        image.note = as_message(photo.notices)
        image.pixels = resize_shorter_side(photo.pixels, self.pipeline.tiles * windows.side_px)
        height, width = image.resized = image.pixels.shape[:2]
        image.origins = window_origins(height, width, windows)
        if self.pipeline.on_result is not None:
            image.shown = photo.pixels if self.pipeline.keep_size else image.pixels

    def _read_done(self, image: _Image, done: Future[None]) -> None:
        self.reading -= 1
        if error := done.exception():
            self._put_away(image, Outcome(image.job, fault=_reason(error)))
            return
        held_bytes = sum(p.nbytes for p in (image.pixels, image.shown) if p is not None)
        self.largest_bytes = max(self.largest_bytes, held_bytes)
        if not self.windows:
            self.last_call = time.monotonic()  # patience begins with the first to wait
        self.windows.extend(_Window(image, number) for number in range(len(image.origins)))

    def _put_away(self, image: _Image, outcome: Outcome) -> None:
        del self.held[image.order]
        self.finished[image.order] = outcome

    def _feed_network(self) -> None:
        """Call the network for every full batch; for a smaller one if nothing else will come."""
        while self.calling < self.network_calls:
            size = self.network.size
            if self.joining > JOINS_AHEAD * size:
                return
            waiting = self.reading and time.monotonic() - self.last_call < BATCH_WAIT_S
            at_end = not self.calling and not self.joining and not waiting
            if len(self.pairs) >= size or (at_end and self.pairs and not self.windows):
                pairs = _take(self.pairs, size)
                self._call(partial(self._decode, pairs), partial(self._decode_done, pairs))
            elif len(self.windows) >= size or (at_end and self.windows):
                windows = _take(self.windows, size)
                self._call(partial(self._encode, windows), partial(self._encode_done, windows))
            else:
                return

    def _call(self, task: Callable[[], _T], then: Callable[[_T], None]) -> None:
        def on_done(done: Future[_T]) -> None:
            self.calling -= 1
            then(done.result())

        self.calling += 1
        self.last_call = time.monotonic()
        self._submit(self.network_pool, task, on_done)

    def _encode(self, windows: list[_Window]) -> PatchFeatures:
        config = self.pipeline.counter.windows
        cut = [
            cut_windows(
                cast(Pixels, image.pixels), [image.origins[w.number] for w in group], config
            )
            for image, group in itertools.groupby(windows, key=attrgetter("image"))
        ]
        return self.network.encode(cut[0] if len(cut) == 1 else np.concatenate(cut))

    def _encode_done(self, windows: list[_Window], features: PatchFeatures) -> None:
        for row, (image, number) in enumerate(windows):
            image.features[number] = (features, row)
            if len(image.features) == len(image.origins):
                image.pixels = None
                # One prompt after the other: few prompts' densities wait to be joined.
                self.pairs.extend(
                    _Pair(image, prompt, window)
                    for prompt in range(len(image.job.prompts))
                    for window in range(len(image.origins))
                )

    def _decode(self, pairs: list[_Pair]) -> HostCopy:
        prompts = [image.job.prompts[prompt] for image, prompt, _ in pairs]
        return self.network.decode([image.features[w] for image, _, w in pairs], prompts)

    def _decode_done(self, pairs: list[_Pair], copy: HostCopy) -> None:
        for row, (image, prompt, window) in enumerate(pairs):
            windows = image.densities.setdefault(prompt, {})
            windows[window] = (copy, row)
            if len(windows) == len(image.origins):
                del image.densities[prompt]
                in_order = [windows[number] for number in range(len(windows))]
                self.joining += 1
                self._submit(
                    self.pool,
                    partial(self._join, image, prompt, in_order),
                    partial(self._join_done, image),
                )

    def _join(self, image: _Image, prompt: int, rows: list[DensityRow]) -> None:
        windows = [copy.numpy()[row] for copy, row in rows]
        density = join_densities(windows, *image.resized, self.pipeline.counter.windows)
        result = CountResult.of(image.job.prompts[prompt], density)
        extra = None
        if self.pipeline.on_result is not None and image.shown is not None:
            extra = self.pipeline.on_result(image.job, image.shown, result)
        image.results[prompt] = (result.count, extra)

    def _join_done(self, image: _Image, done: Future[None]) -> None:
        self.joining -= 1
        done.result()  # a heatmap that cannot be written ends the run
        if len(image.results) < len(image.job.prompts) or image.order not in self.held:
            return
        counts, extras = zip(*(image.results[i] for i in range(len(image.results))), strict=True)
        self._put_away(image, Outcome(image.job, counts, image.size, image.note, extras=extras))


def _take(waiting: deque[_T], most: int) -> list[_T]:
    return [waiting.popleft() for _ in range(min(most, len(waiting)))]


def _reason(error: BaseException) -> str:
    """Why an image failed, in words that are the same in every run."""
    text = str(error) if isinstance(error, ClipCountError) else f"{type(error).__name__}: {error}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
