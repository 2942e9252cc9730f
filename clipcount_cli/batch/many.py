"""Count in many images from Python: the engine of `clipcount batch`, without its files.

api.py -> [many.py] -> pipeline.py
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from clipcount_cli.batch.pipeline import Outcome
from clipcount_cli.batch.plan import Job
from clipcount_cli.batch.request import BatchRequest
from clipcount_cli.batch.run import default_pipeline
from clipcount_cli.counting.counter import Counter, CountResult, Counts, Tiles, checked
from clipcount_cli.counting.image_like import ImageLike, decode, is_image
from clipcount_cli.counting.images import DecodedImage
from clipcount_cli.counting.notices import Notice
from clipcount_cli.counting.results import kept_view
from clipcount_cli.counting.stacks import FIRST_PAGE, Selection
from clipcount_cli.counting.windows import Pixels
from clipcount_cli.errors import ClipCountWarning, ImageReadError, UsageError, in_python


class _Images:
    """Images that wait for the pipeline, which takes each of them once, by its number."""

    def __init__(
        self, images: Iterable[ImageLike], prompts: tuple[str, ...], selection: Selection
    ) -> None:
        self._images, self._prompts, self._selection = images, prompts, selection
        self._waiting: dict[str, ImageLike] = {}
        self._lock = threading.Lock()  # jobs are made in one thread and read in others

    def jobs(self) -> Iterator[Job]:
        for number, image in enumerate(self._images):
            with self._lock:
                self._waiting[str(number)] = image
            yield Job(_name(image, number), str(number), self._prompts)

    def read(self, job: Job) -> DecodedImage:
        with self._lock:
            image = self._waiting.pop(job.path)
        return decode(image, self._selection)


def count_many(
    counter: Counter,
    images: Iterable[ImageLike],
    prompts: str | Sequence[str],
    tiles: Tiles = 1,
    workers: int | None = None,
    selection: Selection = FIRST_PAGE,
) -> Iterator[Counts]:
    """Yield the counts of each image, in order: see `clipcount_cli.api.Counter.count_many`."""
    if is_image(images) or not isinstance(images, Iterable):
        raise UsageError(
            f"count_many takes several images, not one {type(images).__name__}",
            hint="give a list: count_many([image], prompts)",
        )
    requested = checked(prompts, tiles)
    if not requested:
        return (Counts([]) for _ in images)
    waiting = _Images(images, tuple(dict.fromkeys(requested)), selection)
    return _counted(counter, waiting, requested, tiles, workers)


def _counted(
    counter: Counter,
    images: _Images,
    requested: list[str],
    tiles: Tiles,
    workers: int | None,
) -> Iterator[Counts]:
    for unread in counter.unread_parts(requested):
        warnings.warn(unread, ClipCountWarning, stacklevel=3)
    pipeline = default_pipeline(BatchRequest([], "-", tiles=tiles, workers=workers), counter)
    pipeline.on_result, pipeline.view, pipeline.read = _with_pixels, kept_view, images.read
    with closing(pipeline.run(images.jobs(), lambda: False)) as outcomes:
        for outcome in outcomes:
            if outcome.fault:
                warnings.warn(in_python(outcome.fault), ClipCountWarning, stacklevel=3)
                yield Counts([], error=ImageReadError(outcome.fault))
            else:
                counts = _counts(outcome, requested, counter.windows.side_px)
                for notice in counts.notices:
                    remark = in_python(f"{outcome.job.image}: {notice}")
                    warnings.warn(remark, ClipCountWarning, stacklevel=3)
                yield counts


def _with_pixels(_job: Job, pixels: Pixels, result: CountResult) -> CountResult:
    return replace(result, pixels=pixels)


def _counts(outcome: Outcome, requested: list[str], side_px: int) -> Counts:
    found = {result.prompt: result for result in outcome.extras}
    results = [found[prompt] for prompt in requested]
    notes = dict.fromkeys(note for note in outcome.notes if note)
    tiles = max(1, round(min(results[0].density.shape) / side_px))
    return Counts(results, tiles, map(Notice, notes))


def _name(image: ImageLike, number: int) -> str:
    """The name of an image in messages."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {number}"
