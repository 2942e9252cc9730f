"""The embedded network: the interaction and decoder of model.py between compact towers.

Image -> count, step 3 of 5, for weights without CLIP. Nouns are recognized by comparison
(recognition.py); the decoder reads the prompt itself through a few channels only, which hold
colours and materials but no list of nouns. So a noun that is only half known reaches it as a faint
relevance, in training as in use.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipcount_cli.config import BPE_ROWS, COMPACT_CHANNELS, ModelConfig
from clipcount_cli.counting.model import (
    ClipCount,
    PatchFeatures,
    resize,
    to_grid,
    to_patches,
)
from clipcount_cli.counting.recognition import SOURCES, Recognition
from clipcount_cli.counting.towers import CompactClip

RELEVANCE_SCALE, RELEVANCE_RANGE = 4.0, (-3.0, 1.0)  # relevance is divided, then clamped
RELEVANCE_HIDDEN = 32


class CompactClipCount(ClipCount):
    """Windows and prompts in, densities out, as `ClipCount`."""

    pretrained = ("clip.", "recognition.classifier.")

    def _add_towers(self) -> None:
        config, clip = self.config, self.config.clip
        self.clip = CompactClip(clip, BPE_ROWS)
        _, _, coarse, deep = COMPACT_CHANNELS
        self.deep_proj = nn.Linear(deep, config.width)
        self.recognition = Recognition(coarse, deep, clip.embed_dim, len(config.bank))
        self.attribute = nn.Linear(clip.embed_dim, config.attribute_width)
        self.read_relevance = nn.Sequential(
            nn.Linear(SOURCES, RELEVANCE_HIDDEN),
            nn.GELU(),
            nn.Linear(RELEVANCE_HIDDEN, config.width),
        )

    def encode_text(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self.clip.text(tokens))

    def familiarity(self, text: Tensor) -> float:
        """Greatest similarity of a prompt (C,) to a noun that these weights can recognize."""
        known = torch.cat([self.recognition.bank, self.recognition.class_names])
        return float((known.float() @ text.float()).max().detach())

    def encode_image(self, windows: Tensor) -> PatchFeatures:
        side_px = self.config.clip.image_size_px
        pixels = F.interpolate(
            windows.float(), (side_px, side_px), mode="bilinear", antialias=self.config.antialias
        )
        pyramid = self.clip.visual((pixels * 2 - 1).to(self.patch_proj.weight.dtype))
        coarse, deep = to_patches(pyramid.coarse), to_patches(pyramid.deep)
        wide = resize(to_grid(self.deep_proj(deep)), pyramid.coarse.shape[-1])
        patches = self.patch_proj(coarse) + to_patches(wide)  # (B, N, D)
        patches = patches + self.position_code.to(patches.dtype)
        patches = self._first_block.before_text(patches)
        evidence = self.recognition(coarse, deep)
        own = evidence.vectors[:, :, 0]  # (B, N, C)
        return PatchFeatures(patches, own, to_patches(pyramid.fine), pyramid.finest, evidence)

    def decode(self, features: PatchFeatures, text: Tensor, side_px: int | None = None) -> Tensor:
        assert features.evidence is not None
        relevance = self.recognition.relevance(features.evidence, text)  # (B, N, 3)
        relevance = relevance + self.config.relevance_shift
        relevance = (relevance / RELEVANCE_SCALE).clamp(*RELEVANCE_RANGE)
        patches = features.patches + self.read_relevance(relevance.to(features.patches.dtype))
        attributes = self.attribute(text.to(patches.dtype))  # (B, 16)
        return super().decode(features._replace(patches=patches), attributes, side_px)


def build_model(config: ModelConfig) -> ClipCount:
    """The network that `config` describes, untrained."""
    return CompactClipCount(config) if config.clip.compact else ClipCount(config)
