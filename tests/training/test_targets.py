"""Dots -> density: equal to scipy's Gaussian, and to the authors' recorded map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from clipcount_cli.config import DENSITY_SCALE
from clipcount_cli.training.targets import density_target, density_targets, window_targets

GOLDEN = Path(__file__).parents[1] / "golden" / "loss_input.npz"
PIXELS = st.lists(st.tuples(st.integers(0, 47), st.integers(0, 47)), max_size=20)


def recorded_dots() -> list[torch.Tensor]:
    """The dots (K, 2) as (x, y) of the three recorded windows."""
    dots = np.load(GOLDEN)["dots"]
    return [torch.from_numpy(np.argwhere(window)[:, ::-1].copy()) for window in dots]


def test_recorded_target_map_is_met():
    target = density_target(recorded_dots()[2], side_px=384)

    pooled = target.reshape(48, 8, 48, 8).sum(dim=(1, 3)).numpy()
    np.testing.assert_allclose(pooled, np.load(GOLDEN)["density"], atol=1e-4)


@settings(deadline=None)
@given(pixels=PIXELS, sigma_px=st.sampled_from([0.7, 1.0, 4.0]))
def test_target_equals_scipys_gaussian_of_the_dotted_pixels(pixels, sigma_px):
    image = np.zeros((48, 48))
    for x, y in pixels:
        image[y, x] = 1
    expected = gaussian_filter(image, sigma_px, truncate=4, mode="reflect") * DENSITY_SCALE

    target = density_target(torch.tensor(pixels).reshape(-1, 2), 48, sigma_px)

    np.testing.assert_allclose(target.numpy(), expected, atol=1e-4)


@settings(deadline=None)
@given(pixels=PIXELS)
def test_sum_is_the_number_of_dots_wherever_they_stand(pixels):
    target = density_target(torch.tensor(pixels).reshape(-1, 2), 48, sigma_px=4.0, once=False)

    assert abs(float(target.sum()) / DENSITY_SCALE - len(pixels)) < 1e-3


def test_two_dots_in_one_pixel_count_once_as_the_authors_count_and_twice_where_asked():
    twice = torch.tensor([[5.2, 7.9], [5.7, 7.1]])

    assert round(float(density_target(twice, 32).sum()) / DENSITY_SCALE) == 1
    assert round(float(density_target(twice, 32, once=False).sum()) / DENSITY_SCALE) == 2


def test_dots_outside_the_window_are_left_out():
    outside = torch.tensor([[-0.5, 3.0], [3.0, 32.0], [40.0, 3.0]])

    assert density_targets([outside], 32).abs().sum() == 0


def test_a_lone_dot_of_the_default_recipe_is_within_a_sigmoids_reach():
    dot = torch.tensor([[100, 100]])

    assert density_target(dot, 384, sigma_px=4.0).max() < 1
    assert density_target(dot, 384, sigma_px=1.0).max() > 9  # of the paper's recipe is not


def test_a_target_at_half_the_side_is_as_high_and_lies_where_the_whole_one_does():
    dots = torch.tensor([[100.0, 60.0], [300.0, 310.0], [310.0, 300.0]])

    whole = window_targets([dots], 384, sigma_px=6.0)[0]
    half = window_targets([dots], 192, sigma_px=6.0)[0]

    assert torch.equal(whole, density_target(dots, 384, sigma_px=6.0))
    assert float(half.sum()) * 4 == pytest.approx(float(whole.sum()), rel=1e-4)
    assert float(half.max()) == pytest.approx(float(whole.max()), rel=0.02)
    assert half.argmax() // 192 == pytest.approx(whole.argmax() // 384 / 2, abs=1)
