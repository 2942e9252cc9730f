"""What each step sees: which photographs, how each window is made, and what is asked of it.

photos.py -> [sampler.py] -> loop.py. All chance comes from the seed, the epoch and the place in it,
so a step is the same whoever makes it: after a resume, and in whichever of several processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipcount_cli import distributed
from clipcount_cli.config import ModelConfig, TrainConfig, WindowConfig
from clipcount_cli.counting.prompts import tokenize
from clipcount_cli.training.augment import render
from clipcount_cli.training.photos import Photo, Points
from clipcount_cli.training.step import Batch, Plan
from clipcount_cli.training.targets import window_targets
from clipcount_cli.training.views import (
    QUARTERS,
    WindowPlan,
    changed_window,
    mosaic_window,
    plain_window,
)

MOST_PRESENT = 8  # prompts with objects asked of one window
_TRIES = 20  # to find a photograph of another class

Questions = dict[str, Points]  # prompt -> its dots (K, 2) in the window


@dataclass(frozen=True)
class Window:
    """One window before its pixels are made."""

    plan: WindowPlan
    photos: tuple[Photo, ...]  # one a view
    questions: Questions
    mask_seed: int


class Sampler:
    """Makes the batches of any step."""

    side_px = WindowConfig.side_px

    def __init__(
        self,
        photos: Sequence[Photo],
        config: TrainConfig,
        model_config: ModelConfig,
        device: torch.device,
    ) -> None:
        self.photos, self.config, self.device = photos, config, device
        self.model_config = model_config
        self.prompts = sorted({prompt for photo in photos for prompt in photo.points_px})
        self._tokens: dict[str, Tensor] = {}

    @property
    def plan(self) -> Plan:
        """Each epoch sees every photograph; its last step is filled up with some of them again."""
        return Plan(-(-len(self.photos) // self.config.batch), self.config.epochs)

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

    def _window(self, photo: Photo, place: tuple[int, int]) -> Window:
        rng = np.random.default_rng((self.config.seed, *place, 1))
        config, size = self.config, photo.pixels.shape[:2]
        kind = rng.random()
        photos: tuple[Photo, ...] = (photo,)
        if kind < config.class_mosaic_share and len(others := self._others(photo, rng)) > 1:
            photos = others
            plan = mosaic_window(tuple(p.pixels.shape[:2] for p in photos), self.side_px, rng)
        elif kind < (shares := config.class_mosaic_share + config.mosaic_share):
            photos = (photo,) * len(QUARTERS)
            plan = mosaic_window((size,) * len(QUARTERS), self.side_px, rng)
        elif kind < shares + config.changed_share:
            plan = changed_window(size, self.side_px, config, rng)
        else:
            plan = plain_window(size, self.side_px, rng)
        return Window(plan, photos, self._ask(plan, photos, rng), int(rng.integers(2**63)))

    def _others(self, photo: Photo, rng: np.random.Generator) -> tuple[Photo, ...]:
        """`photo` and three more, not all of its class, in any order; alone if there are none."""
        chosen = [photo]
        for _ in range(_TRIES):
            other = self.photos[int(rng.integers(len(self.photos)))]
            if len(chosen) == 1:
                fits = _differ(photo, other)
            else:  # what is known of one must be known of the other, too
                fits = all(_differ(other, there, same=True) for there in chosen)
            chosen += [other] * fits
            if len(chosen) == len(QUARTERS):
                return tuple(chosen[i] for i in rng.permutation(len(chosen)))
        return (photo,)

    def _ask(
        self, plan: WindowPlan, photos: Sequence[Photo], rng: np.random.Generator
    ) -> Questions:
        """The prompts of the photographs with the dots that show, and some that are absent."""
        known = list(dict.fromkeys(prompt for photo in photos for prompt in photo.points_px))
        asked = known
        if len(known) > MOST_PRESENT:
            asked = [known[i] for i in sorted(rng.permutation(len(known))[:MOST_PRESENT])]
        questions: Questions = {}
        for prompt in asked:
            shown = [
                view.place(photo.points_px[prompt])
                for view, photo in zip(plan.views, photos, strict=True)
                if prompt in photo.points_px
            ]
            questions[prompt] = np.concatenate(shown)
        if self.config.absent_prompts:
            absent = [p for p in self.prompts if all(apart(p, there) for there in known)]
            for i in rng.permutation(len(absent))[: self.config.absent_prompts]:
                questions[absent[i]] = np.zeros((0, 2), np.float32)
        return questions

    def _as_batch(self, windows: Sequence[Window]) -> Batch:
        asked = [(i, p) for i, window in enumerate(windows) for p in window.questions]
        distinct = sorted({prompt for _, prompt in asked})
        row_of = {prompt: row for row, prompt in enumerate(distinct)}
        points = [
            torch.from_numpy(p).to(self.device) for w in windows for p in w.questions.values()
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
            tokens=torch.cat([self._tokenized(prompt) for prompt in distinct]),
            target=window_targets(
                points, config.target_side_px, config.sigma_px, not config.count_doubles
            ),
            kept=self._kept(windows) if config.mask == "pixel" else None,
            names=tuple(" + ".join({p.name: None for p in w.photos}) for w in windows),
        )

    def _tokenized(self, prompt: str) -> Tensor:
        if prompt not in self._tokens:
            self._tokens[prompt] = tokenize([prompt], self.model_config).to(self.device)
        return self._tokens[prompt]

    def _kept(self, windows: Sequence[Window]) -> Tensor:
        side_px = self.config.target_side_px
        kept = torch.empty(len(windows), side_px, side_px, device=self.device)
        for mask, window in zip(kept, windows, strict=True):
            mask.uniform_(generator=torch.Generator(self.device).manual_seed(window.mask_seed))
        return kept < self.config.mask_share


def apart(prompt: str, other: str) -> bool:
    """False where one names what the other names too: "beads" are there where "red beads" are."""
    words, others = set(prompt.lower().split()), set(other.lower().split())
    return not (words <= others or others <= words)


def _differ(photo: Photo, other: Photo, same: bool = False) -> bool:
    """Whether their prompts name different things; with `same`, or are equal."""
    pairs = ((p, q) for p in photo.points_px for q in other.points_px)
    return all((same and p == q) or apart(p, q) for p, q in pairs)
