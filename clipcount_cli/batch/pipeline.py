"""Images flow through the network in full batches; outcomes leave in the order of the jobs.

commands -> plan.py -> run.py -> [pipeline.py] -> results.py
Below it: readers.py, network_calls.py (batches of windows), in_flight.py (one image), in_order.py,
tasks.py.

read -> encode -> decode -> join: workers read, resize, blend and draw, and on a CPU they also run
the network, each its own batch on one core (Pillow, NumPy and torch leave the interpreter free
meanwhile); a GPU has threads of its own, so that batches are prepared while another is computed,
and in a long run processes that read.
Windows of several images, and pairs of a window and a prompt, fill batches of one fixed shape,
padded if the last is not full. So a result depends neither on what else is counted, nor on the
number of workers or processes (a matrix product split among threads is summed in another order).
Every queue is bounded: memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch

from clipcount_cli import console
from clipcount_cli.batch.fixed_batch import FixedBatch
from clipcount_cli.batch.in_flight import (
    FoundRow,
    ImageInFlight,
    count_of,
    densities_of,
)
from clipcount_cli.batch.in_order import InOrder
from clipcount_cli.batch.network_calls import NetworkCalls
from clipcount_cli.batch.plan import Job
from clipcount_cli.batch.readers import Readers
from clipcount_cli.batch.reading import Prepared, fault_of, read
from clipcount_cli.batch.reading_processes import ReadingProcesses, slot_bytes
from clipcount_cli.batch.tasks import Stage, Tasks
from clipcount_cli.counting.counter import Counter, CountResult, Tiles
from clipcount_cli.counting.images import DecodedImage
from clipcount_cli.counting.notices import as_message
from clipcount_cli.counting.open_stacks import OpenStacks
from clipcount_cli.counting.scale import MAX_TILES
from clipcount_cli.counting.windows import (
    Pixels,
    join_densities,
    resize_shorter_side,
    window_origins,
    window_weights,
)
from clipcount_cli.errors import CountError, ImageReadError
from clipcount_cli.interrupts import Stop

POLL_S = 0.1  # how often a signal is looked for while nothing arrives
PIXEL_BUDGET_BYTES = 512 << 20  # of decoded images that wait for the network
GPU_CALLS = 3  # at a time: one is computed while the next ones are prepared
FINISHED_AHEAD = 4096  # outcomes that may wait for an earlier image before it stalls the others


class Outcome(NamedTuple):
    """The result of one job: a count for each prompt, or a fault."""

    job: Job
    counts: tuple[float, ...] = ()
    size: tuple[int, int] = (0, 0)  # width and height of the upright image
    notes: tuple[str, ...] = ()  # per prompt, what to know about its count
    fault: str = ""  # why there is no count
    extras: tuple[Any, ...] = ()  # what `on_result` returned for each prompt


@dataclass
class Pipeline:
    """Counts jobs with one counter.

    batch_windows: the fixed shape of every network call; it halves if memory does not hold it.
    """

    counter: Counter
    batch_windows: int
    workers: int
    tiles: Tiles = 1
    # Called in a worker with each result and what `view` makes of its upright image; without
    # `view`, with the image as the network sees it.
    on_result: Callable[[Job, Pixels, CountResult], Any] | None = None
    view: Callable[[Pixels], Pixels] | None = None
    read: Callable[[Job], DecodedImage] | None = None  # None: from the path of the job
    judges: bool = True  # notes compare counts with those of further prompts
    reads_in_processes: bool = False  # `workers` of them, in a long run of plain counts
    stacks: OpenStacks = field(default_factory=OpenStacks, init=False)

    def run(self, jobs: Iterable[Job], stop: Stop) -> Generator[Outcome, None, None]:
        """Yield an outcome per job, in order; once `stop` is true, only finish what was started."""
        with closing(self.steps(jobs, stop)) as steps:
            yield from (outcome for outcome in steps if outcome is not None)

    def steps(
        self, jobs: Iterable[Job | None], stop: Stop
    ) -> Generator[Outcome | None, None, None]:
        """Like `run`, but also yields None between outcomes; a job None means: none for now."""
        threads = torch.get_num_threads()
        with (
            ThreadPoolExecutor(self.workers, "worker", _use_one_core) as workers,
            ThreadPoolExecutor(GPU_CALLS, "gpu") as gpu,  # starts no thread before it is used
        ):
            run = _PipelineRun(self, workers, gpu, iter(jobs), stop)
            try:
                yield from run.outcomes()
            finally:
                run.readers.close()
                workers.shutdown(cancel_futures=True)
                self.stacks.close()
                torch.set_num_threads(threads)

    @property
    def on_gpu(self) -> bool:
        """Whether the network has a device of its own."""
        return self.counter.device.type != "cpu"

    def prepare(self, job: Job) -> tuple[Prepared, Pixels]:
        """Read and resize the image of a job."""
        photo = read(job, self.stacks) if self.read is None else self.read(job)
        # A resumed run must choose tiles as an undisturbed one, which counts all prompts at once.
        prompts = sorted({*job.prompts, *job.counted_before})
        tiles, notice = self.counter.settle_tiles(photo, self.tiles, prompts)
        resized = resize_shorter_side(photo.source, tiles * self.counter.windows.side_px)
        shown = (self.view(photo.pixels) if self.view else resized) if self.on_result else None
        return Prepared.of(photo, tiles, notice, shown), resized

    def processes(self, slots: int) -> ReadingProcesses | None:
        """Processes that do the same for plain counts, `slots` images at a time."""
        plain = self.read is None and self.on_result is None
        if not (self.reads_in_processes and plain and isinstance(self.tiles, int)):
            return None
        try:
            return ReadingProcesses(self.workers, slots, self.tiles, self.counter.windows)
        except OSError as error:
            console.warn(f"no memory to share with processes that read images: {error}")
            return None

    def join(
        self, image: ImageInFlight, prompt: int, rows: Sequence[FoundRow]
    ) -> tuple[float, Any]:
        """Blend the windows of a prompt into a count and what `on_result` makes of it."""
        density = join_densities(densities_of(rows), *image.seen, self.counter.windows)
        result = CountResult.of(image.prompts[prompt], density)
        if self.on_gpu:  # summed there, so that a count does not depend on who draws
            result = replace(result, count=count_of(result.prompt, rows))
        requested = prompt < len(image.job.prompts)
        if not requested or self.on_result is None or image.prepared.shown is None:
            return result.count, None
        return result.count, self.on_result(image.job, image.prepared.shown, result)

    def outcome(self, image: ImageInFlight) -> Outcome:
        """The outcome of an image of which every prompt is counted."""
        requested = range(len(image.job.prompts))
        counts, extras = zip(*(image.results[number] for number in requested), strict=True)
        notes = tuple(self._note(image, number) for number in requested)
        return Outcome(image.job, counts, image.prepared.size, notes, extras=extras)

    def _note(self, image: ImageInFlight, prompt: int) -> str:
        """What to know about a count, for the message of its row."""
        named = None
        if self.judges:
            count_of = {name: image.results[n][0] for n, name in enumerate(image.prompts)}
            named = self.counter.name_notice(
                image.prompts[prompt], count_of, min(image.prepared.size), image.prepared.tiles
            )
        return as_message([*image.prepared.notices, *([] if named is None else [named])])


def _use_one_core() -> None:
    torch.set_num_threads(1)


class _PipelineRun:
    """One run of a pipeline. All its state is changed in one thread; others run the tasks."""

    def __init__(
        self,
        pipeline: Pipeline,
        workers: ThreadPoolExecutor,
        gpu: ThreadPoolExecutor,
        jobs: Iterator[Job | None],
        stop: Stop,
    ) -> None:
        self.pipeline, self.workers, self.jobs, self.stop = pipeline, workers, jobs, stop
        self.tasks = Tasks()
        self.network = NetworkCalls(
            FixedBatch(pipeline.counter, pipeline.batch_windows),
            self.tasks,
            threads=gpu if pipeline.on_gpu else workers,
            max_calls=GPU_CALLS if pipeline.on_gpu else pipeline.workers,
            with_densities=pipeline.on_result is not None,
            on_found=self._join,
        )
        self.order: InOrder[Outcome] = InOrder()
        self.held: dict[int, ImageInFlight] = {}  # by their places in the order
        self.largest_bytes = 0  # of the images held so far
        self.exhausted = False  # no more jobs are started
        self.readers = Readers(
            self.tasks,
            workers,
            pipeline.prepare,
            start_processes=lambda: pipeline.processes(slots=self._room()),
            on_read=self._queue,
            on_fault=lambda image, fault: self._finish(image, Outcome(image.job, fault=fault)),
        )

    def outcomes(self) -> Iterator[Outcome | None]:
        while True:
            self._start_jobs()
            yield from self.order.leaving()
            if self.exhausted and not self.order.inside:
                return
            yield None
            self.network.feed()
            self.tasks.handle(POLL_S)
            self.pipeline.batch_windows = self.network.network.size

    def _start_jobs(self) -> None:
        """Hand jobs to the workers, as far as memory allows."""
        if self.stop() and not self.exhausted:
            self.exhausted = True
            self._cancel_unread()
        while not self.exhausted and len(self.held) < self._room():
            if self.order.inside >= FINISHED_AHEAD:
                return
            try:
                job = next(self.jobs)
            except StopIteration:
                self.exhausted = True
                return
            if job is None:
                return
            self._start(job)

    def _start(self, job: Job) -> None:
        compared = self.pipeline.counter.references(job.prompts) if self.pipeline.judges else ()
        image = ImageInFlight(self.order.start(), job, (*job.prompts, *compared))
        self.held[image.place] = image
        self.readers.read(image)

    def _room(self) -> int:
        """How many images may be held: enough for all calls, fewer if the images are large."""
        tiles = MAX_TILES if self.pipeline.tiles == "auto" else self.pipeline.tiles
        side_px = tiles * self.pipeline.counter.windows.side_px
        largest = max(self.largest_bytes, slot_bytes(side_px))
        wanted = 2 * self.pipeline.batch_windows + self.pipeline.workers
        return max(self.pipeline.workers + 1, min(wanted, PIXEL_BUDGET_BYTES // largest))

    def _cancel_unread(self) -> None:
        """Forget the jobs that no worker has started: they are the last ones."""
        for image in list(self.held.values()):
            if image.reading is not None and image.reading.cancel():
                del self.held[image.place]
                self.order.cut(image.place)

    def _queue(self, image: ImageInFlight, prepared: Prepared, pixels: Pixels) -> None:
        """Queue an image that was read for the network."""
        image.prepared, image.source, image.seen = prepared, pixels, pixels.shape[:2]
        windows = self.pipeline.counter.windows
        image.origins = window_origins(*image.seen, windows)
        if self.pipeline.on_gpu:
            image.weights = window_weights(*image.seen, windows)
        arrays = (image.source, image.prepared.shown)
        held_bytes = sum(array.nbytes for array in arrays if array is not None)
        self.largest_bytes = max(self.largest_bytes, held_bytes)
        self.network.add(image)

    def _join(self, image: ImageInFlight, prompt: int, rows: list[FoundRow]) -> None:
        """Make one result of a prompt's windows, in a worker if there are maps to blend."""
        if rows[0].batch.densities is None:
            self._add_result(image, prompt, lambda: (count_of(image.prompts[prompt], rows), None))
            return
        task = partial(self.pipeline.join, image, prompt, rows)

        def on_joined(done: Future[tuple[float, Any]]) -> None:
            self._add_result(image, prompt, done.result)

        self.tasks.submit(Stage.JOIN, self.workers, task, on_joined)

    def _add_result(
        self, image: ImageInFlight, prompt: int, result: Callable[[], tuple[float, Any]]
    ) -> None:
        if image.place not in self.held:  # another prompt of it has failed
            return
        try:
            image.results[prompt] = result()  # what cannot be drawn ends the run
        except (CountError, ImageReadError) as error:  # not a number; a mask that does not fit
            self._finish(image, Outcome(image.job, fault=fault_of(error)))
            return
        if len(image.results) == len(image.prompts):
            self._finish(image, self.pipeline.outcome(image))

    def _finish(self, image: ImageInFlight, outcome: Outcome) -> None:
        del self.held[image.place]
        self.readers.release(image)
        self.order.finish(image.place, outcome)
