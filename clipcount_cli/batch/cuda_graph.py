"""A network call of one shape, replayed as a CUDA graph: one launch instead of hundreds.

fixed_batch.py -> [cuda_graph.py]
A batch of 64 windows keeps an H100 busy for 14 ms; launching its kernels one by one takes the host
longer, as soon as other threads read images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clipcount_cli import console
from clipcount_cli.devices import is_out_of_memory


class Replayed:
    """`call`, recorded when it is first called; later inputs must have the same shapes.

    Inputs and outputs are tensors, or named tuples of tensors and None. Where recording fails, for
    other reasons than full memory, the call is made as it is.
    """

    def __init__(self, call: Callable[..., Any], device: torch.device) -> None:
        self._call, self._device = call, device
        self._recorded: _Recorded | None = None
        self._fails = False

    def __call__(self, *inputs: Any) -> Any:
        with torch.cuda.device(self._device):
            if self._recorded is None and not self._fails:
                self._record(inputs)
            if self._recorded is None:
                return self._call(*inputs)
            for own, given in zip(_tensors(self._recorded.inputs), _tensors(inputs), strict=True):
                own.copy_(given, non_blocking=True)
            self._recorded.replay()
            return _each(Tensor.clone, self._recorded.outputs)  # the next replay overwrites them

    def _record(self, inputs: tuple[Any, ...]) -> None:
        own = tuple(_each(self._copied, value) for value in inputs)
        try:
            self._recorded = _Recorded(own, *record(self._call, own))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._fails = True
            reason = str(error).partition("\n")[0]  # general advice of torch's follows
            console.warn(f"{self._device} counts more slowly without a CUDA graph: {reason}")

    def _copied(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, copy=True)


class _Recorded(NamedTuple):
    """A recorded call: where it finds its inputs, what repeats it, where its outputs then lie."""

    inputs: tuple[Any, ...]
    replay: Callable[[], None]
    outputs: Any


def record(call: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Callable[[], None], Any]:
    """What repeats `call(*inputs)` on the current device, and where its outputs then lie."""
    current = torch.cuda.current_stream()
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        call(*inputs)  # libraries cannot be initialized while a graph is recorded
    current.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # The outer stream: if recording fails, torch does not return to the stream of before.
    with (
        torch.cuda.stream(current),
        torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"),
    ):
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
