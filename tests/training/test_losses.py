"""The losses: the authors' recorded values, and what each one is there for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from clipcount_cli.training.losses import (
    count_loss,
    density_loss,
    negative_text_loss,
    occupied_patches,
    patch_text_loss,
)
from clipcount_cli.training.targets import density_targets

GOLDEN = Path(__file__).parents[1] / "golden" / "loss_input.npz"


@pytest.mark.parametrize(("normalize", "recorded"), [(False, 7.390713), (True, 5.908325)])
def test_recorded_patch_text_loss_is_met(normalize, recorded):
    golden = np.load(GOLDEN)
    dots = [torch.from_numpy(np.argwhere(d)[:, ::-1].copy()) for d in golden["dots"]]
    occupied = occupied_patches(density_targets(dots, 384), grid_side=14)
    patches, text = (torch.from_numpy(golden[name]).float() for name in ("patch", "text"))

    loss = patch_text_loss(patches, text[:, 0], occupied, normalize=normalize).mean()

    assert float(loss) == pytest.approx(recorded, rel=1e-4)


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="tau"):
        patch_text_loss(torch.ones(1, 4, 2), torch.ones(1, 2), torch.ones(1, 4).bool(), tau=0)


def test_cross_entropy_is_least_at_the_target_and_pulls_a_saturated_answer_back():
    target = torch.full((1, 4, 4), 0.3)
    logits = torch.tensor([-60.0, math.log(0.3 / 0.7), 4.0], requires_grad=True)
    answers = torch.sigmoid(logits)[:, None, None].expand(3, 4, 4)

    losses = density_loss(answers, target.expand(3, 4, 4), measure="bce")
    losses.sum().backward()

    assert losses.argmin() == 1
    torch.testing.assert_close(logits.grad, torch.sigmoid(logits) - 0.3, atol=1e-4, rtol=1e-3)


def test_density_loss_looks_only_at_kept_pixels():
    predicted, target = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    predicted[0, 0, 0] = 1.0
    kept = torch.ones(1, 4, 4, dtype=torch.bool)
    kept[0, 0, 0] = False

    assert density_loss(predicted, target, kept) == 0
    assert density_loss(predicted, target) == 1 / 16


def test_count_loss_is_the_same_at_every_resolution_of_the_density():
    target = torch.zeros(1, 96, 96)
    predicted = torch.rand(1, 96, 96, generator=torch.Generator().manual_seed(0))
    finer = predicted.repeat_interleave(4, 1).repeat_interleave(4, 2)

    coarse_loss = count_loss(predicted, target)

    assert float(count_loss(finer, torch.zeros_like(finer))) == pytest.approx(
        float(coarse_loss), 1e-5
    )


def test_a_patch_learns_to_prefer_its_own_prompt_to_an_absent_one_of_its_photograph():
    patches = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).expand(2, -1, -1)
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    occupied = torch.tensor([[True, False], [False, False]])  # the second prompt names nothing

    together = negative_text_loss(patches, text, occupied, torch.tensor([0, 0]))
    swapped = negative_text_loss(patches, text.flip(0), occupied, torch.tensor([0, 0]))

    assert together[0] < 1e-5 < swapped[0]
    assert together[1] == 0


def test_prompts_of_other_photographs_and_of_the_same_objects_are_no_negatives():
    patches = torch.rand(2, 4, 8, generator=torch.Generator().manual_seed(0))
    text = torch.rand(2, 8, generator=torch.Generator().manual_seed(1))
    everywhere = torch.ones(2, 4, dtype=torch.bool)

    apart = negative_text_loss(patches, text, everywhere, torch.tensor([0, 1]))
    same_objects = negative_text_loss(patches, text, everywhere, torch.tensor([0, 0]))

    assert apart.abs().max() < 1e-6
    assert same_objects.abs().max() < 1e-6
