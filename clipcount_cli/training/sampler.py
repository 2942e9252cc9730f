"""Windows and questions become batches: pixels, targets and prompts, made on the device.

plans.py, photos.py -> [sampler.py] -> loop.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clipcount_cli import distributed
from clipcount_cli.config import ModelConfig, TrainConfig, WindowConfig
from clipcount_cli.counting.prompts import tokenize
from clipcount_cli.devices import upload
from clipcount_cli.training.augment import render
from clipcount_cli.training.photos import TrainingImage
from clipcount_cli.training.plans import PlanImage, Planner, Window, drawn_ahead
from clipcount_cli.training.step import Batch, StepPlan
from clipcount_cli.training.targets import window_targets


class Sampler:
    """Makes the batches of any step."""

    side_px = WindowConfig.side_px

    def __init__(
        self,
        photos: Sequence[TrainingImage],
        config: TrainConfig,
        model_config: ModelConfig,
        device: torch.device,
        processes: int = 0,
    ) -> None:
        """processes: how many draw the plans of batches ahead; 0: each is drawn when made."""
        self.photos, self.config, self.processes = photos, config, processes
        # MPS renders in no second thread: there batches are made on the CPU.
        self.device = torch.device("cpu") if device.type == "mps" else device
        images = [PlanImage(n, p.pixels.shape[:2], p.points_px) for n, p in enumerate(photos)]
        self.planner = Planner(images, config)
        self._ids = [tokenize([p], model_config)[0] for p in self.planner.prompts]
        self._row_of = {prompt: row for row, prompt in enumerate(self.planner.prompts)}

    @property
    def plan(self) -> StepPlan:
        """How many steps there are."""
        return StepPlan(self.planner.steps_per_epoch, self.config.epochs)

    def batches(self, step: int) -> Iterator[Batch]:
        """This process's share of the batches of `step` and all steps after it, without end."""
        with closing(drawn_ahead(self.planner, step, self.processes)) as drawn:
            yield from map(self._as_batch, drawn, itertools.count(step))

    def batch(self, step: int) -> Batch:
        """This process's share of the batch of one step."""
        return self._as_batch(self.planner.windows(step), step)

    def _as_batch(self, windows: Sequence[Window], step: int) -> Batch:
        config = self.config
        photos = [[self.photos[number] for number in window.images] for window in windows]
        image_of = [i for i, window in enumerate(windows) for _ in window.points_px]
        asked = [self._row_of[prompt] for window in windows for prompt in window.points_px]
        distinct, prompt_of = np.unique(asked, return_inverse=True)
        tokens = pad_sequence([self._ids[row] for row in distinct], batch_first=True)
        pairs = upload(torch.from_numpy(np.stack([image_of, prompt_of])), self.device)
        points = [torch.from_numpy(dots) for w in windows for dots in w.points_px.values()]
        return Batch(
            windows=render(
                [window.plan for window in windows],
                [[photo.pixels for photo in each] for each in photos],
                self.side_px,
                self.device,
            ),
            image_of=pairs[0],
            prompt_of=pairs[1],
            tokens=upload(tokens, self.device),
            target=window_targets(
                points,
                config.target_side_px,
                config.sigma_px,
                not config.count_duplicates,
                self.device,
            ),
            kept=self._kept(step) if config.mask == "pixel" else None,
            names=tuple(" + ".join({photo.name: None for photo in each}) for each in photos),
        )

    def _kept(self, step: int) -> Tensor:
        """This process's part of a mask that is drawn for the whole batch, in one operation."""
        config, (rank, world) = self.config, (distributed.rank(), distributed.world_size())
        seed = np.random.SeedSequence((config.seed, step)).generate_state(1, np.uint32)
        chance = torch.Generator(self.device).manual_seed(int(seed[0]))
        side_px, share = config.target_side_px, config.batch // world
        drawn = torch.empty(config.batch, side_px, side_px, device=self.device)
        drawn.uniform_(generator=chance)
        return drawn[rank * share : (rank + 1) * share] < config.mask_keep_fraction
