"""Images flow through the network in full batches; outcomes leave in the order they came.

commands -> plan.py -> run.py -> [pipeline.py] -> results.py

read -> encode -> decode -> join: workers read, resize, blend and draw, and on a CPU they also run
the network, each its own batch on one core (Pillow, NumPy and torch leave the interpreter free
meanwhile); a GPU has two threads of its own, so that one batch is prepared while another is
computed. Windows of several images, and pairs of a window and a prompt, fill batches of one fixed
shape, padded if the last is not full. So a result depends neither on what else is counted, nor on
the number of workers or processes (a matrix product split among threads is summed in another
order). Every queue is bounded: memory does not grow with the number of images.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from clipcount_cli.batch.fixed_batch import Decoded, FeatureRow, FixedBatch
from clipcount_cli.batch.plan import Job
from clipcount_cli.batch.tasks import Tasks, UnderWay
from clipcount_cli.counting.counter import Counter, CountResult, Tiles
from clipcount_cli.counting.images import DecodedImage, read_image
from clipcount_cli.counting.model import PatchFeatures
from clipcount_cli.counting.notices import Notice, as_message
from clipcount_cli.counting.plausibility import generic_prompt
from clipcount_cli.counting.results import finite
from clipcount_cli.counting.scale import MAX_TILES
from clipcount_cli.counting.windows import (
    Origin,
    Pixels,
    join_densities,
    resize_shorter_side,
    window_origins,
    window_weights,
)
from clipcount_cli.errors import ClipCountError, CountError, ImageReadError
from clipcount_cli.interrupts import Stop

_T = TypeVar("_T")

BATCH_WAIT_S = 2.0  # how long a batch that is not full waits for more images
POLL_S = 0.1  # how often a signal is looked for while nothing arrives
PIXEL_BUDGET_BYTES = 512 << 20  # of decoded images that wait for the network
GPU_CALLS = 2  # under way at once: one is computed while the next is prepared
JOINS_AHEAD = 2  # batches of densities that may wait to be joined
FINISHED_AHEAD = 4096  # outcomes that may wait for an earlier image, so that it stalls nobody


class Outcome(NamedTuple):
    """What became of one job: a count for each prompt, or a fault."""

    job: Job
    counts: tuple[float, ...] = ()
    size: tuple[int, int] = (0, 0)  # width and height of the upright image
    notes: tuple[str, ...] = ()  # per prompt, what to know about its count
    fault: str = ""  # why it was not
    extras: tuple[Any, ...] = ()  # what `on_result` returned for each prompt


def read_job(job: Job) -> DecodedImage:
    """Read the image of a job from its path."""
    if job.fault:
        raise ImageReadError(f"{job.image}: {job.fault}")
    return read_image(Path(job.path), job.image, job.selection)


@dataclass
class Pipeline:
    """Counts jobs with one counter.

    batch_windows: the fixed shape of every network call; it halves if memory does not hold it.
    """

    counter: Counter
    batch_windows: int
    workers: int
    tiles: Tiles = 1
    # Called in a worker with each result and its image: resized, or as it was if `keep_size`.
    on_result: Callable[[Job, Pixels, CountResult], Any] | None = None
    keep_size: bool = False
    read: Callable[[Job], DecodedImage] = read_job

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
            ThreadPoolExecutor(self.workers, "worker", _use_one_core) as workers,
            ThreadPoolExecutor(GPU_CALLS, "gpu") as gpu,  # starts no thread before it is used
        ):
            run = _PipelineRun(self, workers, gpu if self.on_gpu else workers, iter(jobs), stop)
            try:
                yield from run.outcomes()
            finally:
                workers.shutdown(cancel_futures=True)
                torch.set_num_threads(threads)

    @property
    def on_gpu(self) -> bool:
        """Whether the network has a device of its own."""
        return self.counter.device.type != "cpu"


def _use_one_core() -> None:
    torch.set_num_threads(1)


@dataclass(eq=False)
class _Image:
    """One image on its way."""

    order: int
    job: Job
    prompts: tuple[str, ...]  # the job's, and perhaps the generic one to compare with
    reading: Future[None] | None = None
    size: tuple[int, int] = (0, 0)  # width and height, upright
    resized: tuple[int, int] = (0, 0)  # height and width that the network sees
    tiles: int = 1
    notices: tuple[Notice, ...] = ()  # whatever the prompt
    shown: Pixels | None = None  # what `on_result` is given
    pixels: Pixels | torch.Tensor | None = None  # resized; gone once encoded
    origins: list[Origin] = field(default_factory=list)
    weights: Sequence[NDArray[np.float32]] = ()  # of each window's pixels in the blended map
    features: dict[int, FeatureRow] = field(default_factory=dict)  # by window
    found: dict[int, dict[int, _Row]] = field(default_factory=dict)  # by prompt, window
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


class _Row(NamedTuple):
    """What the network found for one pair."""

    batch: Decoded
    number: int


def _count(prompt: str, rows: Sequence[_Row]) -> float:
    counts = (cast(list[float], row.batch.counts)[row.number] for row in rows)
    return finite(prompt, sum(counts))


def _densities(rows: Sequence[_Row]) -> list[NDArray[np.float32]]:
    return [cast(NDArray[np.float32], row.batch.densities)[row.number] for row in rows]


class _PipelineRun:
    """The moving parts of one run. All state is changed in one thread; others run the tasks."""

    def __init__(
        self,
        pipeline: Pipeline,
        workers: ThreadPoolExecutor,
        network_threads: ThreadPoolExecutor,
        jobs: Iterator[Job | None],
        stop: Stop,
    ) -> None:
        self.pipeline, self.jobs, self.stop = pipeline, jobs, stop
        self.workers, self.network_threads = workers, network_threads
        self.max_calls = GPU_CALLS if pipeline.on_gpu else pipeline.workers
        self.generic = generic_prompt(pipeline.counter.model.config)
        self.network = FixedBatch(pipeline.counter, pipeline.batch_windows)
        self.tasks, self.under_way = Tasks(), UnderWay()
        self.windows: deque[_Window] = deque()  # to encode
        self.pairs: deque[_Pair] = deque()  # to decode
        self.held: dict[int, _Image] = {}
        self.finished: dict[int, Outcome] = {}
        self.begun = self.yielded = self.largest_bytes = 0
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
            self.tasks.handle(POLL_S)
            self.pipeline.batch_windows = self.network.size

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
            compared = () if self.generic in (None, *job.prompts) else (self.generic,)
            image = self.held[self.begun] = _Image(self.begun, job, (*job.prompts, *compared))
            self.begun += 1
            self.under_way.reading += 1
            image.reading = self.tasks.submit(
                self.workers, partial(self._read, image), partial(self._on_read, image)
            )

    def _room(self) -> int:
        """How many images may be held: enough for all calls, fewer if the images are large."""
        tiles = MAX_TILES if self.pipeline.tiles == "auto" else self.pipeline.tiles
        side_px = tiles * self.pipeline.counter.windows.side_px
        largest = max(self.largest_bytes, 4 * side_px * side_px)
        wanted = 2 * self.pipeline.batch_windows + self.pipeline.workers
        return max(self.pipeline.workers + 1, min(wanted, PIXEL_BUDGET_BYTES // largest))

    def _give_up_unread(self) -> None:
        """Forget the jobs no worker has taken yet: they are the last ones begun."""
        for image in list(self.held.values()):
            if image.reading is not None and image.reading.cancel():
                del self.held[image.order]
                self.under_way.reading -= 1
                self.begun = min(self.begun, image.order)

    def _put_away(self, image: _Image, outcome: Outcome) -> None:
        del self.held[image.order]
        self.finished[image.order] = outcome

    # read

    def _read(self, image: _Image) -> None:
        photo = self.pipeline.read(image.job)
        height, width = photo.pixels.shape[:2]
        windows = self.pipeline.counter.windows
        image.size = (width, height)
        # A resumed run must choose tiles as an undisturbed one, which counts all prompts at once.
        prompts = sorted({*image.job.prompts, *image.job.counted_before})
        counter, tiles = self.pipeline.counter, self.pipeline.tiles
        image.tiles, notice = counter.settle_tiles(photo.pixels, tiles, prompts)
        image.notices = (*photo.notices, *([] if notice is None else [notice]))
        resized = resize_shorter_side(photo.pixels, image.tiles * windows.side_px)
        height, width = image.resized = resized.shape[:2]
        image.origins = window_origins(height, width, windows)
        if self.pipeline.on_gpu:
            image.weights = list(window_weights(height, width, windows))
        if self.pipeline.on_result is not None:
            image.shown = photo.pixels if self.pipeline.keep_size else resized
        image.pixels = self.network.stage(resized)

    def _on_read(self, image: _Image, done: Future[None]) -> None:
        self.under_way.reading -= 1
        if error := done.exception():
            self._put_away(image, Outcome(image.job, fault=_reason(error)))
            return
        held_bytes = sum(p.nbytes for p in (image.pixels, image.shown) if p is not None)
        self.largest_bytes = max(self.largest_bytes, held_bytes)
        if not self.windows:
            self.last_call = time.monotonic()  # patience begins with the first to wait
        self.windows.extend(_Window(image, number) for number in range(len(image.origins)))

    # encode and decode

    def _feed_network(self) -> None:
        """Call the network for every full batch; for a smaller one if nothing else will come."""
        tasks = self.under_way
        while tasks.calling < self.max_calls:
            size = self.network.size
            if tasks.joining > JOINS_AHEAD * size:
                return
            waiting = tasks.reading and time.monotonic() - self.last_call < BATCH_WAIT_S
            at_end = not tasks.calling and not tasks.joining and not waiting
            if len(self.pairs) >= size or (at_end and self.pairs and not self.windows):
                pairs = _take(self.pairs, size)
                self._call(partial(self._decode, pairs), partial(self._on_decoded, pairs))
            elif len(self.windows) >= size or (at_end and self.windows):
                windows = _take(self.windows, size)
                self._call(partial(self._encode, windows), partial(self._on_encoded, windows))
            else:
                return

    def _call(self, task: Callable[[], _T], then: Callable[[_T], None]) -> None:
        def on_done(done: Future[_T]) -> None:
            self.under_way.calling -= 1
            then(done.result())

        self.under_way.calling += 1
        self.last_call = time.monotonic()
        self.tasks.submit(self.network_threads, task, on_done)

    def _encode(self, windows: list[_Window]) -> PatchFeatures:
        for image in dict.fromkeys(image for image, _ in windows):
            if image.pixels is not None:  # uploaded once, even if its windows lie in two batches
                image.pixels = self.network.upload(image.pixels)
        sources = [cast(Pixels | torch.Tensor, image.pixels) for image, _ in windows]
        origins = [image.origins[number] for image, number in windows]
        return self.network.encode(list(zip(sources, origins, strict=True)))

    def _on_encoded(self, windows: list[_Window], features: PatchFeatures) -> None:
        for row, (image, number) in enumerate(windows):
            image.features[number] = (features, row)
            if len(image.features) == len(image.origins):
                image.pixels = None
                # One prompt after the other: few prompts' densities wait to be joined.
                self.pairs.extend(
                    _Pair(image, prompt, window)
                    for prompt in range(len(image.prompts))
                    for window in range(len(image.origins))
                )

    def _decode(self, pairs: list[_Pair]) -> Decoded:
        return self.network.decode(
            [image.features[window] for image, _, window in pairs],
            [image.prompts[prompt] for image, prompt, _ in pairs],
            [image.weights[window] for image, _, window in pairs] if self.pipeline.on_gpu else [],
            with_densities=self.pipeline.on_result is not None,
        )

    def _on_decoded(self, pairs: list[_Pair], decoded: Decoded) -> None:
        for number, (image, prompt, window) in enumerate(pairs):
            windows = image.found.setdefault(prompt, {})
            windows[window] = _Row(decoded, number)
            if len(windows) == len(image.origins):
                del image.found[prompt]
                self._begin_join(image, prompt, [windows[n] for n in range(len(windows))])

    # join

    def _begin_join(self, image: _Image, prompt: int, rows: list[_Row]) -> None:
        if rows[0].batch.densities is None:
            self._add_result(image, prompt, lambda: (_count(image.prompts[prompt], rows), None))
            return

        def on_joined(done: Future[tuple[float, Any]]) -> None:
            self.under_way.joining -= 1
            self._add_result(image, prompt, done.result)

        self.under_way.joining += 1
        self.tasks.submit(self.workers, partial(self._join, image, prompt, rows), on_joined)

    def _join(self, image: _Image, prompt: int, rows: list[_Row]) -> tuple[float, Any]:
        config = self.pipeline.counter.windows
        density = join_densities(_densities(rows), *image.resized, config)
        result = CountResult.of(image.prompts[prompt], density)
        if self.pipeline.on_gpu:  # summed there, so that a count does not depend on who draws
            result = replace(result, count=_count(result.prompt, rows))
        asked = prompt < len(image.job.prompts)
        if not asked or self.pipeline.on_result is None or image.shown is None:
            return result.count, None
        return result.count, self.pipeline.on_result(image.job, image.shown, result)

    def _add_result(
        self, image: _Image, prompt: int, result: Callable[[], tuple[float, Any]]
    ) -> None:
        if image.order not in self.held:  # another prompt has failed before
            return
        try:
            image.results[prompt] = result()  # what cannot be drawn ends the run
        except (CountError, ImageReadError) as error:  # not a number; a mask that does not fit
            self._put_away(image, Outcome(image.job, fault=_reason(error)))
            return
        if len(image.results) < len(image.prompts):
            return
        asked = range(len(image.job.prompts))
        counts, extras = zip(*(image.results[number] for number in asked), strict=True)
        notes = tuple(self._note(image, number) for number in asked)
        self._put_away(image, Outcome(image.job, counts, image.size, notes, extras=extras))

    def _note(self, image: _Image, prompt: int) -> str:
        """What to know about a count, for the message of its row."""
        named = None
        if self.generic is not None:
            generic_count, _ = image.results[image.prompts.index(self.generic)]
            count, _ = image.results[prompt]
            named = self.pipeline.counter.name_notice(
                image.prompts[prompt], count, generic_count, min(image.size), image.tiles
            )
        return as_message([*image.notices, *([] if named is None else [named])])


def _take(waiting: deque[_T], most: int) -> list[_T]:
    return [waiting.popleft() for _ in range(min(most, len(waiting)))]


def _reason(error: BaseException) -> str:
    """Why an image failed, in words that are the same in every run."""
    if isinstance(error, ClipCountError):
        return error.with_hint
    return re.sub(r" at 0x[0-9a-fA-F]+", "", f"{type(error).__name__}: {error}")
