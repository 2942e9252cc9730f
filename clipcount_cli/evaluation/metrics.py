"""Rows of counts and truths -> MAE, RMSE, NAE, SRE, and the prompt check of PrACo.

evaluate.py -> [metrics.py] -> report.py. Training chooses its best weights by the same numbers.
The prompt check follows PrACo (arXiv:2409.15953): does the count differ when the prompt names
something that is absent?
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipcount_cli.data.samples import Source

LEFT_OUT = 2  # images of largest truth, which carry most of the RMSE on FSC-147's test split


@dataclass(frozen=True)
class EvalRow:
    """The predicted and the true count of one prompt in one image."""

    image: str
    path: Path
    prompt: str
    truth: int
    count: float | None  # None: the image could not be counted, `message` is the reason
    absent_mean: float | None = None  # mean count of the split's classes that are not in it
    tiles: int = 1  # how many times 384 px the shorter side was resized to
    message: str = ""  # of a counted image: what may make its count wrong
    page: int = 1  # of the file at `path`

    @property
    def source(self) -> Source:
        """Which image: rows of several prompts share it."""
        return self.path, self.page

    @property
    def error(self) -> float | None:
        return None if self.count is None else self.count - self.truth

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads, in another process."""
        return {**vars(self), "path": str(self.path)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> EvalRow:
        return cls(**{**fields, "path": Path(fields["path"])})


@dataclass(frozen=True)
class Metrics:
    """Figures over all rows that could be counted; None if there is nothing to average.

    nae: mean of |error| / truth; sre: root of the mean of error^2 / truth; median_relative_error:
    median of |error| / truth; all three over truth > 0. exact: fraction of rounded counts that are
    right (CountBench's accuracy).
    nmn: mean of absent count / truth, ideal 0; pccn: percent of counts that are closer to the truth
    than the mean of the absent counts, ideal 100; both over images, each the mean of its rows.
    """

    images: int
    failed: int
    mae: float | None
    rmse: float | None
    nae: float | None
    sre: float | None
    rmse_without_two_largest: float | None
    median_relative_error: float | None
    exact: float | None
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
            images=len({row.source for row in rows}),
            failed=len({row.source for row in rows if row.count is None}),
            mae=mean(np.abs(error)),
            rmse=_root_mean(squared),
            nae=mean(np.abs(error[there]) / truth[there]),
            sre=_root_mean(squared[there] / truth[there]),
            rmse_without_two_largest=_root_mean(squared[_but_the_largest(done)]),
            median_relative_error=_median(np.abs(error[there]) / truth[there]),
            exact=mean(np.floor(truth + error + 0.5) == truth),
            nmn=nmn,
            pccn=pccn,
        )


def worst(rows: Iterable[EvalRow], number: int) -> list[EvalRow]:
    """The rows with the largest errors, largest first."""
    done = [row for row in rows if row.error is not None]
    return sorted(done, key=lambda row: -abs(row.error or 0.0))[:number]


def _but_the_largest(rows: Sequence[EvalRow]) -> list[int]:
    """The places of all rows but those of the `LEFT_OUT` images of largest truth."""
    largest: dict[Source, float] = {}
    for row in rows:
        largest[row.source] = max(row.truth, largest.get(row.source, 0.0))
    left_out = sorted(largest, key=lambda source: -largest[source])[:LEFT_OUT]
    return [place for place, row in enumerate(rows) if row.source not in left_out]


def _prompt_check(rows: Iterable[EvalRow]) -> tuple[float | None, float | None]:
    """NMN and PCCN over the images that were also counted for absent classes."""
    shares: dict[Source, list[float]] = defaultdict(list)
    leads: dict[Source, list[float]] = defaultdict(list)
    for row in rows:
        if row.absent_mean is not None and row.count is not None:
            lead = abs(row.truth - row.absent_mean) - abs(row.truth - row.count)
            leads[row.source].append((np.sign(lead) + 1) / 2)  # positive: nearer; a tie counts half
            shares[row.source].append(row.absent_mean / row.truth)
    nmn = mean(np.array([np.mean(values) for values in shares.values()]))
    pccn = mean(np.array([np.mean(values) for values in leads.values()]))
    return nmn, None if pccn is None else 100 * pccn


def mean(values: np.ndarray) -> float | None:
    return float(values.mean(dtype=np.float64)) if len(values) else None


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


def _root_mean(squares: np.ndarray) -> float | None:
    squared = mean(squares)
    return None if squared is None else math.sqrt(squared)
