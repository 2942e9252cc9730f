"""One step of training: a batch becomes losses, gradients, and slightly better weights.

losses.py -> [step.py] -> loop.py. Nothing here knows files, epochs' ends or data sets. All that
changes from step to step is in `Trainer.state`, and randomness is seeded by each step's number, so
that a loaded state continues exactly where it was saved.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from clipcount_cli import distributed
from clipcount_cli.config import TrainConfig
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.devices import dtype_of, upload
from clipcount_cli.errors import TrainingError
from clipcount_cli.training.frozen import FrozenWeights
from clipcount_cli.training.losses import (
    count_loss,
    density_loss,
    negative_text_loss,
    occupied_patches,
    patch_text_loss,
)


@dataclass(frozen=True)
class Batch:
    """B windows and P pairs of a window and a prompt: several prompts share a window's encoding."""

    windows: Tensor  # (B, 3, S, S) uint8, or float in 0..1
    image_of: Tensor  # (P,) int64: the window of each pair
    prompt_of: Tensor  # (P,) int64: its prompt, a row of `tokens`
    tokens: Tensor  # (T, L) int64: each distinct prompt once
    target: Tensor  # (P, side, side) density x 60; zero where the prompt names nothing
    kept: Tensor | None = None  # (B, side, side) bool: pixels the density loss sees; None: all
    names: tuple[str, ...] = ()  # of the B images, for messages

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`, for which the host does not wait."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            name: upload(value, device)
            for name, value in tensors.items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def wait_for(self, ready: torch.cuda.Event) -> None:
        """Let the current stream use this batch once another one has made it ready."""
        stream = torch.cuda.current_stream(self.windows.device)
        stream.wait_event(ready)
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), Tensor):
                value.record_stream(stream)  # its memory is not reused before


@dataclass(frozen=True)
class StepPlan:
    """How long a training is, in steps."""

    steps_per_epoch: int
    epochs: int

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs


def _seed(*numbers: int) -> int:
    """A seed from `numbers`, the same with every version of Python."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def learning_rate(config: TrainConfig, plan: StepPlan, step: int) -> float:
    """The learning rate of step `step` (from 0): warm-up, then `config.schedule`."""
    warmup = round(config.warmup_fraction * plan.steps)
    rise = min(1.0, (step + 1) / (warmup + 1))
    if config.schedule == "step":
        epoch = step // plan.steps_per_epoch
        return config.learning_rate * rise * config.step_factor ** (epoch // config.step_epochs)
    done = max(0, step - warmup) / max(1, plan.steps - warmup)
    return config.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * done))


def pair_losses(
    model: ClipCount, batch: Batch, config: TrainConfig, contrast_only: bool
) -> dict[str, tuple[Tensor, Tensor]]:
    """Each loss in use: its value for each pair (P,), and which pairs it applies to (P,)."""
    windows = batch.windows.float() / 255 if batch.windows.dtype == torch.uint8 else batch.windows
    features = model.encode_image(windows).select(batch.image_of)
    text = model.encode_text(batch.tokens)[batch.prompt_of]  # (P, C)
    contrasted = model.contrast_text(text)
    everything = torch.ones(len(text), device=text.device)
    losses: dict[str, tuple[Tensor, Tensor]] = {}
    if config.contrast != "none" and (contrast_only or config.contrast_weight):
        occupied = occupied_patches(
            batch.target, math.isqrt(features.contrast.shape[1]), config.occupied_threshold
        )
        present = occupied.any(dim=1).float()
        value = patch_text_loss(
            features.contrast, contrasted, occupied, config.tau, config.normalize_contrast
        )
        losses["contrast"] = value, everything if config.contrast_empty else present
        if config.negative_weight:
            negative = negative_text_loss(
                features.contrast.float(), contrasted.float(), occupied, batch.image_of, config.tau
            )
            losses["negative"] = negative, present
    if contrast_only:
        return losses
    density = model.decode(features, text, batch.target.shape[-1])
    kept = None if batch.kept is None else batch.kept[batch.image_of]
    losses["density"] = density_loss(density, batch.target, kept, config.density_loss), everything
    if config.count_weight:
        losses["count"] = count_loss(density, batch.target), everything
    return losses


class _Done(NamedTuple):
    """A step that was given to the device."""

    step: int
    images: int
    losses: tuple[str, ...]  # names
    values: Tensor  # of these losses, then the norm of the gradient
    names: tuple[str, ...]  # of the images, for messages


class Trainer:
    """A network, its optimiser and its averaged weights, one step at a time."""

    def __init__(
        self,
        model: ClipCount,
        config: TrainConfig,
        plan: StepPlan,
        precision: str = "fp32",
        freeze_norms: bool = False,
    ) -> None:
        """freeze_norms: keep the batch norms' statistics, as few images need it."""
        self.model, self.config, self.plan = model, config, plan
        self.device = model.patch_proj.weight.device
        self.dtype = dtype_of(precision)
        self.freeze_norms = freeze_norms
        self.step_number = 0
        self.trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.frozen = FrozenWeights(model, self.dtype)
        saved = model.state_dict()
        self.statistics = {n: b for n, b in model.named_buffers() if n in saved}
        self.defers = self.device.type == "cuda"
        betas = (config.beta1, config.beta2)
        self.optimizer = torch.optim.AdamW(
            self.trained.values(),
            config.learning_rate,
            betas,
            weight_decay=config.weight_decay,
            fused=self.defers or None,
        )
        self._set_modes()
        self._done: list[_Done] = []  # steps whose losses have not been read
        self._weights: dict[tuple[float, ...], Tensor] = {}
        self._poison = torch.zeros((), device=self.device)  # NaN once a loss was not finite
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.average = (
            {n: p.detach().clone() for n, p in self._changing()} if config.ema_decay else {}
        )

    @property
    def trained_parameters(self) -> int:
        """How many numbers training may change."""
        return sum(p.numel() for p in self.trained.values())

    @property
    def contrast_only(self) -> bool:
        """Whether the next step belongs to the first stage, which has no density."""
        return self.config.contrast != "none" and self.epoch < self.config.contrast_epochs

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to, from 0."""
        return self.step_number // self.plan.steps_per_epoch

    def step(self, batch: Batch) -> None:
        """Learn from one batch; `read` returns its losses.

        Raises TrainingError, the weights unchanged, if a loss or a gradient is not finite. On CUDA,
        where `step` does not wait for the device, `read` raises it: no later step changed them.
        """
        torch.manual_seed(_seed(self.config.seed, self.step_number, distributed.rank()))
        if not self.model.training:  # after a validation
            self._set_modes()
        rate = learning_rate(self.config, self.plan, self.step_number)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        autocast = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with self.frozen.rounded(), autocast:
            losses = self._losses(batch)
        loss, shares = self._weighed(losses)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss + self._poison if self.defers else loss))
        distributed.sum_gradients(self.trained.values())
        self.scaler.unscale_(self.optimizer)
        norm = self._clip_gradients()
        values = torch.cat([distributed.summed(shares), norm.reshape(1)])
        done = _Done(self.step_number, len(batch.windows), tuple(losses), values, batch.names)
        self._done.append(done)
        if not self.defers:
            self._check(done, values.tolist())
        self._apply_gradients(values)
        self.step_number += 1

    def read(self) -> list[tuple[dict[str, float], int]]:
        """The losses of each step since the last call, and its number of images; waits for them.

        Raises TrainingError as `step` does; the state is then that before the step it names.
        """
        done, self._done = self._done, []
        if not done:
            return []
        values = torch.cat([each.values for each in done]).tolist()
        told = []
        for each in done:
            own, values = values[: len(each.values)], values[len(each.values) :]
            self._check(each, own)
            losses = dict(zip(each.losses, own, strict=False))
            losses["loss"] = sum(self._weight(name) * value for name, value in losses.items())
            told.append((losses, each.images))
        return told

    def _losses(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Each loss: its values, and the weight of each value in the mean."""
        return pair_losses(self.model, batch, self.config, self.contrast_only)

    def _weighed(self, losses: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """This process's share of the loss, and of each of its parts.

        A part is averaged over the pairs of all processes that it applies to.
        """
        about = torch.stack([mask.sum() for _, mask in losses.values()])
        totals = distributed.summed(about)
        sums = torch.stack([(value.float() * mask).sum() for value, mask in losses.values()])
        shares = sums / totals.clamp(min=1)
        weights = tuple(self._weight(name) for name in losses)
        if weights not in self._weights:
            self._weights[weights] = torch.tensor(weights, device=self.device)
        return (shares * self._weights[weights]).sum(), shares.detach()

    def _weight(self, name: str) -> float:
        config = self.config
        if name == "contrast" and self.contrast_only:
            return 1.0
        # The authors' mask multiplies a loss that is already averaged, so it only scales it.
        scale = config.mask_keep_fraction if name == "density" and config.mask == "loss" else 1.0
        return scale * float(getattr(config, f"{name}_weight"))

    def _check(self, done: _Done, values: Sequence[float]) -> None:
        """Raise TrainingError if one of a step's `values`, its losses and the norm, is not finite.

        fp16 overflows now and then: the scaler leaves such a step out and scales less.
        """
        *losses, norm = values
        broken = [
            n for n, value in zip(done.losses, losses, strict=True) if not math.isfinite(value)
        ]
        if not broken and (math.isfinite(norm) or self.scaler.is_enabled()):
            return
        self._done, self.step_number = [], done.step
        what = f"the {' and the '.join(broken)} loss" if broken else "the gradient"
        within = done.step % self.plan.steps_per_epoch
        raise TrainingError(
            f"{what} is not a finite number at epoch {self.epoch + 1}, batch {within + 1} of "
            f"{self.plan.steps_per_epoch}: {', '.join(done.names) or 'unnamed images'}",
            hint="the weights before this batch are saved; lower --learning-rate, or train in "
            "--precision fp32, and start from them with --init RUN/last.safetensors",
        )

    def _clip_gradients(self) -> Tensor:
        """Shorten the gradients to the limit, if there is one; returns their norm before."""
        gradients = [p.grad for p in self.trained.values() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.config.grad_clip:
            nn.utils.clip_grads_with_norm_(self.trained.values(), self.config.grad_clip, norm)
        return norm

    def _apply_gradients(self, values: Tensor) -> None:
        # A young average forgets faster, or it would remember the first weights for long.
        decay = min(self.config.ema_decay, (1 + self.step_number) / (10 + self.step_number))
        change: float | Tensor = 1 - decay
        if self.defers:
            judged = values[:-1] if self.scaler.is_enabled() else values
            finite = judged.isfinite().all()
            # Once a value is not finite, neither is any later loss, and no step changes anything.
            self._poison = torch.where(finite, self._poison, math.nan)
            if not self.scaler.is_enabled():
                self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            change = finite * change
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self._update_average(change)

    @torch.no_grad()
    def _update_average(self, change: float | Tensor) -> None:
        """Move the averaged weights by the part `change` of the way to the weights."""
        averages, values = list(self.average.values()), [value for _, value in self._changing()]
        if isinstance(change, float):
            torch._foreach_lerp_(averages, values, change)
            return
        ways = torch._foreach_sub(values, averages)  # lerp takes no weight from the device
        torch._foreach_mul_(ways, change)
        torch._foreach_add_(averages, ways)

    def _set_modes(self) -> None:
        self.model.train()
        if self.freeze_norms or self.config.tuning != "full":
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _changing(self) -> Iterator[tuple[str, Tensor]]:
        """The trained parameters, and the batch norms' statistics."""
        yield from self.trained.items()
        yield from ((n, b) for n, b in self.statistics.items() if b.is_floating_point())

    @contextmanager
    def averaged(self) -> Iterator[ClipCount]:
        """The network in evaluation mode, with the averaged weights where they are kept."""
        self.model.eval()
        own = {n: v.detach().clone() for n, v in self._changing() if n in self.average}
        self._put(self.average)
        try:
            yield self.model
        finally:
            self._put(own)

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._changing():
                if name in values:
                    value.copy_(values[name])

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, beside the weights that are not trained."""
        return {
            "step": self.step_number,
            "trained": {n: p.detach() for n, p in self.trained.items()},
            "buffers": self.statistics,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.step_number = state["step"]
        self._put(state["trained"])
        for name, buffer in self.statistics.items():
            buffer.copy_(state["buffers"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["fused"] = self.defers or None  # the state may come from another device
        self.scaler.load_state_dict(state["scaler"])
        for name, value in self.average.items():
            value.copy_(state["average"][name])
