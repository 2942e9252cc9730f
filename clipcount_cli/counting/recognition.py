"""Recognize what each patch shows: whether it resembles a prompt more than it resembles others.

Image -> count, within step 3 of 5: model.py asks it which patches a prompt is about.

A photo of cookies resembles "cookies" far less than a drawing does, but everything else even less:
the order of nouns survives from drawings to photos, their similarities do not. So the prompt is
compared with a bank of nouns, and patches of like objects are averaged before they are compared.

`B` batch, `N` patches, `C` channels of the text space, `K` nouns of the bank.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SOURCES = 3  # vectors that describe a patch: its own, its group's, its group's by class names
CLASSES = 1000  # of ImageNet
HIDDEN = 384
FOCUS = 10.0  # at first: how much more patches of the same look count in a group
TAUS = (0.07, 0.07, 0.05)  # temperatures of the three sources, at first


class Evidence(NamedTuple):
    """What describes each patch, and how well the bank's nouns explain it."""

    vectors: Tensor  # (B, N, 3, C), unit length
    explained: Tensor  # (B, N, 3), log of the mean exponential over the bank
    objectness: Tensor  # (B, N), logit: does the patch show any object?

    def select(self, index: Tensor | slice) -> Evidence:
        """The evidence of windows `index` (Q,)."""
        return Evidence(*(part[index] for part in self))


class Recognition(nn.Module):
    """Features of the image tower become vectors of the text space, and relevance to a prompt."""

    def __init__(self, coarse: int, deep: int, dim: int, nouns: int) -> None:
        super().__init__()
        self.deep = nn.Linear(deep, HIDDEN)
        self.coarse = nn.Linear(coarse, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN)
        self.embed = nn.Linear(HIDDEN, dim)
        self.objectness = nn.Linear(HIDDEN, 1)
        self.focus = nn.Parameter(torch.tensor(math.log(FOCUS)))
        self.log_tau = nn.Parameter(torch.tensor([math.log(tau) for tau in TAUS]))
        self.classifier = nn.Linear(deep, CLASSES)
        self.named_gain = nn.Parameter(torch.ones(()))
        self.register_buffer("class_names", torch.zeros(CLASSES, dim))  # text vectors
        self.register_buffer("bank", torch.zeros(nouns, dim))  # text vectors
        self.class_names: Tensor
        self.bank: Tensor

    def forward(self, coarse: Tensor, deep: Tensor) -> Evidence:
        """Patches of stride 16 (B, N, F) and of stride 32 (B, N / 4, D) -> evidence."""
        hidden = F.gelu(self.norm(_doubled(self.deep(deep)) + self.coarse(coarse)))  # (B, N, H)
        objectness = self.objectness(hidden).float()[..., 0]  # (B, N)
        odds = self.classifier(deep).float().softmax(dim=-1)  # (B, N / 4, classes)
        # What a convex mixture of class names says of classes unseen (arXiv:1312.5650, "ConSE")
        named = _doubled(odds @ self.class_names.float())  # (B, N, C)
        own = F.normalize(self.embed(hidden).float() + self.named_gain * named, dim=-1)
        likeness = self.focus.exp() * own @ own.transpose(1, 2)  # (B, N, N)
        group = (likeness + F.logsigmoid(objectness)[:, None]).softmax(dim=-1)
        grouped = (F.normalize(group @ part, dim=-1) for part in (own, named))
        vectors = torch.stack([own, *grouped], dim=2)  # (B, N, 3, C)
        scores = vectors @ self.bank.float().T / self._taus()[:, None]  # (B, N, 3, K)
        explained = scores.logsumexp(dim=-1) - math.log(len(self.bank))
        return Evidence(vectors, explained, objectness)

    def relevance(self, evidence: Evidence, text: Tensor) -> Tensor:
        """How much better prompts (B, C) explain each patch than the bank does: (B, N, 3).

        No gradient passes: the density's error must not teach vectors to know the trained nouns by
        heart, or the decoder never sees a noun that is only half known.
        """
        likeness = (evidence.vectors.detach() @ text.float()[:, None, :, None])[..., 0]
        return likeness / self._taus().detach() - evidence.explained.detach()

    def _taus(self) -> Tensor:
        return self.log_tau.exp()


def _doubled(patches: Tensor) -> Tensor:
    """(B, N / 4, D) -> (B, N, D): twice the grid's side, bilinear."""
    side = math.isqrt(patches.shape[1])
    grid = patches.transpose(1, 2).reshape(len(patches), -1, side, side)
    grid = F.interpolate(grid, scale_factor=2.0, mode="bilinear", align_corners=False)
    return grid.flatten(2).transpose(1, 2)
