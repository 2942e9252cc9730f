"""Training on a pretend GPU: how rarely the host waits, and what happens to a broken loss."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pretend_gradients
import pytest
import torch
from pretend_cuda import needs_pretend_cuda, pretend_cuda
from small_models import SMALL, small_model

from clipcount_cli.config import PAPER, RECIPES, ModelConfig, Recipe, TrainConfig
from clipcount_cli.counting.counter import Counter
from clipcount_cli.data.samples import Sample
from clipcount_cli.errors import TrainingError
from clipcount_cli.training.photos import TrainingImage
from clipcount_cli.training.plans import PlanImage, Planner, drawn_ahead
from clipcount_cli.training.prefetch import prefetched
from clipcount_cli.training.sampler import Sampler
from clipcount_cli.training.start import choose_trained, model_config
from clipcount_cli.training.step import Trainer
from clipcount_cli.training.validation import validation_of

pytestmark = needs_pretend_cuda

CUDA = torch.device("cuda:0")
STEPS = 10


def images(number=12):
    rng = np.random.default_rng(0)
    return [
        TrainingImage(
            str(n),
            Path(str(n)),
            rng.integers(0, 256, (384, 500, 3)).astype(np.uint8),
            {f"class {n % 3}": rng.uniform(0, 384, (20, 2)).astype(np.float32)},
        )
        for n in range(number)
    ]


@pytest.mark.parametrize("recipe", [Recipe.paper, Recipe.default])
def test_a_batch_of_32_takes_150_launches_and_no_synchronisation(recipe):
    config = dataclasses.replace(RECIPES[recipe], batch=32)

    with pretend_cuda() as seen:
        sampler = Sampler(images(), config, SMALL, CUDA)
        sampler.batch(0)  # the table of spread dots is uploaded once
        seen.clear()
        batch = sampler.batch(1)

    assert batch.windows.device == CUDA
    assert seen.syncs_of() == 0, seen.syncs
    assert seen.launches_of() <= 150


def make_trainer(
    config: TrainConfig, precision: str, base: ModelConfig = SMALL
) -> tuple[Trainer, Sampler]:
    model = small_model(model_config(base, config)).to(CUDA)
    choose_trained(model, config)
    sampler = Sampler(images(), config, model.config, CUDA)
    return Trainer(model, config, sampler.plan, precision), sampler


def set_gradients(monkeypatch, trainer, values=()):
    """Stand in for autograd, which has no thread for a device that is not there."""
    values = itertools.chain(values, itertools.repeat(1e-3))

    def backward(loss):
        value = next(values)
        for parameter in trainer.trained.values():
            parameter.grad = torch.full_like(parameter, value)

    monkeypatch.setattr(torch.autograd, "backward", backward)


def test_gradients_on_the_pretend_device_are_those_of_autograd(monkeypatch):
    config = dataclasses.replace(RECIPES[Recipe.default], batch=2, target_side_px=48, dropout=0.0)

    with pretend_cuda():
        trainer, sampler = make_trainer(config, "fp32")
        batch = sampler.batch(0)
        monkeypatch.setattr(torch.autograd, "backward", pretend_gradients.backward)
        trainer.step(batch)
        walked = {name: value.grad.cpu() for name, value in trainer.trained.items()}
    monkeypatch.undo()
    model = small_model(trainer.model.config)
    choose_trained(model, config)
    on_cpu = Trainer(model, config, trainer.plan)
    on_cpu.step(batch.to(torch.device("cpu")))

    for name, value in on_cpu.trained.items():
        torch.testing.assert_close(walked[name], value.grad, msg=name)


@pytest.mark.parametrize(("contrast_epochs", "launches"), [(0, 980), (30, 700)])
def test_a_step_of_the_paper_launches_no_more_than_it_did(monkeypatch, contrast_epochs, launches):
    clip = dataclasses.replace(SMALL.clip, image_layers=4, text_layers=3)
    config = dataclasses.replace(
        PAPER, batch=2, contrast_epochs=contrast_epochs, prompted_layers=3, target_side_px=48
    )
    monkeypatch.setattr(torch.autograd, "backward", pretend_gradients.backward)

    with pretend_cuda() as seen:
        trainer, sampler = make_trainer(config, "bf16", dataclasses.replace(SMALL, clip=clip))
        batch = sampler.batch(0)
        trainer.step(batch)  # constants are uploaded once
        seen.clear()
        trainer.step(batch)

    assert seen.syncs_of() == 0, seen.syncs
    assert seen.launches_of() <= launches  # 948 and 676, of which rounding frozen weights is none


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_host_waits_once_in_ten_steps(monkeypatch, precision):
    config = dataclasses.replace(RECIPES[Recipe.default], batch=2, epochs=100, target_side_px=48)

    with pretend_cuda() as seen:
        trainer, sampler = make_trainer(config, precision)
        set_gradients(monkeypatch, trainer)
        with prefetched(sampler.batches, trainer, 1 + STEPS) as batches:
            trainer.step(next(batches))  # constants are uploaded once
            trainer.read()
            seen.clear()
            for batch in itertools.islice(batches, STEPS):
                trainer.step(batch)
            told = trainer.read()

    assert len(told) == STEPS
    assert all(math.isfinite(losses["loss"]) and images == 2 for losses, images in told)
    assert seen.syncs_of("Main") == 1, seen.syncs
    assert seen.syncs_of("prefetch") == 0, seen.syncs


def test_no_step_changes_the_weights_once_a_gradient_is_not_finite(monkeypatch):
    config = dataclasses.replace(RECIPES[Recipe.default], batch=2, epochs=100, grad_clip=0.0)

    with pretend_cuda():
        trainer, sampler = make_trainer(config, "fp32")
        set_gradients(monkeypatch, trainer, [1e-3, 1e-3, math.nan])
        batch = sampler.batch(0)
        trainer.step(batch)
        trainer.step(batch)
        before = {name: value.detach().cpu() for name, value in trainer.trained.items()}
        average = {name: value.cpu() for name, value in trainer.average.items()}
        trainer.step(batch)
        assert bool(trainer._poison.isnan())
        with pytest.raises(TrainingError, match=r"gradient is not a finite number.*batch 3 of"):
            trainer.read()

        assert trainer.step_number == 2
        for name, value in trainer.trained.items():
            assert torch.equal(value.detach().cpu(), before[name]), name
            assert torch.equal(trainer.average[name].cpu(), average[name]), name


def test_worker_processes_draw_what_the_first_process_would():
    config = dataclasses.replace(RECIPES[Recipe.default], batch=4)
    planner = Planner(
        [PlanImage(n, (384, 500), i.points_px) for n, i in enumerate(images())], config
    )

    drawn = drawn_ahead(planner, 3, processes=1)
    elsewhere = [next(drawn), next(drawn)]
    drawn.close()

    for here, there in zip([planner.windows(3), planner.windows(4)], elsewhere, strict=True):
        assert [w.images for w in here] == [w.images for w in there]
        for window, other in zip(here, there, strict=True):
            assert window.points_px.keys() == other.points_px.keys()
            for view, same in zip(window.plan.views, other.plan.views, strict=True):
                assert np.array_equal(view.matrix, same.matrix)


def test_validation_decodes_prompts_and_windows_in_full_batches(monkeypatch):
    shown = [dataclasses.replace(i, truths=dict.fromkeys(i.points_px, 20)) for i in images()]
    samples = [
        Sample(image.name, image.path, prompt, points)
        for image in shown
        for prompt, points in image.points_px.items()
    ]
    rows: dict[str, list[int]] = {"encoded": [], "decoded": []}
    encode, decode = Counter.encode_windows, Counter.densities

    def encode_windows(self, windows):
        rows["encoded"].append(len(windows))
        return encode(self, windows)

    def densities(self, features, text):
        rows["decoded"].append(len(text))
        return decode(self, features, text)

    validate = validation_of(samples, shown, "fp32")
    on_cpu = validate(small_model(SMALL).eval())
    monkeypatch.setattr(Counter, "encode_windows", encode_windows)
    monkeypatch.setattr(Counter, "densities", densities)

    with pretend_cuda() as seen:
        model = small_model(SMALL).eval().to(CUDA)
        seen.clear()
        on_gpu = validate(model)

    # 12 images of 3 windows, each for its own prompt and two absent ones
    assert rows == {"encoded": [64], "decoded": [64, 64]}
    assert seen.syncs_of() == 2, seen.syncs
    assert on_gpu == pytest.approx(on_cpu, rel=1e-5)
