"""The whole network: a window and a prompt become a density map (arXiv:2305.07304).

Image -> count, step 3 of 5: images.py -> windows.py -> [model.py] -> counter.py -> heatmap.py

Read from top to bottom: the small parts first, `ClipCount` last. `B` batch, `N` patches
(14 x 14 = 196), `C` channels of CLIP's shared space, `D` channels of the interaction, `S` side of a
window in pixels.
The authors' weights and a model of a few million parameters are two configurations of this file.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipcount_cli.config import BPE_ROWS, ModelConfig, WindowConfig
from clipcount_cli.counting.clip import PIXEL_MEAN, PIXEL_STD, build_clip
from clipcount_cli.counting.image_tower import ImageTower
from clipcount_cli.counting.recognition import Evidence

NORM_GROUPS = 8  # of the decoder's GroupNorm
EMPTY_LOGIT = -4.0  # where an untrained decoder begins: most pixels hold nothing


class PatchFeatures(NamedTuple):
    """Features of the image alone, shared by all prompts for the same window."""

    patches: Tensor  # (B, N, D), for the density decoder
    contrast: Tensor  # (B, N, C), for the similarity between patch and prompt
    fine: Tensor | None = None  # (B, 4N, F), the tower's features at twice the resolution
    finest: Tensor | None = None  # (B, 24, S / 4, S / 4), of networks with compact towers
    evidence: Evidence | None = None  # what each patch shows, of networks with compact towers
    colours: Tensor | None = None  # (B, K, S / 4, S / 4), of networks that match colours

    def select(self, index: Tensor | slice) -> PatchFeatures:
        """The features of windows `index` (K,), which may repeat."""
        return PatchFeatures(*(_select(part, index) for part in self))


def _select(part: Tensor | Evidence | None, index: Tensor | slice) -> Any:
    if part is None:
        return None
    return part.select(index) if isinstance(part, Evidence) else part[index]


@functools.lru_cache(maxsize=8)
def sinusoid(positions: int, width: int) -> Tensor:
    """Position code (positions, width): sine in even channels, cosine in odd ones."""
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(1e4) / width))
    angle = torch.arange(positions, dtype=torch.float64)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()


def to_grid(patches: Tensor) -> Tensor:
    """(B, N, D) patches as a square image (B, D, H, H)."""
    batch, count, width = patches.shape
    side = math.isqrt(count)
    return patches.transpose(1, 2).reshape(batch, width, side, side)


def to_patches(grid: Tensor) -> Tensor:
    """(B, D, H, H) image as patches (B, N, D)."""
    return grid.flatten(2).transpose(1, 2)


def resize(grid: Tensor, side: int) -> Tensor:
    """Bilinear resize of (B, D, H, H) to (B, D, side, side)."""
    if grid.is_cuda:  # where torch resizes other layouts up to 15 times more slowly
        grid = grid.contiguous(memory_format=torch.channels_last)
    return F.interpolate(grid, size=(side, side), mode="bilinear", align_corners=False)


class DropPath(nn.Module):
    """Leave out a residual branch for a share `rate` of the samples, in training only."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.rate
        return branch * kept / (1 - self.rate)


class SelfAttention(nn.Module):
    """Multi-head attention among the patches of one window."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, patches: Tensor) -> Tensor:
        qkv = self.qkv(patches).unflatten(2, (3, self.heads, -1))  # (B, N, 3, heads, D / heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, D / heads)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return cast(Tensor, self.dropout(self.proj(mixed.transpose(1, 2).flatten(2))))


class ReadText(nn.Module):
    """Cross-attention of every patch to the one text token.

    One key makes the softmax 1: what is added is the same vector `proj(value(text))` for every
    patch, and queries and keys never matter. With `gate` the prompt also scales the channels.
    """

    def __init__(self, text_width: int, width: int, dropout: float, gate: bool) -> None:
        super().__init__()
        self.value = nn.Linear(text_width, width)
        self.proj = nn.Linear(width, width)
        self.gate = nn.Linear(text_width, width) if gate else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, patches: Tensor, text: Tensor) -> Tensor:
        """What the prompt `text` (B, C) adds to `patches` (B, N, D)."""
        added = self.proj(self.value(text))[:, None]  # (B, 1, D)
        if self.training:
            added = self.dropout(added.expand_as(patches))  # drawn per patch
        if self.gate is not None:
            added = added + patches * self.gate(text)[:, None]  # (B, N, D)
        return cast(Tensor, added)


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, patches: Tensor) -> Tensor:
        return cast(Tensor, self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(patches))))))


class InteractionBlock(nn.Module):
    """Patches look at each other, then at the text ("hierarchical patch-text interaction").

    A block with `upsample` first doubles the grid's side, and may add the tower's own features
    of that resolution, `fine_width` channels wide.
    """

    def __init__(
        self, config: ModelConfig, upsample: bool = False, attend: bool = True, fine_width: int = 0
    ) -> None:
        super().__init__()
        width, dropout = config.width, config.dropout
        self.upsample_conv = nn.Conv2d(width, width, 3, padding=1) if upsample else None
        self.fine_proj = nn.Linear(fine_width, width) if fine_width else None
        self.norm_self = nn.LayerNorm(width) if attend else None
        self.self_attention = SelfAttention(width, config.heads, dropout) if attend else None
        self.read_text = ReadText(config.read_width, width, dropout, config.text_gate)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width, int(width * config.mlp_ratio), dropout)
        self.drop_path = DropPath(config.drop_path)

    def before_text(self, patches: Tensor, fine: Tensor | None = None) -> Tensor:
        """The part that does not see the prompt: (B, N, D) -> (B, N or 4N, D)."""
        if self.upsample_conv is not None:
            grid = to_grid(patches)  # (B, D, 14, 14)
            grid = grid + F.gelu(self.upsample_conv(grid))
            patches = to_patches(resize(grid, 2 * grid.shape[-1]))  # (B, 4N, D)
        if self.fine_proj is not None:
            patches = patches + self.fine_proj(fine)
        if self.norm_self is not None and self.self_attention is not None:
            patches = patches + self.drop_path(self.self_attention(self.norm_self(patches)))
        return patches

    def with_text(self, patches: Tensor, text: Tensor) -> Tensor:
        """The part that does: (B, N, D) and (B, C) -> (B, N, D)."""
        patches = patches + self.drop_path(self.read_text(patches, text))
        return cast(Tensor, patches + self.drop_path(self.mlp(self.norm_mlp(patches))))

    def forward(self, patches: Tensor, text: Tensor, fine: Tensor | None = None) -> Tensor:
        return self.with_text(self.before_text(patches, fine), text)


class DecoderLevel(nn.Module):
    """conv 3 x 3, GroupNorm, GELU, and the grid resized for the next level."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.norm = nn.GroupNorm(NORM_GROUPS, width_out)

    def forward(self, grid: Tensor) -> Tensor:
        return F.gelu(self.norm(self.conv(grid)))


class DensityDecoder(nn.Module):
    """Patches become a density map, level by level ("density decoder")."""

    def __init__(self, width: int, level_widths: Sequence[int], fine: bool, finest: int) -> None:
        super().__init__()
        widths = [width, *level_widths]
        self.levels = nn.ModuleList(DecoderLevel(i, o) for i, o in itertools.pairwise(widths))
        self.readout = nn.Conv2d(widths[-1], 1, 1)
        nn.init.constant_(cast(Tensor, self.readout.bias), EMPTY_LOGIT)
        self.fine_proj = nn.Conv2d(width, widths[1], 1) if fine else None
        self.fine_norm = nn.GroupNorm(NORM_GROUPS, widths[1]) if fine else None
        self.finest_proj = nn.Conv2d(finest, widths[2], 1) if finest else None

    def forward(
        self, coarse: Tensor, fine: Tensor | None, side_px: int, finest: Tensor | None = None
    ) -> Tensor:
        """coarse (B, N, D), fine (B, 4N, D) or None -> density (B, side, side) float32, 0 to 1."""
        grid = to_grid(coarse)  # (B, D, 14, 14)
        for number, level in enumerate(self.levels):
            if number > 0:
                grid = resize(grid, 2 * grid.shape[-1])
            if number == 1 and self.fine_proj is not None and self.fine_norm is not None:
                grid = grid + F.gelu(self.fine_norm(self.fine_proj(to_grid(cast(Tensor, fine)))))
            if number == 2 and self.finest_proj is not None:
                grid = grid + self.finest_proj(finest)
            grid = level(grid)
        # A 1 x 1 convolution commutes with the last bilinear resize: one channel to resize, not 32.
        logits = resize(self.readout(grid).float(), side_px)
        return torch.sigmoid(logits[:, 0])


class ClipCount(nn.Module):
    """The network: windows and prompts in, densities out."""

    pretrained: tuple[str, ...] = ("clip.",)  # prefixes of tensors that others trained

    pixel_mean: Tensor  # (3, 1, 1)
    pixel_std: Tensor  # (3, 1, 1)
    position_code: Tensor  # (N, W)
    row_of_id: Tensor  # the embedding row of each BPE id: its own, or 0 if the vocabulary lacks it

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch_proj = nn.Linear(config.clip.patch_width, width)
        self._add_towers()
        self.hierarchical = config.interaction == "hierarchical"
        self.interaction = self._interaction()
        self.interaction_norm = None if self.hierarchical else nn.LayerNorm(width)
        levels = config.decoder_widths or _halved(width, 4 if self.hierarchical else 2)
        self.decoder = DensityDecoder(width, levels, self.hierarchical, config.finest_width)
        self._register_constants()

    def _register_constants(self) -> None:
        """Tensors that no weights file holds, which move to the device with the network.

        Built on the CPU even if the network is built without memory: nothing is loaded into them.
        """
        clip = self.config.clip
        with torch.device("cpu"):
            constants = {
                "pixel_mean": torch.tensor(PIXEL_MEAN)[:, None, None],
                "pixel_std": torch.tensor(PIXEL_STD)[:, None, None],
                "position_code": sinusoid(clip.grid_side**2, self.config.width),
            }
            if clip.vocabulary:
                constants["row_of_id"] = _row_of_id(clip.vocabulary)
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)

    def _add_towers(self) -> None:
        """CLIP, what is learned inside of it, and the projection into the space of its text."""
        config, clip = self.config, self.config.clip
        self.clip: Any = build_clip(clip)
        self.image_tower: nn.Module = ImageTower(config)
        if config.context_tokens:
            self.context = nn.Parameter(torch.empty(config.context_tokens, clip.text_width))
            nn.init.normal_(self.context, std=0.02)
        self.contrast_proj = nn.Linear(clip.patch_width, clip.embed_dim)

    def _interaction(self) -> nn.ModuleList:
        config = self.config
        if config.interaction == "add":
            return nn.ModuleList()
        if config.interaction == "naive":
            return nn.ModuleList(InteractionBlock(config) for _ in range(config.depth))
        fine_width = config.clip.fine_width if config.fine_features else 0
        coarse = InteractionBlock(config)
        fine = InteractionBlock(config, True, config.fine_attention, fine_width)
        return nn.ModuleList([coarse, fine])

    @property
    def _first_block(self) -> InteractionBlock:
        return cast(InteractionBlock, self.interaction[0])

    def encode_text(self, tokens: Tensor) -> Tensor:
        """BPE ids (B, L), as short as `prompts.tokenize` makes them -> text embeddings (B, C)."""
        clip, config = self.clip, self.config
        shift = config.context_tokens if config.readout == "eot" else 0
        # The authors read at the [EOT]'s index from *before* the context was inserted, so the last
        # token of a prompt is never seen (songrise/CLIP-Count#6, #12); "eot" reads the true one.
        read_at = tokens.argmax(dim=-1) + shift  # (B,)
        length = tokens.shape[1] + shift  # the tower is causal: what follows cannot matter
        ids = self.row_of_id[tokens] if config.clip.vocabulary else tokens
        embedded = clip.token_embedding(ids)  # (B, L, text width)
        if config.context_tokens:
            context = self.context.expand(len(tokens), -1, -1)
            embedded = torch.cat([embedded[:, :1], context, embedded[:, 1:]], dim=1)
        states = embedded[:, :length] + clip.positional_embedding[:length]
        mask = torch.full((length, length), -math.inf, dtype=states.dtype, device=states.device)
        mask = mask.triu(1)
        for block in clip.transformer.resblocks:
            states = block(states, attn_mask=mask)
        rows = torch.arange(len(tokens), device=tokens.device)
        return cast(Tensor, clip.ln_final(states[rows, read_at]) @ clip.text_projection)

    def contrast_text(self, text: Tensor) -> Tensor:
        """The part of text embeddings that `PatchFeatures.contrast` is compared with: (B, C)."""
        return text

    def encode_image(self, windows: Tensor) -> PatchFeatures:
        """Windows (B, 3, S, S), 0 to 1 -> the features that all prompts share."""
        clip = self.config.clip
        size = (clip.image_size_px, clip.image_size_px)
        antialias = self.config.antialias
        pixels = F.interpolate(windows.float(), size, mode="bilinear", antialias=antialias)
        pixels = ((pixels - self.pixel_mean) / self.pixel_std).to(self.patch_proj.weight.dtype)
        fine = None
        if clip.convolutional:
            visual = self.clip.visual
            middle = visual.layer2(visual.layer1(visual.stem(pixels)))  # (B, F, 28, 28)
            tokens = to_patches(visual.layer3(middle))  # (B, N, patch width)
            fine = to_patches(middle) if self.config.fine_features else None  # (B, 4N, F)
        else:
            tokens = self.image_tower(self.clip.visual, pixels)[:, 1:]  # (B, N, patch width)
        patches = self.patch_proj(tokens)
        patches = patches + self.position_code.to(patches.dtype)
        if len(self.interaction):
            patches = self._first_block.before_text(patches)  # no text yet: all prompts share it
        return PatchFeatures(patches, self.contrast_proj(tokens), fine)

    def decode(self, features: PatchFeatures, text: Tensor, side_px: int | None = None) -> Tensor:
        """Features and text (B, C), row by row -> density (B, side, side) float32, 0 to 1.

        The sum over a density of the full side is 60 times the count.
        """
        side_px = side_px or WindowConfig.side_px
        coarse = features.patches
        if self.config.interaction == "add":
            coarse = coarse + text[:, None]
        else:
            coarse = self._first_block.with_text(coarse, text)  # (B, N, D)
        if self.hierarchical:
            fine = self.interaction[1](coarse, text, features.fine)  # (B, 4N, D)
            return cast(Tensor, self.decoder(coarse, fine, side_px, features.finest))
        for block in self.interaction[1:]:
            coarse = block(coarse, text)
        assert self.interaction_norm is not None
        return cast(Tensor, self.decoder(self.interaction_norm(coarse), None, side_px))

    def forward(self, windows: Tensor, tokens: Tensor) -> Tensor:
        """Windows (B, 3, S, S) and their prompts' ids (B, L) -> density (B, S, S)."""
        return self.decode(self.encode_image(windows), self.encode_text(tokens))


def similarity(features: PatchFeatures, text: Tensor) -> Tensor:
    """Cosine similarity between each patch and its prompt: (B, H, H), -1 to 1 (H is 14).

    text: (B, C), of `ClipCount.contrast_text`.
    """
    return to_grid(F.cosine_similarity(features.contrast, text[:, None], dim=-1)[..., None])[:, 0]


def _halved(width: int, levels: int) -> list[int]:
    return [width // 2**level for level in range(1, levels + 1)]


@functools.lru_cache(maxsize=8)
def _row_of_id(vocabulary: tuple[int, ...]) -> Tensor:
    rows = torch.zeros(BPE_ROWS, dtype=torch.int64)
    rows[list(vocabulary)] = torch.arange(1, len(vocabulary) + 1)
    return rows
