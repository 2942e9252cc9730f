"""What a recorded call is given and returns; graphs themselves need a GPU (tests/test_gpu.py)."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import pytest
import torch
from pretend_cuda import recorded_in_place
from torch import Tensor

from clipcount_cli.batch import cuda_graph
from clipcount_cli.batch.cuda_graph import Replayed


class Pair(NamedTuple):
    total: Tensor
    product: Tensor | None = None


@pytest.fixture
def recorded(monkeypatch):
    """Record calls without CUDA; returns those that were."""
    calls = []

    def record(call, inputs):
        calls.append(call)
        return recorded_in_place(call, inputs)

    monkeypatch.setattr(cuda_graph, "record", record)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    return calls


def test_a_call_is_recorded_once_and_replayed_on_what_it_is_given(recorded):
    def both(left: Pair, right: Tensor) -> Pair:
        return Pair(left.total + right, None if left.product is None else left.product * right)

    replayed = Replayed(both, torch.device("cpu"))
    first = replayed(Pair(torch.tensor(1.0), torch.tensor(2.0)), torch.tensor(3.0))
    second = replayed(Pair(torch.tensor(10.0), torch.tensor(20.0)), torch.tensor(0.5))

    assert len(recorded) == 1
    assert first == Pair(torch.tensor(4.0), torch.tensor(6.0))  # not overwritten by the second
    assert second == Pair(torch.tensor(10.5), torch.tensor(10.0))


def test_parts_that_a_network_lacks_stay_none(recorded):
    def doubled(pair: Pair) -> Pair:
        return Pair(2 * pair.total)

    replayed = Replayed(doubled, torch.device("cpu"))

    assert replayed(Pair(torch.ones(2))).product is None
    with pytest.raises(RuntimeError, match="size"):
        replayed(Pair(torch.ones(3)))


def test_a_call_that_cannot_be_recorded_is_made_as_it_is(recorded, monkeypatch, capsys):
    def refuse(call, inputs):
        recorded.append(call)
        raise RuntimeError("operation not permitted when stream is capturing\nadvice")

    monkeypatch.setattr(cuda_graph, "record", refuse)
    replayed = Replayed(torch.square, torch.device("cpu"))

    assert [replayed(torch.tensor(value)).item() for value in (2.0, 3.0)] == [4.0, 9.0]
    assert len(recorded) == 1
    warned = " ".join(capsys.readouterr().err.split())
    assert warned.endswith(
        "more slowly without a CUDA graph: operation not permitted when stream is capturing"
    )


def test_full_memory_is_left_to_the_batch_that_can_halve(recorded, monkeypatch):
    def refuse(call, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cuda_graph, "record", refuse)

    with pytest.raises(torch.OutOfMemoryError):
        Replayed(torch.square, torch.device("cpu"))(torch.tensor(2.0))
