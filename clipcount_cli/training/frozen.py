"""Frozen weights in half precision, rounded once for all steps.

start.py -> [frozen.py] -> step.py. Autocast keeps what it has rounded within a step, but only of
weights that learn: those of CLIP's frozen towers it would round in every step, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# What autocast multiplies in half precision; norms and embeddings it leaves in full.
_MULTIPLYING = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention)


class FrozenWeights:
    """The weights of a network that do not learn and that autocast would round to `dtype`."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self._rounded = [
            (module._parameters, name, nn.Parameter(weight.to(dtype), requires_grad=False))
            for module in model.modules()
            if isinstance(module, _MULTIPLYING) and dtype != torch.float32
            for name, weight in module.named_parameters(recurse=False)
            if not weight.requires_grad
        ]

    @contextmanager
    def rounded(self) -> Iterator[None]:
        """Within this block the network has them rounded, outside as they are saved."""
        full = [weights[name] for weights, name, _ in self._rounded]
        for weights, name, rounded in self._rounded:
            weights[name] = rounded
        try:
            yield
        finally:
            for (weights, name, _), weight in zip(self._rounded, full, strict=True):
                weights[name] = weight
