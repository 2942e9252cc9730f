"""Photographs flow through the network in full batches; outcomes leave in the order they came.

cli -> jobs.py -> batch.py -> [pipeline.py] -> results.py

Threads decode, resize, and finish (Pillow and NumPy leave the interpreter free meanwhile); the
thread that asks for outcomes runs the network. Windows of several images, and pairs of a window
and a prompt, fill batches of one fixed shape, padded where the last is not full: so a result
depends neither on what else is counted, nor on the number of workers.
Every queue is bounded: memory does not grow with the number of images.
"""

from __future__ import annotations

import functools
import itertools
import queue
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipcount_cli import console
from clipcount_cli.counting.counter import Counter, CountResult
from clipcount_cli.counting.images import read_image
from clipcount_cli.counting.model import PatchFeatures
from clipcount_cli.counting.windows import (
    Density,
    Origin,
    Pixels,
    cut_windows,
    join_densities,
    resize_shorter_side,
    window_origins,
)
from clipcount_cli.errors import ClipCountError, DeviceError, ImageReadError
from clipcount_cli.jobs import Job

_T = TypeVar("_T")

PATIENCE_S = 2.0  # how long a batch that is not full waits for more images
POLL_S = 0.1  # how often a signal is looked for while nothing arrives
PIXEL_BUDGET_BYTES = 512 << 20  # of decoded images that wait for the network
FINISHED_AHEAD = 4096  # outcomes that may wait for an earlier image, so that it stalls nobody


class Outcome(NamedTuple):
    """What became of one job: a count for each prompt, or a fault."""

    job: Job
    counts: tuple[float, ...] = ()
    size: tuple[int, int] = (0, 0)  # width and height of the upright photograph
    note: str = ""  # worth telling of an image that was counted
    fault: str = ""  # why it was not
    extras: tuple[Any, ...] = ()  # what `finish` returned for each prompt


@dataclass
class Pipeline:
    """Counts jobs with one counter; `batch_windows` is the fixed shape of every network call."""

    counter: Counter
    batch_windows: int
    workers: int
    tiles: int = 1
    # Called in a worker with each result and its photograph: resized, or as it was if `keep_size`.
    finish: Callable[[Job, Pixels, CountResult], Any] | None = None
    keep_size: bool = False

    def run(
        self, jobs: Iterable[Job], stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Outcome]:
        """Yield an outcome per job, in order; once `stop` says so, only finish what is begun."""
        with ThreadPoolExecutor(self.workers, "image") as pool:
            try:
                yield from _Flow(self, pool, iter(jobs), stop).outcomes()
            finally:
                pool.shutdown(cancel_futures=True)


@dataclass(eq=False)
class _Image:
    """One image on its way."""

    order: int
    job: Job
    reading: Future[None] | None = None
    size: tuple[int, int] = (0, 0)  # width and height, upright
    resized: tuple[int, int] = (0, 0)  # height and width that the network sees
    note: str = ""
    shown: Pixels | None = None  # what `finish` is given
    pixels: Pixels | None = None  # resized; gone once encoded
    origins: list[Origin] = field(default_factory=list)
    features: list[tuple[PatchFeatures, int]] = field(default_factory=list)  # batch and row
    densities: list[Density] = field(default_factory=list)  # of the prompt in the decoder
    results: dict[int, tuple[float, Any]] = field(default_factory=dict)  # by number of the prompt


class _Pair(NamedTuple):
    """A window and a prompt: one row of the decoder's batch."""

    image: _Image
    prompt: int
    window: int


class _Flow:
    """The moving parts of one run. Only `_read` and `_join` are called in workers."""

    def __init__(
        self,
        line: Pipeline,
        pool: ThreadPoolExecutor,
        jobs: Iterator[Job],
        stop: Callable[[], bool],
    ) -> None:
        self.line, self.pool, self.jobs, self.stop = line, pool, jobs, stop
        self.network = FixedBatch(line.counter, line.batch_windows)
        self.arrivals: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.held: dict[int, _Image] = {}
        self.windows: deque[tuple[_Image, Origin]] = deque()
        self.pairs: deque[_Pair] = deque()
        self.finished: dict[int, Outcome] = {}
        self.begun = self.yielded = self.reading = self.largest_bytes = 0
        self.exhausted = False

    def outcomes(self) -> Iterator[Outcome]:
        idle_since = time.monotonic()
        while True:
            self._begin_more()
            while self.yielded in self.finished:
                outcome = self.finished.pop(self.yielded)
                self.yielded += 1
                yield outcome
            if self.exhausted and self.yielded == self.begun:
                return
            self._take_arrivals(wait=False)
            # A batch that is not full waits for more windows, though not for ever.
            out_of_patience = not self.reading or time.monotonic() - idle_since > PATIENCE_S
            if self._run_network(full_only=True) or (
                out_of_patience and self._run_network(full_only=False)
            ):
                idle_since = time.monotonic()
            else:
                self._take_arrivals(wait=True)

    def _begin_more(self) -> None:
        """Hand jobs to the workers, as far as memory allows."""
        if self.stop() and not self.exhausted:
            self.exhausted = True
            self._give_up_unread()
        while not self.exhausted and len(self.held) < self._room():
            if self.begun - self.yielded >= FINISHED_AHEAD:
                return
            job = next(self.jobs, None)
            if job is None:
                self.exhausted = True
                return
            image = self.held[self.begun] = _Image(self.begun, job)
            self.begun += 1
            self.reading += 1
            image.reading = self._submit(
                functools.partial(self._read, image),
                functools.partial(self._read_done, image),
            )

    def _room(self) -> int:
        """How many images may be held: two batches' worth, fewer where they are large."""
        side_px = self.line.tiles * self.line.counter.windows.side_px
        largest = max(self.largest_bytes, 4 * side_px * side_px)
        wanted = 2 * self.line.batch_windows + self.line.workers
        return max(self.line.workers + 1, min(wanted, PIXEL_BUDGET_BYTES // largest))

    def _give_up_unread(self) -> None:
        """Forget the jobs no worker has taken yet: they are the last ones begun."""
        for image in list(self.held.values()):
            if image.reading is not None and image.reading.cancel():
                del self.held[image.order]
                self.reading -= 1
                self.begun = min(self.begun, image.order)

    def _submit(self, work: Callable[[], Any], then: Callable[[Future[Any]], None]) -> Future[Any]:
        def arrive(done: Future[Any]) -> None:
            if not done.cancelled():
                self.arrivals.put(functools.partial(then, done))

        future = self.pool.submit(work)
        future.add_done_callback(arrive)
        return future

    def _take_arrivals(self, wait: bool) -> None:
        """Go on with what the workers have done, in this thread."""
        try:
            while True:
                self.arrivals.get(block=wait, timeout=POLL_S if wait else None)()
                wait = False
        except queue.Empty:
            return

    def _read(self, image: _Image) -> None:
        if image.job.fault:
            raise ImageReadError(f"{image.job.image}: {image.job.fault}")
        photo = read_image(Path(image.job.path), image.job.image)
        height, width = photo.pixels.shape[:2]
        windows = self.line.counter.windows
        image.size = (width, height)
        image.note = f"first of {photo.pages} pages" if photo.pages > 1 else ""
        image.pixels = resize_shorter_side(photo.pixels, self.line.tiles * windows.side_px)
        height, width = image.resized = image.pixels.shape[:2]
        image.origins = window_origins(height, width, windows)
        if self.line.finish is not None:
            image.shown = photo.pixels if self.line.keep_size else image.pixels

    def _read_done(self, image: _Image, done: Future[None]) -> None:
        self.reading -= 1
        if error := done.exception():
            self._put_away(image, Outcome(image.job, fault=_reason(error)))
            return
        held_bytes = sum(p.nbytes for p in (image.pixels, image.shown) if p is not None)
        self.largest_bytes = max(self.largest_bytes, held_bytes)
        self.windows.extend((image, origin) for origin in image.origins)

    def _put_away(self, image: _Image, outcome: Outcome) -> None:
        del self.held[image.order]
        self.finished[image.order] = outcome

    def _run_network(self, full_only: bool) -> bool:
        """Decode a batch of pairs, else encode a batch of windows; False if there is none."""
        enough = self.network.size if full_only else 1
        if len(self.pairs) >= (enough if full_only or not self.windows else self.network.size):
            self._decode(_take(self.pairs, self.network.size))
        elif len(self.windows) >= enough:
            self._encode(_take(self.windows, self.network.size))
        else:
            return False
        return True

    def _encode(self, batch: list[tuple[_Image, Origin]]) -> None:
        config = self.line.counter.windows
        cut = [
            cut_windows(cast(Pixels, image.pixels), [origin for _, origin in group], config)
            for image, group in itertools.groupby(batch, key=itemgetter(0))
        ]
        features = self.network.encode(cut[0] if len(cut) == 1 else np.concatenate(cut))
        for row, (image, _) in enumerate(batch):
            image.features.append((features, row))
            if len(image.features) == len(image.origins):
                image.pixels = None
                # One prompt after the other: only one prompt's densities wait to be joined.
                self.pairs.extend(
                    _Pair(image, prompt, window)
                    for prompt in range(len(image.job.prompts))
                    for window in range(len(image.origins))
                )

    def _decode(self, batch: list[_Pair]) -> None:
        text = self.line.counter.encode_prompts(
            [image.job.prompts[prompt] for image, prompt, _ in batch]
        )
        features = _gather([image.features[window] for image, _, window in batch])
        for pair, density in zip(batch, self.network.decode(features, text), strict=True):
            image = pair.image
            image.densities.append(density)
            if len(image.densities) == len(image.origins):
                densities, image.densities = image.densities, []
                self._submit(
                    functools.partial(self._join, image, pair.prompt, densities),
                    functools.partial(self._join_done, image),
                )

    def _join(self, image: _Image, prompt: int, densities: list[Density]) -> None:
        windows = self.line.counter.windows
        density = join_densities(densities, *image.resized, windows)
        result = CountResult.of(image.job.prompts[prompt], density)
        extra = None
        if self.line.finish is not None and image.shown is not None:
            extra = self.line.finish(image.job, image.shown, result)
        image.results[prompt] = (result.count, extra)

    def _join_done(self, image: _Image, done: Future[None]) -> None:
        done.result()  # a heatmap that cannot be written ends the run
        if len(image.results) < len(image.job.prompts):
            return
        counts, extras = zip(*(image.results[i] for i in range(len(image.results))), strict=True)
        self._put_away(
            image, Outcome(image.job, counts, image.size, note=image.note, extras=extras)
        )


class FixedBatch:
    """The network, always called with one batch shape, which halves where memory runs out."""

    def __init__(self, counter: Counter, size: int) -> None:
        self.counter = counter
        self.size = size

    def encode(self, windows: Pixels) -> PatchFeatures:
        """Windows (K, 384, 384, 3) -> features of at least K rows."""

        def network(index: Tensor) -> PatchFeatures:
            whole = len(index) == len(windows)
            return self.counter.encode_windows(windows if whole else windows[index.numpy()])

        return _joined(self._in_batches(network, len(windows)))

    def decode(self, features: PatchFeatures, text: Tensor) -> NDArray[np.float32]:
        """Features and text of K rows -> network densities (K, 384, 384)."""

        def network(index: Tensor) -> NDArray[np.float32]:
            if len(index) == len(text):
                return self.counter.densities(features, text).numpy(force=True)
            index = index.to(text.device)
            return self.counter.densities(features.select(index), text[index]).numpy(force=True)

        parts = self._in_batches(network, len(text))
        return (parts[0] if len(parts) == 1 else np.concatenate(parts))[: len(text)]

    def _in_batches(self, network: Callable[[Tensor], _T], rows: int) -> list[_T]:
        """Call `network` for all rows, `size` at a time; what is missing repeats the last row."""
        parts: list[_T] = []
        start = 0
        while start < rows:
            index = torch.arange(start, start + self.size).clamp(max=rows - 1)
            try:
                parts.append(network(index))
                start += self.size
                continue
            except torch.cuda.OutOfMemoryError as error:
                if self.size == 1:
                    raise DeviceError("the GPU's memory does not hold one window") from error
            self.size //= 2  # out here the failed call's tensors are free
            torch.cuda.empty_cache()
            console.warn(f"the GPU's memory is full: going on with {self.size} windows at a time")
        return parts


def _take(waiting: deque[_T], most: int) -> list[_T]:
    return [waiting.popleft() for _ in range(min(most, len(waiting)))]


def _gather(rows: list[tuple[PatchFeatures, int]]) -> PatchFeatures:
    """The features of single windows, from whatever batches they were encoded in."""
    parts = []
    for _, group in itertools.groupby(rows, key=lambda row: id(row[0])):
        members = list(group)
        features = members[0][0]
        index = [row for _, row in members]
        if index == list(range(len(features.patches))):
            parts.append(features)
        else:
            parts.append(features.select(torch.tensor(index, device=features.patches.device)))
    return _joined(parts)


@torch.inference_mode()
def _joined(parts: list[PatchFeatures]) -> PatchFeatures:
    if len(parts) == 1:
        return parts[0]
    patches, contrast, fine = zip(*parts, strict=True)
    return PatchFeatures(
        torch.cat(patches), torch.cat(contrast), None if fine[0] is None else torch.cat(fine)
    )


def _reason(error: BaseException) -> str:
    """Why an image failed, in words that are the same in every run."""
    text = str(error) if isinstance(error, ClipCountError) else f"{type(error).__name__}: {error}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
