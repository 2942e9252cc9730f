"""`python scripts/benchmark.py train`: steps of training, and what a run of the paper would take.

It works on noise in FSC-147's size, because speed does not depend on what images show: its losses
mean nothing.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import finish, measure_peak
from clipcount_cli import console
from clipcount_cli.commands.options import DeviceOption, Precision, PrecisionOption
from clipcount_cli.config import RECIPES, ModelConfig, Recipe
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.data.samples import Sample
from clipcount_cli.devices import dtype_of, pick_device, pick_precision
from clipcount_cli.training.loop import LOOK_EVERY, Validate
from clipcount_cli.training.photos import TrainingImage
from clipcount_cli.training.prefetch import prefetched
from clipcount_cli.training.run import planning_processes
from clipcount_cli.training.sampler import Sampler
from clipcount_cli.training.start import choose_trained, model_config
from clipcount_cli.training.step import Trainer
from clipcount_cli.training.validation import CHECKED_IMAGES, validation_of

SIZE_PX = (384, 576)  # of most images of FSC-147
TRAIN_IMAGES, VALIDATION_IMAGES, EPOCHS, VALIDATE_EVERY = 3659, 1286, 230, 10
TRAIN_CLASSES, VALIDATION_CLASSES = 89, 29
IMAGES = 128  # in memory; which ones are seen again does not matter
DOTS = 50  # per image, about FSC-147's mean
WARM_UP_STEPS = 3
VALIDATED = 16  # images


def train_speed(
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    recipe: Annotated[Recipe, typer.Option(help="Which recipe's steps.")] = Recipe.paper,
    batch: Annotated[int, typer.Option(help="Images per step.")] = 32,
    steps: Annotated[int, typer.Option(help="How many to measure.")] = 20,
) -> None:
    """Measure steps of training CLIP ViT-B/16, and project the paper's 230 epochs on FSC-147."""
    place = pick_device(device)
    working = pick_precision(precision.value, place)
    trainer, sampler = make_trainer(recipe, batch, place, working)
    flops = count_flops(trainer, sampler)
    seconds, waited = measure_steps(trainer, sampler, steps)
    a_validation = measure_validation(trainer, working, VALIDATED)
    peak = measure_peak(place, dtype_of(working))
    an_epoch = TRAIN_IMAGES / batch * seconds
    projected = EPOCHS * an_epoch + EPOCHS // VALIDATE_EVERY * a_validation
    rows = [
        ("device, precision", f"{place} ({torch.get_num_threads()} threads), {working}"),
        ("images a second", f"{batch / seconds:.1f}"),
        ("waiting for data", f"{waited / seconds:.1%}"),
        ("TFLOP a step", f"{flops / 1e12:.2f}"),
        ("matrix-product peak", f"{peak / 1e12:.2f} TFLOP/s"),
        ("share of that peak", f"{flops / seconds / peak:.1%}"),
        ("an epoch of FSC-147", f"{an_epoch:.0f} s"),
        ("a validation", f"{a_validation:.0f} s"),
        (f"{EPOCHS} epochs", f"{projected / 60:.1f} min"),
    ]
    console.show_table(("training", "measured"), rows)


def make_trainer(
    recipe: Recipe,
    batch: int,
    device: torch.device,
    precision: str,
    base: ModelConfig = ModelConfig(),  # noqa: B008 - frozen
) -> tuple[Trainer, Sampler]:
    """The paper's network, untrained: a step's time does not depend on its weights."""
    config = dataclasses.replace(RECIPES[recipe], batch=batch, contrast_epochs=0)
    torch.manual_seed(0)
    model = ClipCount(model_config(base, config)).to(device)
    choose_trained(model, config)
    photos = noise_photos(IMAGES, TRAIN_CLASSES)
    sampler = Sampler(photos, config, model.config, device, planning_processes(device))
    return Trainer(model, config, sampler.plan, precision), sampler


def noise_photos(images: int, classes: int) -> list[TrainingImage]:
    rng = np.random.default_rng(0)

    def noise(number: int) -> TrainingImage:
        pixels = rng.integers(0, 256, (*SIZE_PX, 3), dtype=np.uint8)
        points = rng.uniform(0, SIZE_PX[::-1], (DOTS, 2)).astype(np.float32)
        points_px = {f"class {number % classes}": points}
        return TrainingImage(str(number), Path(str(number)), pixels, points_px)

    return [noise(number) for number in range(images)]


def count_flops(trainer: Trainer, sampler: Sampler) -> int:
    """Floating-point operations of one step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        trainer.step(sampler.batch(0))
    return int(counter.get_total_flops())


def measure_steps(trainer: Trainer, sampler: Sampler, steps: int) -> tuple[float, float]:
    """Mean seconds of a step and, of these, waiting for its batch."""
    waited = []
    last = trainer.step_number + WARM_UP_STEPS + steps
    with prefetched(sampler.batches, trainer, last) as batches:
        for number in range(WARM_UP_STEPS + steps):
            if number == WARM_UP_STEPS:
                finish(trainer.device)
                started = time.perf_counter()
            asked = time.perf_counter()
            batch = next(batches)
            waited.append(time.perf_counter() - asked)
            trainer.step(batch)
            if trainer.step_number % LOOK_EVERY == 0:
                trainer.read()
        finish(trainer.device)
        seconds = (time.perf_counter() - started) / steps
    return seconds, sum(waited[WARM_UP_STEPS:]) / steps


def measure_validation(trainer: Trainer, precision: str, images: int) -> float:
    """Seconds of a validation on FSC-147, projected from some images."""
    photos = [
        dataclasses.replace(photo, truths=dict.fromkeys(photo.points_px, DOTS))
        for photo in noise_photos(images, VALIDATION_CLASSES)
    ]
    samples = [
        Sample(photo.name, photo.path, prompt, points)
        for photo in photos
        for prompt, points in photo.points_px.items()
    ]
    checked_s, plain_s = (
        _seconds_of(validation_of(samples, photos, precision, checked_images=checked), trainer)
        for checked in (images, 1)
    )
    plain = VALIDATION_IMAGES - CHECKED_IMAGES
    return (CHECKED_IMAGES * checked_s + plain * plain_s) / images


def _seconds_of(validate: Validate, trainer: Trainer) -> float:
    with trainer.averaged() as model:
        validate(model)
        finish(trainer.device)
        started = time.perf_counter()
        validate(model)
        finish(trainer.device)
    return time.perf_counter() - started
