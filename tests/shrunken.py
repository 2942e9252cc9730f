"""The authors' checkpoint and CLIP, shrunken: every key of the real ones, a tenth as wide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import standin_weights
import torch
from torch import Tensor

# ViT-B/16's widths and counts of patches -> those of a network with 2 x 2 patches of 16 px.
SHRUNK = {768: 64, 2304: 192, 3072: 256, 512: 128, 1536: 384, 2048: 512, 197: 5, 196: 4}
SHRUNK |= {256: 64, 128: 32, 64: 16, 32: 8}


def shrunk(name: str, shape: Sequence[int], rng: np.random.Generator) -> Tensor:
    sides = [SHRUNK.get(side, side) for side in shape]
    if name == standin_weights.POSITION_CODE:
        return standin_weights.position_code(*sides[1:])
    return torch.as_tensor(0.05 * rng.standard_normal(sides, dtype=np.float32))


def clip_tensors() -> dict[str, Tensor]:
    """CLIP under OpenAI's keys, in fp16 as OpenAI's is."""
    rng = np.random.default_rng(0)
    return {
        key: shrunk(key, shape, rng).half() for key, shape in standin_weights.CLIP_SHAPES.items()
    }


def head_state(variant: str = "released") -> dict[str, Tensor]:
    """The tensors of a released checkpoint, or of an ablation."""
    rng = np.random.default_rng(1)
    shapes = standin_weights.CHECKPOINTS[variant]["shapes"]
    return {key: shrunk(key, shape, rng) for key, shape in shapes.items()}


def save_head(
    path: Path,
    variant: str = "released",
    tensors: dict[str, Tensor | None] | None = None,
    settings: dict[str, object] | None = None,
    as_namespace: bool = False,
) -> Path:
    """Write a Lightning checkpoint; a tensor or setting given as None is left out."""
    state = {**head_state(variant), **(tensors or {})}
    state = {key: tensor for key, tensor in state.items() if tensor is not None}
    said = {**standin_weights.hyper_parameters(variant), **(settings or {})}
    said = {key: value for key, value in said.items() if value is not None}
    torch.save(standin_weights.lightning_checkpoint(state, said, as_namespace), path)
    return path
