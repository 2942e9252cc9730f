"""Networks of some thousand parameters, for tests that need one whatever it counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from clipcount_cli.config import ClipConfig, ModelConfig
from clipcount_cli.counting.compact import CompactClipCount
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.counting.prompts import tokenize
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

SMALL_COMPACT = ModelConfig(
    clip=ClipConfig(
        embed_dim=24,
        image_size_px=64,
        image_tower="efficientnet-lite0",
        text_row_width=8,
        text_width=16,
        text_heads=2,
        text_layers=1,
        context_length=32,
    ),
    width=16,
    heads=2,
    visual_prompts=0,
    context_tokens=0,
    readout="eot",
    dropout=0.0,
    drop_path=0.0,
    fine_attention=False,
    fine_features=True,
    finest_features=True,
    decoder_widths=(8, 8, 8),
    bank=("apples", "coins", "penguins", "screws"),
)


def small_model(config: ModelConfig = SMALL) -> ClipCount:
    """The same network each time."""
    torch.manual_seed(0)
    return ClipCount(config)


@torch.no_grad()
def small_compact(config: ModelConfig = SMALL_COMPACT) -> CompactClipCount:
    """A compact network that knows the nouns of its bank, the same each time; not trained."""
    torch.manual_seed(0)
    model = CompactClipCount(config).eval()
    model.recognition.bank.copy_(model.clip.text(tokenize(config.bank, config)))
    model.recognition.class_names.copy_(
        F.normalize(torch.randn(1000, config.clip.embed_dim), dim=-1)
    )
    return model


def save_small(path: Path, config: ModelConfig = SMALL, **changes: Any) -> Path:
    """Save a small network, with `changes` of its configuration, as a weights file."""
    config = dataclasses.replace(config, **changes)
    checkpoint.save(small_model(config), config, path, {"name": "small", "licence": "MIT"})
    return path
