"""Counter + samples -> one row per image and prompt.

[evaluate.py] -> metrics.py -> report.py
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from clipcount_cli import distributed
from clipcount_cli.counting.prompts import disjoint_prompts
from clipcount_cli.data.samples import Prepared, Sample, by_image, prepare_pixels, read_pixels
from clipcount_cli.errors import CountError, ImageReadError
from clipcount_cli.evaluation.metrics import EvalRow, mean

if TYPE_CHECKING:
    from clipcount_cli.counting.counter import CountResult, Tiles
    from clipcount_cli.counting.notices import Notice

READERS = 2  # threads that decode the next images while the network counts this one
READ_AHEAD = 4  # images waiting in memory

Load = Callable[[Sequence[Sample]], list[Prepared]]  # the samples of one image, laid out


class CountsPixels(Protocol):
    """What evaluation needs of a counter."""

    def count_pixels(
        self, pixels: np.ndarray, prompts: Sequence[str], tiles: int
    ) -> Sequence[CountResult]: ...

    def choose_tiles(self, pixels: np.ndarray, prompts: Sequence[str]) -> int: ...

    def size_notice(self, pixels: np.ndarray, tiles: int) -> Notice | None: ...


def evaluate(
    counter: CountsPixels,
    samples: Sequence[Sample],
    prompt_check: bool = False,
    load: Load | None = None,
    tiles: Tiles = 1,
) -> Iterator[list[EvalRow]]:
    """Yield the rows of one image after the other; an unreadable one yields rows with the reason.

    Under torchrun each process takes its share of the images: `gathered` puts them together.
    `load` replaces reading from disk (training keeps its images in memory). tiles: the shorter
    side is resized to this many times 384 px, "auto" chooses for each image.
    """
    share, classes = share_of(samples, prompt_check)
    for picture, prepared in _read_ahead(share, load or _read_and_prepare):
        try:
            question = Question.of(picture, prepared.result(), classes)
            yield _count_picture(counter, question, tiles)
        except (ImageReadError, CountError) as error:
            yield failed_rows(picture, error.with_hint)


def gathered(rows_of_pictures: Iterable[list[EvalRow]]) -> list[EvalRow]:
    """All processes' rows in the order of the samples, in every process."""
    own = [[row.as_json() for row in picture] for picture in rows_of_pictures]
    shares = distributed.gather(own)
    return [
        EvalRow.from_json(row)
        for round_ in zip_longest(*shares, fillvalue=[])
        for picture in round_
        for row in picture
    ]


@dataclass(frozen=True)
class Question:
    """The prompts to count in one picture."""

    picture: Sequence[Sample]
    prepared: Sequence[Prepared]
    absent: Sequence[str]  # prompts of other pictures that this one does not show

    @classmethod
    def of(
        cls, picture: Sequence[Sample], prepared: Sequence[Prepared], classes: Sequence[str]
    ) -> Question:
        """Its own prompts and, if it shows anything, those of `classes` that it does not show."""
        pairs = zip(picture, prepared, strict=True)
        there = {sample.prompt for sample, laid_out in pairs if laid_out.truth > 0}
        shown = there.union(*(sample.uncounted for sample in picture))
        absent = [name for name in classes if all(disjoint_prompts(name, each) for each in shown)]
        return cls(picture, prepared, absent if there else [])

    @property
    def pixels(self) -> NDArray[np.uint8]:
        return self.prepared[0].pixels

    @property
    def prompts(self) -> list[str]:
        return list(dict.fromkeys([*(sample.prompt for sample in self.picture), *self.absent]))

    def rows(self, count_of: Mapping[str, float], tiles: int, message: str) -> list[EvalRow]:
        """The rows of the picture, given the count of each of its prompts."""
        there = any(laid_out.truth > 0 for laid_out in self.prepared)
        absent_mean = mean(np.array([count_of[name] for name in self.absent])) if there else None
        return [
            EvalRow(
                sample.name,
                sample.image,
                sample.prompt,
                laid_out.truth,
                count_of[sample.prompt],
                absent_mean if laid_out.truth > 0 else None,
                tiles,
                message,
                sample.source[1],
            )
            for sample, laid_out in zip(self.picture, self.prepared, strict=True)
        ]


def failed_rows(picture: Sequence[Sample], reason: str) -> list[EvalRow]:
    """The rows of a picture that cannot be counted."""
    return [
        EvalRow(s.name, s.image, s.prompt, s.truth, None, message=reason, page=s.source[1])
        for s in picture
    ]


def share_of(samples: Sequence[Sample], prompt_check: bool) -> tuple[list[list[Sample]], list[str]]:
    """The pictures of this process, and the classes to check them for."""
    pictures = by_image(samples)
    classes = sorted({sample.prompt for sample in samples}) if prompt_check else []
    return pictures[distributed.rank() :: distributed.world_size()], classes


def _count_picture(counter: CountsPixels, question: Question, tiles: Tiles) -> list[EvalRow]:
    asked = [sample.prompt for sample in question.picture]
    chosen = counter.choose_tiles(question.pixels, asked) if tiles == "auto" else tiles
    results = counter.count_pixels(question.pixels, question.prompts, chosen)
    notice = counter.size_notice(question.pixels, chosen)
    count_of = {result.prompt: result.count for result in results}
    return question.rows(count_of, chosen, notice.brief if notice else "")


def _read_and_prepare(picture: Sequence[Sample]) -> list[Prepared]:
    pixels = read_pixels(picture[0])
    return [prepare_pixels(sample, pixels) for sample in picture]


def _read_ahead(
    pictures: Iterable[list[Sample]], load: Load
) -> Iterator[tuple[list[Sample], Future[list[Prepared]]]]:
    waiting: deque[tuple[list[Sample], Future[list[Prepared]]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        try:
            for picture in pictures:
                waiting.append((picture, pool.submit(load, picture)))
                if len(waiting) > READ_AHEAD:
                    yield waiting.popleft()
            yield from waiting
        finally:
            pool.shutdown(cancel_futures=True)
