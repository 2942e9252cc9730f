"""Counter + samples -> a row per picture and prompt, and from the rows MAE, RMSE and the rest.

`eval` prints these numbers, and training chooses its best weights by the same ones.
The prompt check follows PrACo (arXiv:2409.15953): does the model answer differently when it is
asked for something that is not there?
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clipcount_cli import distributed
from clipcount_cli.data.samples import Prepared, Sample, prepare_pixels
from clipcount_cli.errors import ImageReadError

if TYPE_CHECKING:
    from clipcount_cli.counting.counter import CountResult

READERS = 2  # threads that decode the next pictures while the network counts this one
READ_AHEAD = 4  # pictures waiting in memory
LEFT_OUT = 2  # pictures of largest truth, which carry most of the RMSE on FSC-147's test split

Load = Callable[[Sequence[Sample]], list[Prepared]]  # the samples of one picture, laid out


class CountsPixels(Protocol):
    """What evaluation asks of a counter."""

    def count(self, image: np.ndarray, prompts: Sequence[str], /) -> list[CountResult]: ...


@dataclass(frozen=True)
class EvalRow:
    """What was counted and what is true for one prompt in one picture."""

    image: str
    path: Path
    prompt: str
    truth: int
    count: float | None  # None: the picture could not be read, `message` says why
    absent_mean: float | None = None  # mean answer to the split's classes that are not in it
    message: str = ""

    @property
    def error(self) -> float | None:
        return None if self.count is None else self.count - self.truth


@dataclass(frozen=True)
class Metrics:
    """Figures over all rows that could be counted; None where there is nothing to take a mean of.

    nae: mean of |error| / truth; sre: root of the mean of error^2 / truth; both over truth > 0.
    nmn: mean of absent answer / truth, ideal 0; pccn: percent of answers that are nearer the truth
    than the mean of the absent answers, ideal 100; both over images, each the mean of its rows.
    """

    images: int
    failed: int
    mae: float | None
    rmse: float | None
    nae: float | None
    sre: float | None
    rmse_without_two_largest: float | None
    nmn: float | None
    pccn: float | None

    @classmethod
    def of(cls, rows: Sequence[EvalRow]) -> Metrics:
        done = [row for row in rows if row.count is not None]
        error = np.array([row.error for row in done], dtype=np.float64)
        truth = np.array([row.truth for row in done], dtype=np.float64)
        squared = error**2
        there = truth > 0
        nmn, pccn = _prompt_check(done)
        return cls(
            images=len({row.path for row in rows}),
            failed=len({row.path for row in rows if row.count is None}),
            mae=_mean(np.abs(error)),
            rmse=_root_mean(squared),
            nae=_mean(np.abs(error[there]) / truth[there]),
            sre=_root_mean(squared[there] / truth[there]),
            rmse_without_two_largest=_root_mean(squared[_but_the_largest(done)]),
            nmn=nmn,
            pccn=pccn,
        )


def evaluate(
    counter: CountsPixels,
    samples: Sequence[Sample],
    prompt_check: bool = False,
    load: Load | None = None,
) -> Iterator[list[EvalRow]]:
    """Yield the rows of one picture after the other; an unreadable one yields rows that say why.

    Under torchrun each process takes its share of the pictures: `gathered` puts them together.
    `load` replaces reading from disk (training keeps its pictures in memory).
    """
    pictures = by_image(samples)
    classes = sorted({sample.prompt for sample in samples}) if prompt_check else []
    share = pictures[distributed.rank() :: distributed.world_size()]
    for picture, prepared in _read_ahead(share, load or _read_and_prepare):
        try:
            yield _count_picture(counter, picture, prepared.result(), classes)
        except ImageReadError as error:
            yield [
                EvalRow(s.name, s.image, s.prompt, len(s.points_px), None, message=str(error))
                for s in picture
            ]


def gathered(rows_of_pictures: Iterable[list[EvalRow]]) -> list[EvalRow]:
    """All processes' rows in the order of the samples, in every process."""
    shares = distributed.gather(list(rows_of_pictures))
    return [
        row
        for round_ in zip_longest(*shares, fillvalue=[])
        for picture in round_
        for row in picture
    ]


def by_image(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The samples of each picture together, so that it is read and encoded once."""
    pictures: dict[Any, list[Sample]] = {}
    for sample in samples:
        pictures.setdefault(sample.image, []).append(sample)
    return list(pictures.values())


def worst(rows: Iterable[EvalRow], number: int) -> list[EvalRow]:
    """The rows with the largest errors, largest first."""
    done = [row for row in rows if row.error is not None]
    return sorted(done, key=lambda row: -abs(row.error or 0.0))[:number]


def _count_picture(
    counter: CountsPixels,
    picture: Sequence[Sample],
    prepared: Sequence[Prepared],
    classes: Sequence[str],
) -> list[EvalRow]:
    asked = [sample.prompt for sample in picture]
    there = {s.prompt for s, laid_out in zip(picture, prepared, strict=True) if laid_out.truth > 0}
    absent = [name for name in classes if name not in there]
    wanted = list(dict.fromkeys([*asked, *(absent if there else [])]))
    results = counter.count(prepared[0].pixels, wanted)
    count_of = {result.prompt: result.count for result in results}
    absent_mean = _mean(np.array([count_of[name] for name in absent])) if there else None
    return [
        EvalRow(
            sample.name,
            sample.image,
            sample.prompt,
            laid_out.truth,
            count_of[sample.prompt],
            absent_mean if laid_out.truth > 0 else None,
        )
        for sample, laid_out in zip(picture, prepared, strict=True)
    ]


def _read_and_prepare(picture: Sequence[Sample]) -> list[Prepared]:
    from clipcount_cli.counting.images import read_image

    pixels = read_image(picture[0].image, picture[0].name).pixels
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


def _but_the_largest(rows: Sequence[EvalRow]) -> list[int]:
    """The places of all rows but those of the `LEFT_OUT` images of largest truth."""
    largest: dict[Path, float] = {}
    for row in rows:
        largest[row.path] = max(row.truth, largest.get(row.path, 0.0))
    left_out = sorted(largest, key=lambda path: -largest[path])[:LEFT_OUT]
    return [place for place, row in enumerate(rows) if row.path not in left_out]


def _prompt_check(rows: Iterable[EvalRow]) -> tuple[float | None, float | None]:
    """NMN and PCCN over the images that were also asked for absent classes."""
    shares: dict[Path, list[float]] = defaultdict(list)
    leads: dict[Path, list[float]] = defaultdict(list)
    for row in rows:
        if row.absent_mean is not None and row.count is not None:
            lead = abs(row.truth - row.absent_mean) - abs(row.truth - row.count)
            leads[row.path].append((np.sign(lead) + 1) / 2)  # positive: nearer; a tie counts half
            shares[row.path].append(row.absent_mean / row.truth)
    nmn = _mean(np.array([np.mean(values) for values in shares.values()]))
    pccn = _mean(np.array([np.mean(values) for values in leads.values()]))
    return nmn, None if pccn is None else 100 * pccn


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean(dtype=np.float64)) if len(values) else None


def _root_mean(squares: np.ndarray) -> float | None:
    mean = _mean(squares)
    return None if mean is None else math.sqrt(mean)
