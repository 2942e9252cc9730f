"""Gradients on the pretend CUDA device: autograd's graph, walked in the thread that asks for it.

Autograd itself has one thread per device, and none for a device that is not there.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor


def backward(loss: Tensor) -> None:
    """Add to `grad` of each parameter what `torch.autograd.backward(loss)` adds, hooks aside."""
    root: Any = loss.grad_fn
    waiting = _incoming(root)  # edges that have not brought their gradient yet
    brought: dict[Any, dict[int, Tensor]] = {root: {0: torch.ones_like(loss)}}
    ready = [root]
    with torch.no_grad():
        while ready:
            node = ready.pop()
            for (after, place), gradient in _passed_on(node, brought.pop(node, {})):
                if gradient is not None:
                    sums = brought.setdefault(after, {})
                    fitting = _fitted(gradient, after._input_metadata[place])
                    sums[place] = sums[place] + fitting if place in sums else fitting
                waiting[after] -= 1
                if not waiting[after]:
                    ready.append(after)


def _incoming(root: Any) -> Counter[Any]:
    """Every node that `root` leads to, and how many edges lead there."""
    edges: Counter[Any] = Counter()
    found = [root]
    while found:
        for after, _ in found.pop().next_functions:
            if after is not None:
                if after not in edges:
                    found.append(after)
                edges[after] += 1
    return edges


def _passed_on(node: Any, brought: dict[int, Tensor]) -> list[tuple[tuple[Any, int], Any]]:
    """Each edge that leaves `node`, with its gradient or None; a parameter keeps what it gets."""
    if hasattr(node, "variable"):
        own = node.variable
        own.grad = brought[0] if own.grad is None else own.grad + brought[0]
        return []
    gradients: Any = None
    if brought:
        gradients = node(*(brought.get(place) for place in range(len(node._input_metadata))))
    if not isinstance(gradients, tuple):
        gradients = (gradients,) * len(node.next_functions)
    pairs = zip(node.next_functions, gradients, strict=True)
    return [(edge, gradient) for edge, gradient in pairs if edge[0] is not None]


def _fitted(gradient: Tensor, wanted: Any) -> Tensor:
    """As autograd's engine does: summed over what was broadcast, in the dtype of the value."""
    if gradient.shape != wanted.shape:
        gradient = gradient.sum_to_size(wanted.shape)
    return gradient if gradient.dtype == wanted.dtype else gradient.to(wanted.dtype)
