"""What each step sees: which images, how each window is made, and its prompts.

photos.py -> [sampler.py] -> loop.py. All chance comes from the seed, the epoch and the place in it,
so a step is the same after a resume and in any of several processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clipcount_cli import distributed
from clipcount_cli.config import ModelConfig, TrainConfig, WindowConfig
from clipcount_cli.counting.prompts import disjoint_prompts, tokenize
from clipcount_cli.training.augment import render
from clipcount_cli.training.photos import Points, TrainingImage
from clipcount_cli.training.step import Batch, StepPlan
from clipcount_cli.training.targets import window_targets
from clipcount_cli.training.views import (
    QUARTERS,
    WindowPlan,
    changed_window,
    mosaic_window,
    plain_window,
)

MAX_PRESENT = 8  # prompts with objects asked of one window
_TRIES = 20  # to find a photograph of another class

PromptPoints = dict[str, Points]  # prompt -> its dots (K, 2) in the window


@dataclass(frozen=True)
class Window:
    """One window before its pixels are made."""

    plan: WindowPlan
    photos: tuple[TrainingImage, ...]  # one a view
    points_px: PromptPoints
    mask_seed: int


class Sampler:
    """Makes the batches of any step."""

    side_px = WindowConfig.side_px

    def __init__(
        self,
        photos: Sequence[TrainingImage],
        config: TrainConfig,
        model_config: ModelConfig,
        device: torch.device,
    ) -> None:
        self.photos, self.config, self.device = photos, config, device
        self.model_config = model_config
        self.prompts = sorted({prompt for photo in photos for prompt in photo.points_px})
        self._tokens: dict[str, Tensor] = {}

    @property
    def plan(self) -> StepPlan:
        """Each epoch sees every image; its last step is filled up with some of them again."""
        return StepPlan(-(-len(self.photos) // self.config.batch), self.config.epochs)

    def batches(self, step: int) -> Iterator[Batch]:
        """This process's share of the batches of `step` and all steps after it, without end."""
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> Batch:
        """This process's share of the batch of one step."""
        epoch, within = divmod(step, self.plan.steps_per_epoch)
        share = self.config.batch // distributed.world_size()
        first = within * self.config.batch + distributed.rank() * share
        order = self._order(epoch)
        windows = [
            self._window(self.photos[order[place % len(order)]], (epoch, place))
            for place in range(first, first + share)
        ]
        return self._as_batch(windows)

    def _order(self, epoch: int) -> list[int]:
        chance = np.random.default_rng((self.config.seed, epoch))
        return list(chance.permutation(len(self.photos)))

    def _window(self, photo: TrainingImage, place: tuple[int, int]) -> Window:
        rng = np.random.default_rng((self.config.seed, *place, 1))
        config, size = self.config, photo.pixels.shape[:2]
        kind = rng.random()
        photos: tuple[TrainingImage, ...] = (photo,)
        if kind < config.class_mosaic_prob and len(others := self._others(photo, rng)) > 1:
            photos = others
            plan = mosaic_window(tuple(p.pixels.shape[:2] for p in photos), self.side_px, rng)
        elif kind < (shares := config.class_mosaic_prob + config.mosaic_prob):
            photos = (photo,) * len(QUARTERS)
            plan = mosaic_window((size,) * len(QUARTERS), self.side_px, rng)
        elif kind < shares + config.augment_prob:
            plan = changed_window(size, self.side_px, config, rng)
        else:
            plan = plain_window(size, self.side_px, rng)
        return Window(plan, photos, self._ask(plan, photos, rng), int(rng.integers(2**63)))

    def _others(self, photo: TrainingImage, rng: np.random.Generator) -> tuple[TrainingImage, ...]:
        """`photo` and three more, not all of its class, in any order; alone if there are none."""
        chosen = [photo]
        for _ in range(_TRIES):
            other = self.photos[int(rng.integers(len(self.photos)))]
            if len(chosen) == 1:
                fits = _all_different(photo, other)
            else:  # what is known of one must be known of the other, too
                fits = all(_equal_or_different(other, there) for there in chosen)
            chosen += [other] * fits
            if len(chosen) == len(QUARTERS):
                return tuple(chosen[i] for i in rng.permutation(len(chosen)))
        return (photo,)

    def _ask(
        self, plan: WindowPlan, photos: Sequence[TrainingImage], rng: np.random.Generator
    ) -> PromptPoints:
        """The prompts of the images with the dots that show, and some that are absent."""
        known = list(dict.fromkeys(prompt for photo in photos for prompt in photo.points_px))
        asked = known
        if len(known) > MAX_PRESENT:
            asked = [known[i] for i in sorted(rng.permutation(len(known))[:MAX_PRESENT])]
        points_px: PromptPoints = {}
        for prompt in asked:
            shown = [
                view.place(photo.points_px[prompt])
                for view, photo in zip(plan.views, photos, strict=True)
                if prompt in photo.points_px
            ]
            points_px[prompt] = np.concatenate(shown)
        if self.config.absent_prompts:
            absent = [p for p in self.prompts if all(disjoint_prompts(p, there) for there in known)]
            for i in rng.permutation(len(absent))[: self.config.absent_prompts]:
                points_px[absent[i]] = np.zeros((0, 2), np.float32)
        return points_px

    def _as_batch(self, windows: Sequence[Window]) -> Batch:
        asked = [(i, p) for i, window in enumerate(windows) for p in window.points_px]
        distinct = sorted({prompt for _, prompt in asked})
        row_of = {prompt: row for row, prompt in enumerate(distinct)}
        points = [
            torch.from_numpy(p).to(self.device) for w in windows for p in w.points_px.values()
        ]
        config = self.config
        return Batch(
            windows=render(
                [window.plan for window in windows],
                [[photo.pixels for photo in window.photos] for window in windows],
                self.side_px,
                self.device,
            ),
            image_of=torch.tensor([image for image, _ in asked], device=self.device),
            prompt_of=torch.tensor([row_of[prompt] for _, prompt in asked], device=self.device),
            tokens=pad_sequence([self._tokenized(prompt) for prompt in distinct], batch_first=True),
            target=window_targets(
                points, config.target_side_px, config.sigma_px, not config.count_duplicates
            ),
            kept=self._kept(windows) if config.mask == "pixel" else None,
            names=tuple(" + ".join({p.name: None for p in w.photos}) for w in windows),
        )

    def _tokenized(self, prompt: str) -> Tensor:
        if prompt not in self._tokens:
            self._tokens[prompt] = tokenize([prompt], self.model_config)[0].to(self.device)
        return self._tokens[prompt]

    def _kept(self, windows: Sequence[Window]) -> Tensor:
        side_px = self.config.target_side_px
        kept = torch.empty(len(windows), side_px, side_px, device=self.device)
        for mask, window in zip(kept, windows, strict=True):
            mask.uniform_(generator=torch.Generator(self.device).manual_seed(window.mask_seed))
        return kept < self.config.mask_keep_fraction


def _all_different(photo: TrainingImage, other: TrainingImage) -> bool:
    """Whether no prompt of one names what a prompt of the other names."""
    return all(disjoint_prompts(p, q) for p, q in _prompt_pairs(photo, other))


def _equal_or_different(photo: TrainingImage, other: TrainingImage) -> bool:
    """Whether each pair of their prompts is one prompt or names different things."""
    return all(p == q or disjoint_prompts(p, q) for p, q in _prompt_pairs(photo, other))


def _prompt_pairs(photo: TrainingImage, other: TrainingImage) -> Iterator[tuple[str, str]]:
    return ((p, q) for p in photo.points_px for q in other.points_px)
