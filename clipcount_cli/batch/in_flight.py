"""An image between reading and its outcome, and the rows of batches that it is cut into.

pipeline.py, network_calls.py -> [in_flight.py]
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from clipcount_cli.batch.fixed_batch import Decoded, FeatureRow
from clipcount_cli.batch.plan import Job
from clipcount_cli.batch.reading import Prepared
from clipcount_cli.counting.results import finite
from clipcount_cli.counting.windows import Origin, Pixels


@dataclass(eq=False)
class ImageInFlight:
    """One image on its way through the stages."""

    place: int  # in the order of the jobs
    job: Job
    prompts: tuple[str, ...]  # the job's, and those to compare their counts with
    reading: Future[Any] | None = None  # until it is read
    prepared: Prepared = field(init=False)  # once it is read
    seen: tuple[int, int] = field(init=False)  # height and width that the network sees
    origins: list[Origin] = field(init=False)  # of the windows
    weights: NDArray[np.float32] = field(init=False)  # of the windows, on a GPU: `window_weights`
    source: Pixels | None = None  # as the network sees it, until it is encoded
    features: dict[int, FeatureRow] = field(default_factory=dict)  # by window
    found: dict[int, dict[int, FoundRow]] = field(default_factory=dict)  # by prompt, then window
    results: dict[int, tuple[float, Any]] = field(default_factory=dict)  # by prompt


class Window(NamedTuple):
    """A window of an image: one row of the encoder's batch."""

    image: ImageInFlight
    number: int


class Pair(NamedTuple):
    """A window and a prompt: one row of the decoder's batch."""

    image: ImageInFlight
    prompt: int
    window: int


class FoundRow(NamedTuple):
    """What the network found for one pair."""

    batch: Decoded
    number: int


def count_of(prompt: str, rows: Sequence[FoundRow]) -> float:
    """The count of an image whose windows were summed on the device; raises CountError."""
    counts = (cast(list[float], row.batch.counts)[row.number] for row in rows)
    return finite(prompt, sum(counts))


def densities_of(rows: Sequence[FoundRow]) -> list[NDArray[np.float32]]:
    """The densities (384, 384) of an image's windows."""
    return [cast(NDArray[np.float32], row.batch.densities)[row.number] for row in rows]
