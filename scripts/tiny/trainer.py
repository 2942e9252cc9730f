"""One step of the embedded model's training: densities as in every training, and nouns aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from scenes.nouns import ANY
from torch import Tensor
from torch.nn import functional as F

from clipcount_cli.config import ModelConfig, TrainConfig, WindowConfig
from clipcount_cli.counting.compact import CompactClipCount
from clipcount_cli.counting.model import PatchFeatures
from clipcount_cli.counting.prompts import tokenize
from clipcount_cli.training.losses import count_loss, density_loss
from clipcount_cli.training.step import Batch, StepPlan, Trainer
from clipcount_cli.training.targets import window_targets
from tiny.align import Names, alignment_losses, label_weights, noun_rows
from tiny.colours import ColourLoss, colour_labels, match_logits
from tiny.network import encode
from tiny.samples import SIDE_PX, Sample

TRAINING = TrainConfig(
    tuning="full",
    contrast="none",
    batch=24,
    learning_rate=1e-3,
    warmup_fraction=0.06,
    ema_decay=0.998,
    sigma_px=6.0,
    mask="none",
)
ALIGN_WEIGHT, OBJECT_WEIGHT, COLOUR_WEIGHT = 0.3, 0.1, 0.3
TARGET_SIDE_PX = 96
GRID_SIDE = SIDE_PX // 16
OBJECT_ABOVE = 0.25  # density at which a patch shows an object
MAX_LABELS = 12  # dots of one noun in one image that are aligned
# These nouns are aligned in the last quarter only: until then the decoder sees them half known
HELD_BACK, HELD_BACK_UNTIL = 0.15, 0.75
HALF_KNOWN, MAX_DOUBT = 0.3, 2.0  # share of prompts that seem less relevant, and by how much


@dataclass(frozen=True, kw_only=True)
class TinyBatch(Batch):
    """Also the dots' nouns, and which patches show objects."""

    labels: Tensor  # (L, 3) int64: image, patch, noun
    objects: Tensor  # (B, N): 1 if the patch shows an object
    complete: Tensor  # (B,): 1 if all objects are annotated
    colours: Tensor  # (L, 4) int64: image, row, column, colour


def density_of(points_px: np.ndarray) -> Tensor:
    """The target (96, 96) of a sample's dots."""
    points = torch.from_numpy(np.ascontiguousarray(points_px)) * (WindowConfig.side_px / SIDE_PX)
    return window_targets([points], TARGET_SIDE_PX, TRAINING.sigma_px, once=False)[0]


def make_batch(samples: Sequence[Sample], config: ModelConfig, seed: int) -> TinyBatch:
    """Stack samples, their prompts, targets and labels; seed: of the dots that are aligned."""
    prompts = sorted({prompt for sample in samples for prompt in sample.prompts})
    row_of = {prompt: row for row, prompt in enumerate(prompts)}
    rng = np.random.default_rng(seed)
    pixels = np.stack([sample.pixels for sample in samples])
    return TinyBatch(
        windows=torch.from_numpy(pixels).permute(0, 3, 1, 2),
        image_of=torch.tensor([i for i, sample in enumerate(samples) for _ in sample.prompts]),
        prompt_of=torch.tensor([row_of[p] for sample in samples for p in sample.prompts]),
        tokens=tokenize(prompts, config),
        target=torch.stack([density_of(p) for sample in samples for p in sample.points_px]),
        labels=_labels(samples, noun_rows(config.bank), rng),
        objects=torch.stack([_occupied(sample) for sample in samples]),
        complete=torch.tensor([float(sample.objects_px is not None) for sample in samples]),
        colours=_colours(samples, rng),
    )


def _labels(samples: Sequence[Sample], row_of: dict[str, int], rng: np.random.Generator) -> Tensor:
    labels = []
    for image, sample in enumerate(samples):
        for noun, points in sample.nouns.items():
            chosen = points[rng.permutation(len(points))[:MAX_LABELS]]
            cells = np.clip((chosen * (GRID_SIDE / SIDE_PX)).astype(int), 0, GRID_SIDE - 1)
            labels += [(image, int(y * GRID_SIDE + x), row_of[noun]) for x, y in cells]
    return torch.tensor(labels, dtype=torch.int64).reshape(-1, 3)


def _colours(samples: Sequence[Sample], rng: np.random.Generator) -> Tensor:
    labels = [
        label
        for image, sample in enumerate(samples)
        for label in colour_labels(sample.colours, image, MAX_LABELS, rng)
    ]
    return torch.tensor(labels, dtype=torch.int64).reshape(-1, 4)


def _occupied(sample: Sample) -> Tensor:
    if sample.objects_px is None:
        return torch.zeros(GRID_SIDE**2)
    peak = F.adaptive_max_pool2d(density_of(sample.objects_px)[None], GRID_SIDE)[0]
    return (peak > OBJECT_ABOVE).float().flatten()


class TinyTrainer(Trainer):
    """The trainer with the losses of recognition beside those of the density."""

    def __init__(
        self,
        model: CompactClipCount,
        config: TrainConfig,
        plan: StepPlan,
        names: Names,
        hold_back: bool = True,
    ) -> None:
        """hold_back: some nouns are not aligned at first; of no use once all of them were."""
        super().__init__(model, config, plan, "bf16")
        self.names = names.to(self.device)
        self.rows, self.kinds = encode(model, names.rows), encode(model, names.kinds)
        self.colour_words, self.colour_loss = encode(model, ANY), ColourLoss(self.device)
        share = HELD_BACK if hold_back else 0.0
        held = np.random.default_rng(5).random(len(names.nouns)) < share
        self.held_back = torch.from_numpy(held).to(self.device)

    def _losses(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        model, batch = cast(CompactClipCount, self.model), cast(TinyBatch, batch)
        features = model.encode_image(batch.windows.float() / 255)
        evidence = features.evidence
        assert evidence is not None
        labels, tau = batch.labels, model.recognition.log_tau.exp()
        aligned = alignment_losses(evidence, labels, self.names, self.rows, self.kinds, tau)
        wrong_objects = F.binary_cross_entropy_with_logits(
            evidence.objectness, batch.objects, reduction="none"
        )
        with torch.no_grad():
            text = model.encode_text(batch.tokens)[batch.prompt_of]  # (P, C)
        assert features.colours is not None
        queries = model.colour_match.query(self.colour_words)
        matches = match_logits(features.colours, queries, batch.colours)
        miscoloured = self.colour_loss(matches, batch.colours[:, 3])
        queried = self._half_known(features.select(batch.image_of))
        density = model.decode(queried, text, TARGET_SIDE_PX)
        every = torch.ones(len(text), device=self.device)
        return {
            "align": (aligned, label_weights(labels, len(batch.windows)) * self._now(labels)),
            "object": (wrong_objects.mean(dim=1), batch.complete),
            "colour": (miscoloured, label_weights(batch.colours, len(batch.windows))),
            "density": (density_loss(density, batch.target, None, self.config.density_loss), every),
            "count": (count_loss(density, batch.target), every),
        }

    def _half_known(self, features: PatchFeatures) -> PatchFeatures:
        """Now and then, let the bank explain everything better: the prompt seems less relevant."""
        evidence = features.evidence
        assert evidence is not None
        chance, much = torch.rand(2, len(evidence.explained), 1, 1, device=self.device)
        doubt = torch.where(chance < HALF_KNOWN, much * MAX_DOUBT, 0.0)
        evidence = evidence._replace(explained=evidence.explained + doubt)
        return features._replace(evidence=evidence)

    def _now(self, labels: Tensor) -> Tensor:
        """1 for labels (L, 3) that are aligned at this step."""
        held_back = self.held_back[labels[:, 2]]
        if self.step_number >= HELD_BACK_UNTIL * self.plan.steps:
            held_back = torch.zeros_like(held_back)
        return (~held_back).float()

    def _weight(self, name: str) -> float:
        own = {"align": ALIGN_WEIGHT, "object": OBJECT_WEIGHT, "colour": COLOUR_WEIGHT}
        return own[name] if name in own else super()._weight(name)
