"""The network, always called with one batch shape, so that a result never depends on its company.

pipeline.py -> [fixed_batch.py] -> counting/counter.py
At equal shape a row of a batch is bit-identical whatever the other rows hold; at another shape it
is not (in bf16 the same window gives 49.93 alone and 50.02 in a batch of two).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipcount_cli import console
from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.model import PatchFeatures
from clipcount_cli.counting.windows import Pixels
from clipcount_cli.errors import DeviceError

FeatureRow = tuple[PatchFeatures, int]  # a batch, and a row of it
_T = TypeVar("_T")


class HostCopy(NamedTuple):
    """What the network made, in the host's memory once `arrived`; the GPU goes on meanwhile."""

    densities: Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def of(cls, densities: Tensor) -> HostCopy:
        """Begin to copy; returns at once."""
        if not densities.is_cuda:
            return cls(densities.cpu(), None)
        host = torch.empty(densities.shape, dtype=densities.dtype, pin_memory=True)
        host.copy_(densities, non_blocking=True)
        arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(densities.device))
        return cls(host, arrived)

    def wait(self) -> None:
        """Return once the copy is whole."""
        if self.arrived is not None:
            self.arrived.synchronize()

    def numpy(self) -> NDArray[np.float32]:
        """The densities; waits until they are there."""
        self.wait()
        return self.densities.numpy()


DensityRow = tuple[HostCopy, int]  # a batch, and a row of it


class FixedBatch:
    """The network, always called with one batch shape, which halves where memory runs out."""

    def __init__(self, counter: Counter, size: int) -> None:
        self.counter = counter
        self.size = size
        self._last: HostCopy | None = None

    def encode(self, windows: Pixels) -> PatchFeatures:
        """Windows (K, 384, 384, 3) -> features of at least K rows."""

        def network(index: list[int]) -> PatchFeatures:
            whole = len(index) == len(windows)
            return self.counter.encode_windows(windows if whole else windows[index])

        return _joined(self._in_batches(network, len(windows)))

    def decode(self, rows: Sequence[FeatureRow], prompts: Sequence[str]) -> HostCopy:
        """K windows, each with its prompt -> network densities (K, 384, 384), on their way here.

        Waits for the last call's densities, so that a GPU is never more than one call ahead.
        """
        text = self.counter.encode_prompts(prompts)

        def network(index: list[int]) -> Tensor:
            return self.counter.densities(gather([rows[i] for i in index]), text[index])

        parts = self._in_batches(network, len(rows))
        copy = HostCopy.of((parts[0] if len(parts) == 1 else torch.cat(parts))[: len(rows)])
        last, self._last = self._last, copy
        if last is not None:
            last.wait()
        return copy

    def _in_batches(self, network: Callable[[list[int]], _T], rows: int) -> list[_T]:
        """Call `network` for all rows, `size` at a time; what is missing repeats the last row."""
        parts: list[_T] = []
        start = 0
        while start < rows:
            index = [min(i, rows - 1) for i in range(start, start + self.size)]
            try:
                parts.append(network(index))
                start += self.size
                continue
            except torch.cuda.OutOfMemoryError as error:
                if self.size == 1:
                    raise DeviceError("the GPU's memory does not hold one window") from error
            self.size //= 2  # out here the failed call's tensors are free
            torch.cuda.empty_cache()
            console.warn(
                f"the GPU's memory is full: going on with {self.size} windows at a time, which may "
                f"change a count's last digits; with --batch-windows {self.size} all are alike"
            )
        return parts


def gather(rows: Sequence[FeatureRow]) -> PatchFeatures:
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
