"""CLIP's ViT with deep visual prompts (arXiv:2305.07304, "deep visual prompt tuning").

Image -> count, within step 3 of 5: model.py runs it over windows. `B` batch, `N` patches, `D`
channels of the tower.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipcount_cli.config import ModelConfig


class ImageTower(nn.Module):
    """The visual prompts, and how the blocks of open_clip's tower look at them.

    The network holds that tower as `clip.visual`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.clip.patch_width
        self.prompted = config.visual_prompts > 0
        if self.prompted:
            shape = (config.prompted_layers, config.visual_prompts, width)
            self.prompts = nn.Parameter(torch.empty(shape))
            nn.init.normal_(self.prompts, std=0.02)
            self.prompt_proj = nn.Linear(width, width)
            self.norm = nn.LayerNorm(width, eps=1e-6)
        self.dropout = nn.Dropout(config.dropout)

    def layer_prompts(self, windows: int) -> Iterator[Tensor]:
        """The prompts (B or 1, prompts, D) that go through each layer, the first ones first."""
        if not self.prompted:
            return
        rows = self.prompts.unbind()  # together: their gradients then take one operation
        # As released: layer 0 and layer 1 share prompt 0, and the last prompt is never used.
        for row in (rows[0], *rows[:-1]):
            prompts = self.prompt_proj(row)[None]
            if self.training:
                prompts = self.dropout(prompts.expand(windows, -1, -1))  # drawn per window
            yield prompts

    def seen_prompts(self, visual: Any, windows: int) -> Iterator[Tensor | None]:
        """Keys and values (B or 1, prompts, 2D) of each layer's prompts; None if it has none.

        Prompts are replaced at every layer, so what a block would make of them is never seen: they
        are keys and values only, outside of training the same for all windows.
        """
        prompts_of_layers = self.layer_prompts(windows)
        for layer, block in enumerate(visual.transformer.resblocks):
            prompts = next(prompts_of_layers, None)
            if prompts is None:
                yield None
                continue
            if layer == 0:
                prompts = visual.ln_pre(prompts)  # the later ones are never normalised by it
            attention, width = block.attn, cast(Tensor, prompts).shape[-1]
            weight, bias = attention.in_proj_weight[width:], attention.in_proj_bias[width:]
            yield F.linear(block.ln_1(prompts), weight, bias)

    def forward(self, visual: Any, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, 224, 224) -> tokens of the last layer, [CLS] first."""
        tokens = embed(visual, pixels)
        seen_by_layer = self.seen_prompts(visual, len(tokens))
        for block, seen in zip(visual.transformer.resblocks, seen_by_layer, strict=True):
            tokens = block(tokens) if seen is None else _look_at(block, tokens, seen)
        return cast(Tensor, self.norm(tokens) if self.prompted else tokens)


def embed(visual: Any, pixels: Tensor) -> Tensor:
    """Normalised pixels (B, 3, 224, 224) -> tokens of the first layer (B, 1 + N, D)."""
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)  # (B, N, D)
    first = visual.class_embedding.expand(len(patches), 1, -1)
    tokens = torch.cat([first, patches], dim=1) + visual.positional_embedding
    return cast(Tensor, visual.ln_pre(tokens))


def attend(qkv: Tensor, seen: Tensor | None, heads: int, mask: Tensor | None = None) -> Tensor:
    """Let tokens look at each other and at `seen`.

    qkv: (B, 1 + N, 3D) queries, keys and values; seen: (B or 1, prompts, 2D) more keys and values;
    mask: added to the scores of all keys, those of `seen` first. Returns (B, 1 + N, D).
    """
    batch, width = len(qkv), qkv.shape[-1] // 3
    query, kv = torch.split(qkv, [width, 2 * width], dim=-1)
    if seen is not None:
        kv = torch.cat([seen.expand(batch, -1, -1), kv], dim=1)
    by_head = (batch, -1, heads, width // heads)
    query, key, value = (
        part.reshape(by_head).transpose(1, 2) for part in (query, *kv.chunk(2, dim=-1))
    )
    mixed = F.scaled_dot_product_attention(query, key, value, mask)
    return mixed.transpose(1, 2).flatten(2)  # of (B, heads, 1 + N, D / heads)


def _look_at(block: Any, tokens: Tensor, seen: Tensor) -> Tensor:
    """Run open_clip's `block` over tokens (B, 1 + N, D) that also look at prompts."""
    attention = block.attn
    qkv = F.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    tokens = tokens + attention.out_proj(attend(qkv, seen, attention.num_heads))
    return cast(Tensor, tokens + block.mlp(block.ln_2(tokens)))
