"""What a step sees: every photograph, what is absent too, and the same for whoever makes it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import SMALL

from clipcount_cli.config import DENSITY_SCALE, TrainConfig, WindowConfig
from clipcount_cli.training.photos import TrainingImage
from clipcount_cli.training.sampler import Sampler
from clipcount_cli.training.step import Batch

PLAIN = TrainConfig(
    batch=4, absent_prompts=0, class_mosaic_prob=0, mosaic_prob=0, augment_prob=0, mask="none"
)


def photo(number: int, *prompts: str, dots: int = 3) -> TrainingImage:
    """A window-sized photograph whose prompts each have `dots` dots."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (384, 384, 3)).astype(np.uint8)
    points = {p: rng.uniform(0, 384, (dots, 2)).astype(np.float32) for p in prompts}
    return TrainingImage(f"{number}.png", Path(f"{number}.png"), pixels, points)


def sampler_of(photos: list[TrainingImage], **changes: object) -> Sampler:
    config = dataclasses.replace(PLAIN, **changes)
    return Sampler(photos, config, SMALL, torch.device("cpu"))


def counts_of(batch: Batch) -> list[int]:
    window_px = WindowConfig.side_px**2
    return [round(float(m) * window_px / DENSITY_SCALE) for m in batch.target.mean(dim=(1, 2))]


def test_each_epoch_sees_every_photograph_and_fills_its_last_step():
    sampler = sampler_of([photo(n, "apples") for n in range(6)])

    seen = [
        name for step in range(sampler.plan.steps_per_epoch) for name in sampler.batch(step).names
    ]

    assert sampler.plan.steps_per_epoch == 2
    assert len(seen) == 8
    assert set(seen) == {f"{n}.png" for n in range(6)}


def test_prompts_of_one_photograph_share_its_window():
    batch = sampler_of([photo(0, "apples", "pears")], batch=1).batch(0)

    assert batch.windows.shape == (1, 3, 384, 384)
    assert batch.image_of.tolist() == [0, 0]
    assert counts_of(batch) == [3, 3]


def test_absent_classes_are_asked_with_an_empty_target():
    photos = [photo(0, "apples"), photo(1, "pears"), photo(2, "plums")]

    batch = sampler_of(photos, batch=3, absent_prompts=2).batch(0)

    assert sorted(counts_of(batch)) == [0] * 6 + [3] * 3
    assert len(batch.tokens) == 3


def test_what_a_longer_name_may_hide_is_never_asked_as_absent():
    photos = [photo(0, "red beads"), photo(1, "beads"), photo(2, "blue beads")]

    batch = sampler_of(photos, batch=3, absent_prompts=2).batch(0)

    assert sorted(counts_of(batch)) == [0, 0, 3, 3, 3]  # only red and blue beads exclude each other


def test_a_mosaic_of_classes_is_asked_for_each_of_them():
    photos = [photo(n, ("apples", "pears")[n % 2], dots=200) for n in range(8)]

    batch = sampler_of(photos, class_mosaic_prob=1.0).batch(0)

    for window in range(4):
        asked = (batch.image_of == window).nonzero()[:, 0].tolist()
        there = [counts_of(batch)[question] for question in asked]
        assert len(asked) == 2
        assert all(count > 0 for count in there)


def test_processes_share_a_batch_without_overlap(monkeypatch):
    photos = [photo(n, "apples", "pears") for n in range(4)]
    sampler = sampler_of(photos, class_mosaic_prob=0.5, augment_prob=0.5, mask="pixel")
    whole = sampler.batch(3)

    monkeypatch.setenv("WORLD_SIZE", "2")
    halves = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        halves.append(sampler.batch(3))

    windows = torch.cat([half.windows for half in halves])
    torch.testing.assert_close(windows, whole.windows, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat([half.target for half in halves]), whole.target)
    assert torch.equal(torch.cat([half.kept for half in halves]), whole.kept)


@pytest.mark.parametrize("mask", ["pixel", "loss", "none"])
def test_only_the_mask_per_pixel_leaves_pixels_out(mask):
    kept = sampler_of([photo(0, "apples")], batch=1, mask=mask).batch(0).kept

    assert (kept is not None) == (mask == "pixel")
    if kept is not None:
        assert 0.78 < float(kept.float().mean()) < 0.82
