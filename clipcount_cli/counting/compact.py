"""The embedded network: the interaction and decoder of model.py between compact towers.

Image -> count, step 3 of 5, for weights without CLIP. Nouns are recognized by comparison
(recognition.py), without the words that describe them; the decoder reads the whole prompt through
a few channels only, which hold colours and materials but no list of nouns. So a noun that is only
half known reaches it as a faint relevance, in training as in use.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipcount_cli.config import BPE_ROWS, COMPACT_CHANNELS, ModelConfig
from clipcount_cli.counting.colours import (
    ColourMatch,
    attributes_alone,
    of_patches,
    without_attributes,
)
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
COLOUR_CELL_PX, COLOUR_HIDDEN = 8, 64
MATCHES = 2  # numbers that say how well a patch's colours match
WHOLE = 0.95  # likeness to a noun of the bank that makes a prompt one: "red blood cells"


class CompactClipCount(ClipCount):
    """Windows and prompts in, densities out, as `ClipCount`."""

    pretrained = ("clip.", "recognition.classifier.")

    attribute_ids: Tensor  # BPE ids of words that describe a noun

    def _add_towers(self) -> None:
        config, clip = self.config, self.config.clip
        self.clip = CompactClip(clip, BPE_ROWS)
        _, _, coarse, deep = COMPACT_CHANNELS
        self.deep_proj = nn.Linear(deep, config.width)
        self.recognition = Recognition(coarse, deep, clip.embed_dim, len(config.bank))
        self.attribute = nn.Linear(clip.embed_dim, config.attribute_width)
        matches = 0
        if config.colour_channels:
            self.colour_match = ColourMatch(config.colour_channels, clip.embed_dim)
            self.describe = nn.Linear(clip.embed_dim, config.attribute_width, bias=False)
            matches = MATCHES
        self.read_relevance = nn.Sequential(
            nn.Linear(SOURCES + matches, RELEVANCE_HIDDEN),
            nn.GELU(),
            nn.Linear(RELEVANCE_HIDDEN, config.width),
        )
        if config.patch_colours:
            cells = (clip.patch_size_px // COLOUR_CELL_PX) ** 2
            self.read_colours = nn.Sequential(
                nn.Linear(3 * cells, COLOUR_HIDDEN),
                nn.GELU(),
                nn.Linear(COLOUR_HIDDEN, config.width),
            )

    def _register_constants(self) -> None:
        super()._register_constants()
        with torch.device("cpu"):
            ids = torch.tensor(self.config.attribute_ids, dtype=torch.int64)
        self.register_buffer("attribute_ids", ids, persistent=False)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """BPE ids (B, L) -> vectors of the noun alone, of the prompt, of what describes it (B, 3C).

        The last is zero if no word describes the noun, and left out by networks without colours.
        """
        prompt = self.clip.text(tokens)
        noun = self.clip.text(without_attributes(tokens, self.attribute_ids))
        likeness = (prompt @ self.recognition.bank.float().T).amax(dim=-1, keepdim=True)
        parts = [torch.where(likeness < WHOLE, noun, prompt), prompt]
        if self.config.colour_channels:
            parts.append(self._described(tokens))
        return torch.cat(parts, dim=-1)

    def _described(self, tokens: Tensor) -> Tensor:
        words, any_words = attributes_alone(tokens, self.attribute_ids)
        return torch.where(any_words[:, None], self.clip.text(words), 0.0)

    def contrast_text(self, text: Tensor) -> Tensor:
        return text[:, : self.config.clip.embed_dim]

    def familiarity(self, text: Tensor) -> float:
        """Greatest similarity of a noun (C,) to one that these weights can recognize."""
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
        if self.config.patch_colours:
            patches = patches + self.read_colours(self._colours(pixels).to(patches.dtype))
        patches = self._first_block.before_text(patches)
        evidence = self.recognition(coarse, deep)
        own = evidence.vectors[:, :, 0]  # (B, N, C)
        keys = None
        if self.config.colour_channels:
            keys = self.colour_match.keys((pixels * 2 - 1).to(patches.dtype))
        fine = to_patches(pyramid.fine)
        return PatchFeatures(patches, own, fine, pyramid.finest, evidence, keys)

    def _colours(self, pixels: Tensor) -> Tensor:
        """The mean colours of each patch's cells, which the frozen tower has learned to ignore.

        Pixels (B, 3, S, S) -> (B, N, 12).
        """
        cells = F.avg_pool2d(pixels, COLOUR_CELL_PX) * 2 - 1
        return to_patches(
            F.pixel_unshuffle(cells, self.config.clip.patch_size_px // COLOUR_CELL_PX)
        )

    def decode(self, features: PatchFeatures, text: Tensor, side_px: int | None = None) -> Tensor:
        dtype = features.patches.dtype
        parts = text.reshape(len(text), -1, self.config.clip.embed_dim)  # (B, 2 or 3, C)
        seen = self._relevance(features, parts[:, 0]).to(dtype)  # (B, N, 3)
        attributes = self.attribute(parts[:, 1].to(dtype))  # (B, 16)
        if features.colours is not None and features.finest is not None:
            words = parts[:, 2].to(dtype)
            attributes = attributes + self.describe(words)
            match = self.colour_match(features.colours, words)  # (B, 1, S / 4, S / 4)
            seen = torch.cat([seen, of_patches(match, self.config.clip.grid_side)], dim=-1)
            finest = torch.cat([features.finest, match.to(features.finest.dtype)], dim=1)
            features = features._replace(finest=finest)
        patches = features.patches + self.read_relevance(seen)
        return super().decode(features._replace(patches=patches), attributes, side_px)

    def _relevance(self, features: PatchFeatures, noun: Tensor) -> Tensor:
        assert features.evidence is not None
        relevance = self.recognition.relevance(features.evidence, noun)
        shifted = relevance + self.config.relevance_shift
        return (shifted / RELEVANCE_SCALE).clamp(*RELEVANCE_RANGE)


def build_model(config: ModelConfig) -> ClipCount:
    """The network that `config` describes, untrained."""
    return CompactClipCount(config) if config.clip.compact else ClipCount(config)
