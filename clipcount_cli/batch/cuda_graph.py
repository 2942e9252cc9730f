"""A network call of one shape, replayed as a CUDA graph: one launch instead of hundreds.

fixed_batch.py -> [cuda_graph.py]
A batch of 64 windows keeps an H100 busy for 14 ms; launching its kernels one by one takes the host
longer, as soon as other threads read images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


class Replayed:
    """`call`, recorded when it is first called; later inputs must have the same shapes.

    Inputs and outputs are tensors, or named tuples of tensors and None.
    """

    def __init__(self, call: Callable[..., Any], device: torch.device) -> None:
        self._call, self._device = call, device
        self._replay: Callable[[], None] | None = None
        self._inputs: tuple[Any, ...] = ()
        self._outputs: Any = None

    def __call__(self, *inputs: Any) -> Any:
        with torch.cuda.device(self._device):
            if self._replay is None:
                self._inputs = tuple(
                    _each(lambda tensor: tensor.to(self._device, copy=True), value)
                    for value in inputs
                )
                self._replay, self._outputs = record(self._call, self._inputs)
            for own, given in zip(_tensors(self._inputs), _tensors(inputs), strict=True):
                own.copy_(given, non_blocking=True)
            self._replay()
            return _each(Tensor.clone, self._outputs)  # the next replay overwrites its outputs


def record(call: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Callable[[], None], Any]:
    """What repeats `call(*inputs)` on the current device, and where its outputs then lie."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        call(*inputs)  # libraries cannot be initialized while a graph is recorded
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = call(*inputs)
    return graph.replay, outputs


def _each(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """`value` with each of its tensors changed."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return change(value)
    return type(value)(*(_each(change, part) for part in value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif value is not None:
        for part in value:
            yield from _tensors(part)
