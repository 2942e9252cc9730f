"""One step of training: its learning rate, clipped gradients, averaged weights, half precision."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import SMALL, small_model

from clipcount_cli.config import PAPER, TrainConfig
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.counting.prompts import tokenize
from clipcount_cli.errors import TrainingError
from clipcount_cli.training.frozen import FrozenWeights
from clipcount_cli.training.losses import negative_text_loss
from clipcount_cli.training.start import choose_trained
from clipcount_cli.training.step import Batch, StepPlan, Trainer, learning_rate
from clipcount_cli.training.targets import window_targets

PLAN = StepPlan(steps_per_epoch=2, epochs=4)
PLAIN = TrainConfig(warmup_fraction=0.0, target_side_px=48, sigma_px=4.0)


@pytest.fixture
def batch() -> Batch:
    """Two windows of noise, each with a prompt that is there and one that is not."""
    generator = torch.Generator().manual_seed(0)
    dots = [torch.tensor([[90.0, 100.0], [200.0, 250.0]]), torch.zeros(0, 2)] * 2
    return Batch(
        windows=torch.randint(0, 256, (2, 3, 96, 96), generator=generator, dtype=torch.uint8),
        image_of=torch.tensor([0, 0, 1, 1]),
        prompt_of=torch.tensor([0, 1, 0, 1]),
        tokens=tokenize(["red dots", "blue dots"], SMALL),
        target=torch.cat([window_targets([d], 48, PLAIN.sigma_px, once=False) for d in dots]),
        names=("a.png", "b.png"),
    )


def trainer_of(precision: str = "fp32", **changes: object) -> Trainer:
    return Trainer(small_model(), dataclasses.replace(PLAIN, **changes), PLAN, precision)


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


@given(
    steps_per_epoch=st.integers(1, 7),
    epochs=st.integers(1, 12),
    step_epochs=st.integers(1, 12),
    factor=st.floats(0.01, 1.0),
)
def test_rate_of_schedule_step_is_that_of_torchs_step_lr(
    steps_per_epoch, epochs, step_epochs, factor
):
    plan = StepPlan(steps_per_epoch, epochs)
    config = dataclasses.replace(PAPER, step_epochs=step_epochs, step_factor=factor)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], config.learning_rate)
    oracle = torch.optim.lr_scheduler.StepLR(optimizer, step_epochs, factor)

    for step in range(plan.steps):
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate(config, plan, step) == pytest.approx(expected)
        optimizer.step()
        if (step + 1) % steps_per_epoch == 0:
            oracle.step()


def test_the_paper_lowers_its_rate_after_100_and_200_epochs():
    plan = StepPlan(115, PAPER.epochs)

    rates = [learning_rate(PAPER, plan, epoch * 115) for epoch in (0, 99, 100, 199, 200, 229)]

    assert rates == pytest.approx([1e-4, 1e-4, 0.33e-4, 0.33e-4, 0.1089e-4, 0.1089e-4])


def test_default_rate_rises_to_its_peak_and_falls_to_nothing():
    config, plan = TrainConfig(warmup_fraction=0.1), StepPlan(10, 10)

    rates = [learning_rate(config, plan, step) for step in range(plan.steps)]

    peak = rates.index(max(rates))
    assert peak == 10
    assert rates[peak] == pytest.approx(config.learning_rate)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 1e-3 * config.learning_rate


def test_the_rate_of_a_step_is_what_the_optimizer_has(batch):
    trainer = trainer_of(schedule="step", step_epochs=1, step_factor=0.5)
    used = []
    for _ in range(3):
        trainer.step(batch)
        used.append(trainer.optimizer.param_groups[0]["lr"])

    assert used == pytest.approx([1e-4, 1e-4, 0.5e-4])


def gradient_norm(trainer: Trainer) -> float:
    gradients = [p.grad.flatten() for p in trainer.trained.values() if p.grad is not None]
    return float(torch.cat(gradients).norm())


def test_longer_gradients_are_shortened_to_the_limit(batch):
    free, limited = trainer_of(grad_clip=0.0), trainer_of(grad_clip=1e-3)
    for trainer in (free, limited):
        trainer.step(batch)

    assert gradient_norm(free) > 1e-2
    assert gradient_norm(limited) == pytest.approx(1e-3, rel=1e-3)


def test_shorter_gradients_are_left_as_they_are(batch):
    free, limited = trainer_of(grad_clip=0.0), trainer_of(grad_clip=1e6)
    for trainer in (free, limited):
        trainer.step(batch)

    assert gradient_norm(limited) == gradient_norm(free)


def test_average_follows_the_weights_by_its_decay(batch):
    trainer = trainer_of(ema_decay=0.9, learning_rate=0.01)
    name = next(iter(trainer.trained))
    expected = trainer.trained[name].detach().clone()
    for step in range(3):
        trainer.step(batch)
        decay = min(0.9, (1 + step) / (10 + step))  # young averages forget faster
        expected = decay * expected + (1 - decay) * trainer.trained[name].detach()

    with trainer.averaged() as model:
        assert torch.allclose(dict(model.named_parameters())[name], expected, atol=1e-6)
        assert not model.training
    assert not torch.allclose(trainer.trained[name], expected, atol=1e-6)


def test_without_an_average_the_last_weights_are_saved(batch):
    trainer = trainer_of(ema_decay=0.0)
    trainer.step(batch)
    last = weights_of(trainer)

    with trainer.averaged() as model:
        assert all(torch.equal(last[name], t) for name, t in model.state_dict().items())


def test_bf16_multiplies_in_half_precision_and_learns_in_full(batch, monkeypatch):
    dtypes, plain = [], ClipCount.encode_image

    def encode_image(model, windows):
        features = plain(model, windows)
        dtypes.append(features.contrast.dtype)
        return features

    monkeypatch.setattr(ClipCount, "encode_image", encode_image)
    exact, half = trainer_of(), trainer_of("bf16")
    for trainer in (exact, half):
        trainer.step(batch)
    (full_losses, _), (half_losses, _) = *exact.read(), *half.read()

    assert dtypes == [torch.float32, torch.bfloat16]
    assert half_losses == pytest.approx(full_losses, rel=0.05)
    assert {p.dtype for p in half.trained.values()} == {torch.float32}
    assert not half.scaler.is_enabled()


def partly_frozen(precision: str = "bf16") -> Trainer:
    model = small_model()
    choose_trained(model, PLAIN)
    return Trainer(model, PLAIN, PLAN, precision)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_frozen_weights_rounded_once_teach_what_autocast_would(batch, monkeypatch, precision):
    ours, plain = partly_frozen(precision), partly_frozen(precision)
    for _ in range(2):
        ours.step(batch)
    monkeypatch.setattr(FrozenWeights, "rounded", lambda frozen: contextlib.nullcontext())
    for _ in range(2):
        plain.step(batch)

    assert ours.read() == plain.read()
    for name, expected in weights_of(plain).items():
        assert torch.equal(weights_of(ours)[name], expected), name


@pytest.mark.parametrize("broken", [False, True])
def test_frozen_weights_are_rounded_within_a_step_only(batch, monkeypatch, broken):
    trainer, seen = partly_frozen(), {}
    before = {name: (p, p.detach().clone()) for name, p in trainer.model.named_parameters()}

    def losses(trainer, batch):
        seen.update({name: p.dtype for name, p in trainer.model.named_parameters()})
        if broken:
            raise TrainingError("stopped")
        return computed(trainer, batch)

    computed = Trainer._losses
    monkeypatch.setattr(Trainer, "_losses", losses)
    with pytest.raises(TrainingError) if broken else contextlib.nullcontext():
        trainer.step(batch)

    rounded = {name for name, dtype in seen.items() if dtype == torch.bfloat16}
    assert "clip.visual.transformer.resblocks.0.attn.in_proj_weight" in rounded
    assert not rounded & trainer.trained.keys()
    assert not any(part in name for name in rounded for part in ("ln_", "embedding"))
    for name, parameter in trainer.model.named_parameters():
        assert parameter is before[name][0]
        if name not in trainer.trained:
            assert torch.equal(parameter, before[name][1])


def test_fp16_leaves_out_a_step_that_overflows_and_scales_less(batch):
    trainer = trainer_of("fp16", ema_decay=0.0)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    before = weights_of(trainer)

    trainer.step(batch)

    assert trainer.scaler.get_scale() < 2.0**120
    assert all(torch.equal(before[name], tensor) for name, tensor in weights_of(trainer).items())


def test_fp16_learns_once_its_gradients_fit(batch):
    trainer = trainer_of("fp16")
    assert trainer.scaler.is_enabled()
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    before = weights_of(trainer)

    trainer.step(batch)
    ((losses, _),) = trainer.read()

    assert all(value == value for value in losses.values())
    assert any(not torch.equal(before[name], t) for name, t in weights_of(trainer).items())


@pytest.mark.parametrize("device_type", ["cpu"])
def test_contrast_with_other_prompts_is_computed_in_full_precision_under_autocast(device_type):
    generator = torch.Generator().manual_seed(0)
    patches, text = torch.randn(2, 9, 16, generator=generator), torch.randn(2, 16)
    occupied, image_of = torch.ones(2, 9, dtype=torch.bool), torch.zeros(2, dtype=torch.long)
    occupied[1, 3:] = False
    exact = negative_text_loss(patches, text, occupied, image_of)

    with torch.autocast(device_type, torch.bfloat16):
        under_autocast = negative_text_loss(patches, text, occupied, image_of)

    assert under_autocast.dtype == torch.float32
    assert torch.equal(under_autocast, exact)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loss_that_is_no_number_names_the_images_and_changes_no_weight(batch, precision):
    trainer = trainer_of(precision)
    trainer.step(batch)
    before, state = weights_of(trainer), trainer.state()["step"]
    poisoned = dataclasses.replace(batch, windows=torch.full((2, 3, 96, 96), torch.nan))

    with pytest.raises(TrainingError, match=r"epoch 1, batch 2 of 2: a\.png, b\.png"):
        trainer.step(poisoned)

    assert trainer.state()["step"] == state
    assert all(torch.equal(before[name], tensor) for name, tensor in weights_of(trainer).items())


def test_gradient_that_is_no_number_changes_no_weight(batch):
    trainer = trainer_of(grad_clip=0.0)
    before = weights_of(trainer)
    next(iter(trainer.trained.values())).register_hook(lambda gradient: gradient * torch.nan)

    with pytest.raises(TrainingError, match="the gradient is not a finite number"):
        trainer.step(batch)

    assert all(torch.equal(before[name], tensor) for name, tensor in weights_of(trainer).items())
