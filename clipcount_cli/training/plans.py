"""What each step sees, drawn as a few numbers per window: which images, how changed, which prompts.

views.py -> [plans.py] -> sampler.py. All chance comes from the seed, the epoch and the place in it,
so a step is the same after a resume, and in any of several processes.
Nothing here needs torch, so that worker processes start fast.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipcount_cli import distributed
from clipcount_cli.config import TrainConfig, WindowConfig
from clipcount_cli.counting.prompts import disjoint_prompts
from clipcount_cli.training.views import (
    QUARTERS,
    Size,
    WindowPlan,
    changed_window,
    mosaic_window,
    plain_window,
)

MAX_PRESENT = 8  # prompts with objects that one window is queried for
STEPS_AHEAD = 4  # per worker process, drawn before they are needed
_TRIES = 20  # to find an image of another class

Points = NDArray[np.float32]
PromptPoints = dict[str, Points]  # prompt -> its dots (K, 2) in the window


@dataclass(frozen=True)
class PlanImage:
    """What a plan needs to know of an image: all but its pixels."""

    number: int
    size: Size  # (height, width) in pixels
    points_px: PromptPoints


@dataclass(frozen=True)
class Window:
    """One window before its pixels are made."""

    plan: WindowPlan
    images: tuple[int, ...]  # the number of each view's image
    points_px: PromptPoints


class Planner:
    """Draws the windows of any step."""

    side_px = WindowConfig.side_px

    def __init__(self, photos: Sequence[PlanImage], config: TrainConfig) -> None:
        self.photos, self.config = photos, config
        self.prompts = sorted({prompt for photo in photos for prompt in photo.points_px})
        self.steps_per_epoch = math.ceil(len(photos) / config.batch)

    def windows(self, step: int) -> list[Window]:
        """This process's share of the windows of one step.

        Each epoch sees every image; its last step is filled up with some of them again.
        """
        epoch, within = divmod(step, self.steps_per_epoch)
        share = self.config.batch // distributed.world_size()
        first = within * self.config.batch + distributed.rank() * share
        order = self._order(epoch)
        return [
            self._window(self.photos[order[place % len(order)]], (epoch, place))
            for place in range(first, first + share)
        ]

    def _order(self, epoch: int) -> list[int]:
        chance = np.random.default_rng((self.config.seed, epoch))
        return list(chance.permutation(len(self.photos)))

    def _window(self, photo: PlanImage, place: tuple[int, int]) -> Window:
        rng = np.random.default_rng((self.config.seed, *place, 1))
        config, size = self.config, photo.size
        kind = rng.random()
        photos: tuple[PlanImage, ...] = (photo,)
        if kind < config.class_mosaic_prob and len(others := self._others(photo, rng)) > 1:
            photos = others
            plan = mosaic_window(tuple(p.size for p in photos), self.side_px, rng)
        elif kind < (shares := config.class_mosaic_prob + config.mosaic_prob):
            photos = (photo,) * len(QUARTERS)
            plan = mosaic_window((size,) * len(QUARTERS), self.side_px, rng)
        elif kind < shares + config.augment_prob:
            plan = changed_window(size, self.side_px, config, rng)
        else:
            plan = plain_window(size, self.side_px, rng)
        points_px = self._choose_prompts(plan, photos, rng)
        numbers = tuple(photo.number for photo in photos)
        return Window(plan, numbers, points_px)

    def _others(self, photo: PlanImage, rng: np.random.Generator) -> tuple[PlanImage, ...]:
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

    def _choose_prompts(
        self, plan: WindowPlan, photos: Sequence[PlanImage], rng: np.random.Generator
    ) -> PromptPoints:
        """The prompts of the images with the dots that are visible, and some that are absent."""
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


def drawn_ahead(planner: Planner, step: int, processes: int) -> Generator[list[Window], None, None]:
    """The windows of `step` and of all steps after it, without end.

    processes: how many draw ahead; 0: windows are drawn here, when they are needed.
    """
    if not processes:
        while True:
            yield planner.windows(step)
            step += 1
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _begin_drawing, (planner,)
    ) as pool:
        waiting: deque[Future[list[Window]]] = deque()
        try:
            while True:
                while len(waiting) < STEPS_AHEAD * processes:
                    waiting.append(pool.submit(_draw, step))
                    step += 1
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


_planner: Planner  # of a worker process


def _begin_drawing(planner: Planner) -> None:
    global _planner
    _planner = planner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process decides when to stop


def _draw(step: int) -> list[Window]:
    return _planner.windows(step)


def _all_different(photo: PlanImage, other: PlanImage) -> bool:
    """Whether no prompt of one names what a prompt of the other names."""
    return all(disjoint_prompts(p, q) for p, q in _prompt_pairs(photo, other))


def _equal_or_different(photo: PlanImage, other: PlanImage) -> bool:
    """Whether each pair of their prompts is one prompt or names different things."""
    return all(p == q or disjoint_prompts(p, q) for p, q in _prompt_pairs(photo, other))


def _prompt_pairs(photo: PlanImage, other: PlanImage) -> Iterator[tuple[str, str]]:
    return ((p, q) for p in photo.points_px for q in other.points_px)
