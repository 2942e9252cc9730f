"""The network, always called with one batch shape, so that no result depends on the other rows.

pipeline.py -> [fixed_batch.py] -> counting/counter.py
For one batch shape, the result of a row is bit-identical, whatever the other rows hold; for another
shape it is not (in bf16 the same window gives 49.93 alone and 50.02 in a batch of two).
On a GPU the host waits once per batch, for the counts: images are uploaded from pinned memory, cut
into windows and summed there, and densities are copied back only if they are drawn.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipcount_cli import console
from clipcount_cli.config import DENSITY_SCALE
from clipcount_cli.counting.counter import Counter, does_not_fit
from clipcount_cli.counting.model import PatchFeatures
from clipcount_cli.counting.windows import Origin, Pixels, cut_window
from clipcount_cli.devices import free_memory, is_out_of_memory, upload
from clipcount_cli.errors import quantity

FeatureRow = tuple[PatchFeatures, int]  # a batch, and the index of a row in it
_T = TypeVar("_T")


class Decoded(NamedTuple):
    """What the network found in each row of a batch, in the host's memory."""

    counts: list[float] | None  # each window's share of the count of its image; None on a CPU
    densities: NDArray[np.float32] | None  # (K, 384, 384) as the network gives them


class _Found(NamedTuple):
    """The same on the device, for the full shape of a batch."""

    densities: Tensor
    counts: Tensor | None = None


class FixedBatch:
    """The network, always called with one batch shape, which halves if memory runs out."""

    def __init__(self, counter: Counter, size: int) -> None:
        self.counter = counter
        self.size = size
        self.device = counter.device
        self.on_gpu = self.device.type != "cpu"
        self._issuing = threading.Lock()

    def stage(self, pixels: Pixels) -> Pixels | Tensor:
        """Put an image in memory that the device can read while the host continues."""
        if self.device.type != "cuda":
            return pixels
        try:
            pinned = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            if is_out_of_memory(error):
                return pixels
            raise
        pinned.numpy()[...] = pixels
        return pinned

    @torch.inference_mode()
    def upload(self, pixels: Pixels | Tensor) -> Pixels | Tensor:
        """A staged image on the device; on a CPU it stays as it is.

        Raises DeviceError if the device does not hold it.
        """
        if not self.on_gpu:
            return pixels
        for last_try in (False, True):
            try:
                return upload(torch.as_tensor(pixels), self.device)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if last_try:
                    raise does_not_fit(self.device) from error
            free_memory(self.device)  # here, the failed try holds nothing
        raise AssertionError

    @torch.inference_mode()
    def encode(self, windows: Sequence[tuple[Pixels | Tensor, Origin]]) -> PatchFeatures:
        """K windows of uploaded images -> features of at least K rows."""
        with self._in_turn():

            def network(start: int) -> PatchFeatures:
                part = self._cut(windows[start : start + self.size])
                missing = self.size - len(part)
                if missing:
                    part = torch.cat([part, part[-1:].expand(missing, -1, -1, -1)])
                return self.counter.encode_windows(part)

            features: PatchFeatures = _joined(self._in_batches(network, len(windows)))
            return features

    @torch.inference_mode()
    def decode(
        self,
        rows: Sequence[FeatureRow],
        prompts: Sequence[str],
        weights: Sequence[NDArray[np.float32]],
        with_densities: bool,
    ) -> Decoded:
        """Find the prompts in K windows; weights: the share of each window's pixels (2, 384).

        On a CPU the caller blends the densities and sums the map.
        """

        def network(start: int) -> _Found:
            part = slice(start, start + self.size)
            text = self.counter.encode_prompts(_filled(prompts[part], self.size))
            densities = self.counter.densities(gather(_filled(rows[part], self.size)), text)
            if not self.on_gpu:
                return _Found(densities)
            return _Found(densities, self._summed(densities, _filled(weights[part], self.size)))

        with self._in_turn():
            densities, counts = _joined(self._in_batches(network, len(rows)))
            if counts is None:
                return Decoded(None, densities[: len(rows)].numpy())
            copies, arrived = _start_copies([counts, densities] if with_densities else [counts])
        if arrived is not None:
            arrived.synchronize()
        return Decoded(copies[0].tolist(), copies[1].numpy() if with_densities else None)

    def _in_turn(self) -> AbstractContextManager[Any]:
        """Let one thread at a time use a GPU; on a CPU, threads are independent."""
        return self._issuing if self.on_gpu else nullcontext()

    def _cut(self, windows: Sequence[tuple[Pixels | Tensor, Origin]]) -> Tensor:
        side_px = self.counter.windows.side_px
        batch = torch.empty(
            (len(windows), side_px, side_px, 3), dtype=torch.uint8, device=self.device
        )
        places = batch if self.on_gpu else batch.numpy()
        for (pixels, origin), place in zip(windows, places, strict=True):
            cut_window(pixels, origin, place)
        return batch

    def _summed(self, densities: Tensor, weights: Sequence[NDArray[np.float32]]) -> Tensor:
        """The contribution of each window to the count of its image, (K,)."""
        shares = upload(torch.from_numpy(np.stack(weights)), self.device)  # (K, 2, 384)
        weighted = densities * shares[:, 0, :, None] * shares[:, 1, None, :]
        return weighted.sum(dim=(1, 2)) / DENSITY_SCALE

    def _in_batches(self, network: Callable[[int], _T], rows: int) -> list[_T]:
        """Call `network` with the first row of each part of `size` rows, until all are done."""
        parts: list[_T] = []
        start = 0
        while start < rows:
            try:
                parts.append(network(start))
                start += self.size
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.size == 1:
                    raise does_not_fit(self.device) from error
            self.size //= 2  # here, the tensors of the failed call are free
            free_memory(self.device)
            console.warn(
                f"the memory of {self.device} is full: continuing with "
                f"{quantity(self.size, 'window')} at a time, which may change a count's last "
                f"digits; --batch-windows {self.size} makes all counts alike"
            )
        return parts


def _filled(rows: Sequence[_T], size: int) -> list[_T]:
    """All rows, the last one repeated up to `size`."""
    return [*rows, *[rows[-1]] * (size - len(rows))]


def _start_copies(tensors: Sequence[Tensor]) -> tuple[list[Tensor], torch.cuda.Event | None]:
    """Start copying to the host; complete once the event has arrived, or at once without one."""
    if not tensors[0].is_cuda:
        return [tensor.cpu() for tensor in tensors], None
    copies = []
    for tensor in tensors:
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        copies.append(host.copy_(tensor, non_blocking=True))
    arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    arrived.record(torch.cuda.current_stream(tensors[0].device))
    return copies, arrived


@torch.inference_mode()
def gather(rows: Sequence[FeatureRow]) -> PatchFeatures:
    """Collect the features of single windows from the batches in which they were encoded."""
    parts = []
    for _, group in itertools.groupby(rows, key=lambda row: id(row[0])):
        members = list(group)
        features = members[0][0]
        index = [row for _, row in members]
        first, after = index[0], index[-1] + 1
        if index == list(range(first, after)):
            parts.append(features.select(slice(first, after)))  # copies nothing
        else:
            chosen = upload(torch.tensor(index), features.patches.device)
            parts.append(features.select(chosen))
    gathered: PatchFeatures = _joined(parts)
    return gathered


def _joined(parts: Sequence[Any]) -> Any:
    """Concatenate tensors, or tuples of tensors and None."""
    first = parts[0]
    if len(parts) == 1 or first is None:
        return first
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    return type(first)(*(_joined(list(each)) for each in zip(*parts, strict=True)))
