"""Two compact towers in the place of CLIP's: EfficientNet-Lite0, and a small phrase encoder.

Image -> count, within step 3 of 5: model.py runs them for weights that hold no CLIP.

`B` batch, `L` tokens, `D` channels, `S` side of the input in pixels.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipcount_cli.config import COMPACT_CHANNELS, ClipConfig

STEM_CHANNELS = 32
# Blocks, kernel side, stride of the first block, expansion, channels (arXiv:1905.11946, table 1)
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
FINEST_STAGE, FINE_STAGE, COARSE_STAGE = 1, 2, 4  # the last of stride 4, of 8, of 16


class Pyramid(NamedTuple):
    """Features of one image tower at four strides."""

    finest: Tensor  # (B, 24, S / 4, S / 4)
    fine: Tensor  # (B, 40, S / 8, S / 8)
    coarse: Tensor  # (B, 112, S / 16, S / 16)
    deep: Tensor  # (B, 1280, S / 32, S / 32)


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow pads: an odd pixel goes to the right and the bottom."""

    def __init__(
        self, width_in: int, width_out: int, side: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(width_in, width_out, side, stride, side // 2, groups=groups)

    def forward(self, grid: Tensor) -> Tensor:
        side, kernel, stride = grid.shape[-1], self.kernel_size[0], self.stride[0]
        padding = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        if padding % 2 == 0:
            return F.conv2d(
                grid, self.weight, self.bias, self.stride, padding // 2, groups=self.groups
            )
        before, after = padding // 2, padding - padding // 2
        grid = F.pad(grid, (before, after, before, after))
        return F.conv2d(grid, self.weight, self.bias, self.stride, groups=self.groups)


class MBConv(nn.Module):
    """Inverted bottleneck: widen, filter each channel, narrow; a shortcut if shapes allow it."""

    def __init__(
        self, width_in: int, width_out: int, side: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = width_in * expansion
        self.expand = SameConv(width_in, hidden) if expansion > 1 else None
        self.depthwise = SameConv(hidden, hidden, side, stride, groups=hidden)
        self.project = SameConv(hidden, width_out)
        self.shortcut = stride == 1 and width_in == width_out

    def forward(self, grid: Tensor) -> Tensor:
        hidden = grid if self.expand is None else F.relu6(self.expand(grid), inplace=True)
        narrow = self.project(F.relu6(self.depthwise(hidden), inplace=True))
        return cast(Tensor, grid + narrow if self.shortcut else narrow)


class EfficientNetLite0(nn.Module):
    """Pixels become features at strides 4, 8, 16 and 32.

    Tan and Le's "lite" variant: no squeeze-and-excitation, ReLU6. Batch norms are folded into the
    convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM_CHANNELS, 3, 2)
        self.stages = nn.ModuleList()
        width = STEM_CHANNELS
        for blocks, side, stride, expansion, width_out in STAGES:
            rows = [MBConv(width, width_out, side, stride, expansion)]
            rows += [MBConv(width_out, width_out, side, 1, expansion) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*rows))
            width = width_out
        self.head = SameConv(width, COMPACT_CHANNELS[-1])

    def forward(self, pixels: Tensor) -> Pyramid:
        """Pixels (B, 3, S, S), -1 to 1 -> features at four strides."""
        grid = F.relu6(self.stem(pixels), inplace=True)
        outputs = []
        for stage in self.stages:
            grid = stage(grid)
            outputs.append(grid)
        deep = F.relu6(self.head(grid), inplace=True)
        return Pyramid(outputs[FINEST_STAGE], outputs[FINE_STAGE], outputs[COARSE_STAGE], deep)


class TextBlock(nn.Module):
    """Pre-norm transformer block; each token sees those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, states: Tensor) -> Tensor:
        qkv = self.qkv(self.norm_attention(states)).unflatten(2, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, L, D / heads)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        states = states + self.proj(mixed.transpose(1, 2).flatten(2))
        return cast(Tensor, states + self.fc2(F.gelu(self.fc1(self.norm_mlp(states)))))


class PhraseEncoder(nn.Module):
    """A noun phrase becomes a unit vector; every id of CLIP's tokenizer has a narrow row."""

    def __init__(self, config: ClipConfig, ids: int) -> None:
        super().__init__()
        width = config.text_width
        self.rows = nn.Embedding(ids, config.text_row_width)
        self.widen = nn.Linear(config.text_row_width, width)
        self.position = nn.Parameter(torch.empty(config.context_length, width))
        nn.init.normal_(self.position, std=0.02)
        self.blocks = nn.ModuleList(
            TextBlock(width, config.text_heads) for _ in range(config.text_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, config.embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """BPE ids (B, L), read at [EOT], the highest id of a row -> (B, C), unit length."""
        read_at = tokens.argmax(dim=-1)
        states = self.widen(self.rows(tokens)) + self.position[: tokens.shape[1]]
        for block in self.blocks:
            states = block(states)
        last = states[torch.arange(len(tokens), device=tokens.device), read_at]
        return F.normalize(self.project(self.norm(last)).float(), dim=-1)


class CompactClip(nn.Module):
    """The two towers, under the names that weights files use for CLIP's."""

    def __init__(self, config: ClipConfig, ids: int) -> None:
        super().__init__()
        self.visual = EfficientNetLite0()
        self.text = PhraseEncoder(config, ids)
