"""The network, always called with one batch shape, so that no result depends on the other rows.

pipeline.py -> [fixed_batch.py] -> cuda_graph.py, counting/counter.py
For one batch shape, the result of a row is bit-identical, whatever the other rows hold; for another
shape it is not (in bf16 the same window gives 49.93 alone and 50.02 in a batch of two).
On a GPU the host waits once per batch, for the counts: windows are uploaded together from pinned
memory, and densities are blended and summed there, and copied back only if they are drawn.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipcount_cli import console
from clipcount_cli.batch.cuda_graph import Replayed
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
        self._plain_find: Callable[..., _Found] = partial(_found, counter)
        self._prepare_calls()

    def _prepare_calls(self) -> None:
        """Let the network be recorded, on CUDA: at first, and whenever the batch size changes."""
        encode: Callable[..., PatchFeatures] = self.counter.encode_windows
        cuda = self.device.type == "cuda"
        self._encode = Replayed(encode, self.device) if cuda else encode
        self._find = Replayed(self._plain_find, self.device) if cuda else self._plain_find

    @torch.inference_mode()
    def encode(self, windows: Sequence[tuple[Pixels, Origin]]) -> PatchFeatures:
        """K windows of resized images -> features of at least K rows."""

        def network(part: slice, size: int) -> PatchFeatures:
            batch = self._cut(windows[part], size)
            with self._in_turn():  # meanwhile, another thread may have halved the batch
                encode = self._encode if size == self.size else self.counter.encode_windows
                return encode(batch)

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

        def network(part: slice, size: int) -> _Found:
            shares = None
            if self.on_gpu:
                shares = torch.from_numpy(np.stack(_filled(weights[part], size)))
            with self._in_turn():
                if shares is not None:
                    shares = upload(shares, self.device)  # (K, 2, 384)
                text = self.counter.encode_prompts(_filled(prompts[part], size))
                features = gather(_filled(rows[part], size))
                find = self._find if size == self.size else self._plain_find
                return find(features, text, shares)

        densities, counts = _joined(self._in_batches(network, len(rows)))
        if counts is None:
            return Decoded(None, densities[: len(rows)].numpy())
        with self._in_turn():
            copies, arrived = _start_copies([counts, densities] if with_densities else [counts])
        if arrived is not None:
            arrived.synchronize()
        return Decoded(copies[0].tolist(), copies[1].numpy() if with_densities else None)

    def _in_turn(self) -> AbstractContextManager[Any]:
        """Let one thread at a time use a GPU; on a CPU, threads are independent."""
        return self._issuing if self.on_gpu else nullcontext()

    def _cut(self, windows: Sequence[tuple[Pixels, Origin]], size: int) -> Tensor:
        """The windows, the last one repeated, (size, 384, 384, 3), where the device can read."""
        side_px = self.counter.windows.side_px
        batch = _empty_batch((size, side_px, side_px, 3), self.device)
        places = batch.numpy()
        for (pixels, origin), place in zip(windows, places, strict=False):
            cut_window(pixels, origin, place)
        places[len(windows) :] = places[len(windows) - 1]
        return batch

    def _in_batches(self, network: Callable[[slice, int], _T], rows: int) -> list[_T]:
        """Call `network` with each part of the rows and the batch size, until all are done."""
        parts: list[_T] = []
        start = 0
        while start < rows:
            size = self.size
            try:
                parts.append(network(slice(start, start + size), size))
                start += size
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise does_not_fit(self.device) from error
            self._halve(size)  # here, the tensors of the failed call are free
        return parts

    def _halve(self, size: int) -> None:
        """Use smaller batches than `size`, unless another thread has seen to it."""
        with self._issuing:
            if self.size < size:
                return
            self.size //= 2
            self._prepare_calls()
            free_memory(self.device)
            console.warn(
                f"the memory of {self.device} is full: continuing with "
                f"{quantity(self.size, 'window')} at a time, which may change a count's last "
                f"digits; --batch-windows {self.size} makes all counts alike"
            )


def _empty_batch(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Memory (B, S, S, 3) uint8 of the host; pinned for a CUDA device, if there is enough of it."""
    try:
        return torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    except RuntimeError as error:
        if device.type != "cuda" or not is_out_of_memory(error):
            raise
        return torch.empty(shape, dtype=torch.uint8)


def _found(
    counter: Counter, features: PatchFeatures, text: Tensor, shares: Tensor | None
) -> _Found:
    """Densities and, given the share of each pixel (K, 2, 384), each window's count."""
    densities = counter.densities(features, text)
    if shares is None:
        return _Found(densities)
    weighted = densities * shares[:, 0, :, None] * shares[:, 1, None, :]
    return _Found(densities, weighted.sum(dim=(1, 2)) / DENSITY_SCALE)


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
