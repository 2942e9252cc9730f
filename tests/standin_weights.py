"""Stand-in weights for the authors' network: every tensor is a pure function of its name and shape.

The recorded figures under golden/ were computed by the authors' own code filled this way, so the
same names filled here must give the same numbers. `golden/upstream_shapes.json` lists what a
released checkpoint (and each ablation of it) and OpenAI's CLIP ViT-B/16 hold.
"""

from __future__ import annotations

import json
import math
import zlib
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from clipcount_cli.weights import checkpoint
from clipcount_cli.weights.upstream import import_released

_LISTED = json.loads((Path(__file__).parent / "golden" / "upstream_shapes.json").read_text())
CLIP_SHAPES: dict[str, list[int]] = _LISTED["clip"]
CHECKPOINTS: dict[str, dict[str, Any]] = _LISTED["checkpoints"]
POSITION_CODE = "model.patch_emb_pos_embed"


def tensor(name: str, shape: list[int]) -> Tensor:
    """Fill one tensor, float32: the same on every machine and NumPy version."""
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    normal = np.asarray(stream.standard_normal(shape), dtype=np.float32)
    if name.endswith("final_conv.0.bias"):
        return torch.full(shape, -3.5)
    if name.endswith("logit_scale"):
        return torch.tensor(np.float32(np.log(1 / 0.07)))
    return torch.from_numpy(np.asarray(_scaled(name, normal), dtype=np.float32))


def _scaled(name: str, normal: np.ndarray) -> np.ndarray:
    if name.endswith(("token_embedding.weight", "positional_embedding", "class_embedding")):
        return 0.05 * normal
    if name.endswith(("visual_prompt", "learnable_context")):
        return 0.2 * normal
    if normal.ndim == 1:
        return 1 + 0.1 * normal if name.endswith(".weight") else 0.05 * normal
    if name.endswith((".proj", "text_projection")):  # stored (in, out)
        return normal / np.float32(np.sqrt(normal.shape[0]))
    return normal * np.float32(1.2) / np.float32(np.sqrt(math.prod(normal.shape[1:])))


def position_code(patches: int, channels: int) -> Tensor:
    """Give the fixed 1-D sinusoid, (1, N, C): sine in even channels, cosine in odd ones."""
    position = torch.arange(patches, dtype=torch.float64)[:, None]
    rate = 10000 ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    angles = position * rate
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[None].float()


def clip_state() -> dict[str, Tensor]:
    """Fill CLIP under OpenAI's own keys: 149.6 M parameters, 600 MB."""
    return {key: tensor(f"clip.{key}", shape) for key, shape in CLIP_SHAPES.items()}


def released_state(variant: str = "released") -> dict[str, Tensor]:
    """Fill a released checkpoint (`naive`, `add`, `frozen`: an ablation) under its own keys."""
    shapes = CHECKPOINTS[variant]["shapes"]
    state = {key: tensor(key, shape) for key, shape in shapes.items() if key != POSITION_CODE}
    return {**state, POSITION_CODE: position_code(*shapes[POSITION_CODE][1:])}


def hyper_parameters(variant: str = "released") -> dict[str, Any]:
    """What the checkpoint says of itself."""
    return dict(CHECKPOINTS[variant]["hyper_parameters"])


def lightning_checkpoint(
    state: dict[str, Tensor], settings: dict[str, Any], as_namespace: bool = False
) -> dict[str, Any]:
    """Lay a state dict out as PyTorch Lightning 1.8 saves it."""
    return {
        "epoch": 219,
        "global_step": 25080,
        "pytorch-lightning_version": "1.8.0",
        "state_dict": state,
        "loops": {},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
        "hparams_name": "args" if as_namespace else "kwargs",
        "hyper_parameters": Namespace(**settings) if as_namespace else settings,
    }


def write_checkpoint(path: Path, variant: str = "released", as_namespace: bool = False) -> Path:
    """Write the file a user would bring for `variant`."""
    settings = hyper_parameters(variant)
    torch.save(lightning_checkpoint(released_state(variant), settings, as_namespace), path)
    return path


def write_clip(path: Path) -> Path:
    """Write CLIP as safetensors under OpenAI's keys, in float32 (600 MB)."""
    save_file(clip_state(), path)
    return path


def write_weights(path: Path, checkpoint_file: Path, clip_file: Path) -> Path:
    """Turn a released checkpoint and CLIP into one weights file, as `download-weights` does."""
    imported = import_released(checkpoint_file, clip_file)
    checkpoint.save(imported.state, imported.config, path, {"name": "released", "licence": "MIT"})
    return path
