"""The network as the paper writes it, which the identities of counting/model.py are held against.

Every window has its prompt encoded again, over all places of the context; visual prompts go through
whole blocks; patches attend to the text with queries and keys; the density is read out at the full
resolution. The weights are those of the fast form. Queries and keys of the cross-attention are in
no weights file, because they cannot matter: they are drawn at random.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipcount_cli.config import ModelConfig
from clipcount_cli.counting.image_tower import ImageTower
from clipcount_cli.counting.model import (
    ClipCount,
    DensityDecoder,
    ReadText,
    resize,
    to_grid,
    to_patches,
)


class PlainReadText(ReadText):
    """Cross-attention of patches to one text token, by queries and keys."""

    def __init__(self, like: ReadText, heads: int) -> None:
        super().__init__(
            like.value.in_features, like.value.out_features, 0.0, like.gate is not None
        )
        self.heads = heads

    def draw_queries(self) -> None:
        """Give the queries and keys some weights."""
        text_width, width = self.value.in_features, self.value.out_features
        self.to_query, self.to_key = nn.Linear(width, width), nn.Linear(text_width, width)

    def forward(self, patches: Tensor, text: Tensor) -> Tensor:
        text = text[:, None]  # (B, 1, C)
        query, key, value = (
            layer(source).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, source in ((self.to_query, patches), (self.to_key, text), (self.value, text))
        )  # each (B, heads, N or 1, W / heads)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])  # (B, heads, N, 1)
        said: Tensor = self.proj((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
        return said if self.gate is None else said + patches * self.gate(text)


class PlainImageTower(ImageTower):
    """CLIP's tower with the prompts among its tokens, between [CLS] and the patches."""

    def forward(self, visual: Any, pixels: Tensor) -> Tensor:
        patches = to_patches(visual.conv1(pixels))
        first = visual.class_embedding.expand(len(patches), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + visual.positional_embedding  # (B, 1 + N, W)
        prompts_of_layers = self.layer_prompts(len(tokens))
        for layer, block in enumerate(visual.transformer.resblocks):
            own = next(prompts_of_layers, None)
            prompts = tokens[:, :0] if own is None else own.expand(len(tokens), -1, -1)
            among = torch.cat([tokens[:, :1], prompts, tokens[:, 1:]], dim=1)
            seen = block(visual.ln_pre(among) if layer == 0 else among)
            tokens = torch.cat([seen[:, :1], seen[:, 1 + prompts.shape[1] :]], dim=1)
        return self.norm(tokens) if self.prompted else tokens


class PlainDecoder(DensityDecoder):
    """The decoder with all channels resized to the full side before the readout."""

    def forward(
        self, coarse: Tensor, fine: Tensor | None, side_px: int, finest: Tensor | None = None
    ) -> Tensor:
        assert finest is None
        grid = to_grid(coarse)
        for number, level in enumerate(self.levels):
            if number == 1 and self.fine_proj is not None and self.fine_norm is not None:
                assert fine is not None
                grid = grid + F.gelu(self.fine_norm(self.fine_proj(to_grid(fine))))
            grid = level(grid)
            last = number == len(self.levels) - 1
            grid = resize(grid, side_px if last else 2 * grid.shape[-1])
        return torch.sigmoid(self.readout(grid)[:, 0])


class PlainClipCount(ClipCount):
    """The whole network without its identities."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.image_tower = PlainImageTower(config)
        for block in self.interaction:
            block.read_text = PlainReadText(block.read_text, config.heads)
        levels = [level.conv.out_channels for level in self.decoder.levels]
        self.decoder = PlainDecoder(config.width, levels, self.hierarchical, finest=0)

    def encode_text(self, tokens: Tensor) -> Tensor:
        clip, config = self.clip, self.config
        length = config.clip.context_length
        padded = F.pad(tokens, (0, length - tokens.shape[1]))
        embedded = clip.token_embedding(
            self.row_of_id[padded] if config.clip.vocabulary else padded
        )
        if config.context_tokens:
            context = self.context.expand(len(tokens), -1, -1)
            embedded = torch.cat([embedded[:, :1], context, embedded[:, 1:]], dim=1)[:, :length]
        states = embedded + clip.positional_embedding
        mask = torch.full((length, length), -math.inf, device=states.device).triu(1)
        for block in clip.transformer.resblocks:
            states = block(states, attn_mask=mask)
        states = clip.ln_final(states) @ clip.text_projection  # of every place, as CLIP does
        shift = config.context_tokens if config.readout == "eot" else 0
        read_at = tokens.argmax(dim=-1) + shift
        return states[torch.arange(len(tokens), device=tokens.device), read_at]


def plain_form(model: ClipCount) -> PlainClipCount:
    """The plain form of `model`, on the same weights: no tensor is copied."""
    with torch.device("meta"):
        plain = PlainClipCount(model.config)
    plain.clip.attn_mask = None
    plain.load_state_dict(model.state_dict(), assign=True)
    for block in plain.interaction:
        block.read_text.draw_queries()
    return plain.to(model.patch_proj.weight.device).eval()
