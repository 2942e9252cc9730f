"""Networks of some thousand parameters, for tests that need one whatever it counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from clipcount_cli.config import ClipConfig, ModelConfig
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.weights import checkpoint

SMALL_CLIP = ClipConfig(
    embed_dim=16,
    image_size_px=64,
    image_layers=2,
    image_width=64,
    text_width=16,
    text_heads=2,
    text_layers=1,
    vocabulary=(736, 49406, 49407),
)
SMALL = ModelConfig(
    clip=SMALL_CLIP, width=16, heads=2, visual_prompts=2, prompted_layers=1, decoder_widths=(8, 8)
)


def small_model(config: ModelConfig = SMALL) -> ClipCount:
    """The same network each time."""
    torch.manual_seed(0)
    return ClipCount(config)


def save_small(path: Path, config: ModelConfig = SMALL, **changes: Any) -> Path:
    """Save a small network, with `changes` of its configuration, as a weights file."""
    config = dataclasses.replace(config, **changes)
    checkpoint.save(small_model(config), config, path, {"name": "small", "licence": "MIT"})
    return path
