"""Pictures and dots move together, whatever is drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcount_cli.config import RECIPES, Recipe, TrainConfig
from clipcount_cli.training.augment import render
from clipcount_cli.training.views import (
    Colour,
    WindowPlan,
    changed_window,
    mosaic_window,
    plain_window,
)

SIDE_PX = 96
CPU = torch.device("cpu")
CONFIG = TrainConfig()
SIZES = st.tuples(st.integers(SIDE_PX, 250), st.integers(SIDE_PX, 250))
SEEDS = st.integers(0, 2**32)


def plan_window(kind: str, size: tuple[int, int], seed: int) -> WindowPlan:
    """A window of this kind, its colours left alone."""
    rng = np.random.default_rng(seed)
    if kind == "plain":
        return plain_window(size, SIDE_PX, rng)
    if kind == "mosaic":
        return mosaic_window((size,) * 4, SIDE_PX, rng)
    return dataclasses.replace(changed_window(size, SIDE_PX, CONFIG, rng), colour=None)


def bright_at(size: tuple[int, int], dot: tuple[int, int], radius_px: int) -> np.ndarray:
    """A black photograph, bright around one pixel."""
    x, y = dot
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[max(y - radius_px, 0) : y + radius_px + 1, max(x - radius_px, 0) : x + radius_px + 1] = (
        255
    )
    return pixels


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["plain", "changed"]),
    size=SIZES,
    seed=SEEDS,
    at=st.tuples(*[st.floats(0.1, 0.9)] * 2),
)
def test_a_dot_drawn_as_a_pixel_lands_where_the_transformed_dot_is(kind, size, seed, at):
    dot = int(at[0] * size[1]), int(at[1] * size[0])
    plan = plan_window(kind, size, seed)

    window = render([plan], [[bright_at(size, dot, 0)]], SIDE_PX, CPU)[0, 0].numpy()
    placed = plan.views[0].place(np.array([dot], np.float32))

    if len(placed) and placed.min() > 1 and placed.max() < SIDE_PX - 1:
        brightest = np.unravel_index(window.argmax(), window.shape)
        assert window.max() > 0.1  # of 1: a dot between pixels of a window that shrinks it
        assert abs(brightest[1] + 0.5 - placed[0, 0]) <= 1
        assert abs(brightest[0] + 0.5 - placed[0, 1]) <= 1
    if not len(placed):
        assert window[2:-2, 2:-2].max() < 0.6 or plan.views[0].border == "edge"


@settings(deadline=None, max_examples=40)
@given(size=SIZES, seed=SEEDS, at=st.tuples(*[st.floats(0.1, 0.9)] * 2))
def test_a_dot_in_a_mosaic_lies_on_what_it_marks(size, seed, at):
    dot = int(at[0] * size[1]), int(at[1] * size[0])
    plan = plan_window("mosaic", size, seed)

    window = render([plan], [[bright_at(size, dot, 3)] * 4], SIDE_PX, CPU)[0, 0].numpy()

    for view in plan.views:
        for x, y in view.place(np.array([dot], np.float32)):
            near_seam = min(abs(x - SIDE_PX / 2), abs(y - SIDE_PX / 2)) < plan.seam_px
            assert window[int(y), int(x)] > (0.2 if near_seam else 0.9)


def test_equal_plans_give_equal_windows_alone_and_in_company():
    size = (120, 140)
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    rng = np.random.default_rng(1)
    plans = [changed_window(size, SIDE_PX, CONFIG, rng), plain_window(size, SIDE_PX, rng)]
    plans += [mosaic_window((size,) * 4, SIDE_PX, rng), changed_window(size, SIDE_PX, CONFIG, rng)]
    photos = [[photo] * len(plan.views) for plan in plans]

    together = render(plans, photos, SIDE_PX, CPU)

    for plan, of, window in zip(plans, photos, together, strict=True):
        torch.testing.assert_close(render([plan], [of], SIDE_PX, CPU)[0], window, atol=1e-6, rtol=0)


def test_a_plain_window_is_the_photograph_itself():
    photo = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)

    window = render([plan_window("plain", (SIDE_PX, SIDE_PX), 0)], [[photo]], SIDE_PX, CPU)[0]

    np.testing.assert_array_equal((window.permute(1, 2, 0) * 255).round().numpy(), photo)


def recoloured(photo: np.ndarray, **changes: float) -> np.ndarray:
    still = Colour(1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0)
    plan = plan_window("plain", photo.shape[:2], 0)
    plan = dataclasses.replace(plan, colour=dataclasses.replace(still, **changes))
    return render([plan], [[photo]], SIDE_PX, CPU)[0].permute(1, 2, 0).numpy()


def test_no_change_of_colour_changes_nothing():
    photo = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)

    np.testing.assert_allclose(recoloured(photo), photo / 255, atol=2e-3)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"brightness": 0.5}, (0.4, 0.1, 0.1)),
        ({"saturation": 0.0}, (0.3794, 0.3794, 0.3794)),
        ({"contrast": 0.0}, (0.3794, 0.3794, 0.3794)),
    ],
)
def test_colours_change_as_their_names_say(changes, expected):
    photo = np.full((SIDE_PX, SIDE_PX, 3), (204, 51, 51), np.uint8)

    np.testing.assert_allclose(recoloured(photo, **changes)[5, 5], expected, atol=2e-3)


def test_hue_leaves_grey_alone_and_turns_red_away():
    grey = np.full((SIDE_PX, SIDE_PX, 3), 128, np.uint8)
    red = np.full((SIDE_PX, SIDE_PX, 3), (204, 51, 51), np.uint8)

    np.testing.assert_allclose(recoloured(grey, hue=0.3)[0, 0], 128 / 255, atol=2e-3)
    turned = recoloured(red, hue=1 / 3)[0, 0]
    assert turned.argmax() != 0


@settings(deadline=None, max_examples=30)
@given(size=SIZES, seed=SEEDS)
def test_the_default_recipe_never_shows_an_object_twice(size, seed):
    plan = changed_window(size, SIDE_PX, RECIPES[Recipe.default], np.random.default_rng(seed))

    assert plan.views[0].border in ("black", "edge")
