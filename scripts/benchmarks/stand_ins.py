"""Weights to measure with: the installed ones, or numbers at random in the same shapes.

The speed of a network does not depend on its weights; the numbers are scaled so that no layer
overflows, dies or meets denormal numbers.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from clipcount_cli import console
from clipcount_cli.config import ModelConfig
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.errors import WeightsError
from clipcount_cli.weights import checkpoint, digests
from clipcount_cli.weights.cache import ResolvedWeights, resolve
from clipcount_cli.weights.registry import DEFAULT_NAME


def find_or_draw(name: str, folder: Path) -> ResolvedWeights:
    """The weights called `name`; clip-count is drawn into `folder` where it is not installed."""
    try:
        return resolve(name)
    except WeightsError:
        if name != DEFAULT_NAME:
            raise
    console.notice(f"{name} is not installed: random numbers stand in for its weights")
    return ResolvedWeights(draw(ModelConfig(), folder / f"{name}.safetensors"), name)


def random_model(config: ModelConfig) -> ClipCount:
    """A network of random weights, ready to count."""
    model = checkpoint.empty_model(config)
    model.load_state_dict(random_state(config), assign=True)
    return model.float().eval()


def random_state(config: ModelConfig) -> dict[str, Tensor]:
    """Random weights as the authors' come: CLIP in half precision, the rest in single."""
    random = torch.Generator().manual_seed(0)
    return {
        name: _random(name, shape, random)
        for name, shape in checkpoint.expected_shapes(config).items()
    }


def draw(config: ModelConfig, path: Path) -> Path:
    """Write random weights to a file."""
    checkpoint.save(random_state(config), config, path, {"name": "random"})
    digests.write_record(path)
    return path


def _random(name: str, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    values = torch.randn(shape, generator=random)
    if len(shape) > 1:
        values = values / math.sqrt(math.prod(shape[1:]))
    elif name.endswith((".weight", "running_var", "logit_scale")):
        values = 1 + 0.1 * values
    else:
        values = 0.05 * values
    return values.half() if name.startswith("clip.") else values
