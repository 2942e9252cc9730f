"""Where a window shows the colour or material that a prompt names.

Image -> count, within step 3 of 5: compact.py hands the match to the interaction and the decoder.

The frozen tower has learned to ignore colours, and a vector of a whole prompt hides them behind its
noun. So both sides are taken apart: the window's own colours, cell by cell, and the vector of the
words that describe the noun, alone. A product of the two says how well they match.

`B` batch, `K` channels, `C` channels of the text space, `S` side of the tower's input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipcount_cli.config import EOT

CELL_PX = 4  # of the tower's input: the side of what has one colour
HIDDEN = 32
MATCH_SCALE = 4.0  # products of keys and queries are divided by it: log odds of a match
SURE = 6.0  # log odds beyond which more of them say nothing new


class ColourMatch(nn.Module):
    """Cells of a window against the describing words of a prompt."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.key = nn.Sequential(nn.Conv2d(6, HIDDEN, 1), nn.GELU(), nn.Conv2d(HIDDEN, channels, 1))
        self.query = nn.Linear(dim, channels, bias=False)  # no words, no match

    def keys(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S), -1 to 1 -> (B, K, S / 4, S / 4)."""
        keys: Tensor = self.key(inputs_of_keys(pixels))
        return keys

    def forward(self, keys: Tensor, described: Tensor) -> Tensor:
        """Keys and vectors of describing words (B, C) -> matches (B, 1, S / 4, S / 4), -1 to 1."""
        query = self.query(described).to(keys.dtype)
        return torch.tanh(torch.einsum("bkhw,bk->bhw", keys, query)[:, None] / MATCH_SCALE / SURE)


def inputs_of_keys(pixels: Tensor) -> Tensor:
    """Pixels (B, 3, S, S) -> the mean colours of cells and of the window (B, 6, S / 4, S / 4).

    A cell's colour is judged beside the window's: light has a colour, too.
    """
    cells = F.avg_pool2d(pixels, CELL_PX)
    mean = cells.mean(dim=(2, 3), keepdim=True).expand_as(cells)
    return torch.cat([cells, mean], dim=1)


def of_patches(match: Tensor, grid_side: int) -> Tensor:
    """The greatest and the mean match within each patch: (B, 1, S / 4, S / 4) -> (B, N, 2)."""
    cells = match.shape[-1] // grid_side
    pooled = torch.cat([F.max_pool2d(match, cells), F.avg_pool2d(match, cells)], dim=1)
    return pooled.flatten(2).transpose(1, 2)


def without_attributes(tokens: Tensor, attribute_ids: Tensor) -> Tensor:
    """BPE ids (B, L) without those that describe what follows: "red apples" becomes "apples".

    The last word stays, whatever it is; rows are padded with zeros.
    """
    return _only(tokens, _is_last(tokens) | ~torch.isin(tokens, attribute_ids))


def attributes_alone(tokens: Tensor, attribute_ids: Tensor) -> tuple[Tensor, Tensor]:
    """BPE ids (B, L) of the describing words alone, and which rows have any (B,).

    "red apples" becomes "red"; what `without_attributes` keeps is left out, but for the ends.
    """
    describes = torch.isin(tokens, attribute_ids) & ~_is_last(tokens)
    first = torch.arange(tokens.shape[1], device=tokens.device) == 0
    return _only(tokens, describes | first | (tokens == EOT)), describes.any(dim=1)


def _is_last(tokens: Tensor) -> Tensor:
    return tokens.roll(-1, dims=1) == EOT


def _only(tokens: Tensor, kept: Tensor) -> Tensor:
    order = kept.int().argsort(dim=1, descending=True, stable=True)
    return tokens.masked_fill(~kept, 0).gather(1, order)
