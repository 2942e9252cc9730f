from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcount_cli.config import DENSITY_SCALE
from clipcount_cli.counting.heatmap import overlay, panels, similarity_panels

RNG = np.random.default_rng(5)


def photograph(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def result(density: np.ndarray, prompt: str = "coins") -> SimpleNamespace:
    """A CountResult, from density as the network gives it."""
    scaled = (density / DENSITY_SCALE).astype(np.float32)
    return SimpleNamespace(prompt=prompt, count=float(scaled.sum()), density=scaled)


def contains(page: np.ndarray, photo: np.ndarray) -> bool:
    height, width = photo.shape[:2]
    return any(
        np.array_equal(page[y : y + height, x : x + width], photo)
        for y in range(page.shape[0] - height + 1)
        for x in range(page.shape[1] - width + 1)
        if np.array_equal(page[y, x], photo[0, 0])
    )


def test_no_density_leaves_the_photograph_as_it_is():
    photo = photograph(40, 60)

    assert np.array_equal(overlay(photo, np.zeros((20, 30), np.float32)), photo)


def test_a_faint_density_stays_faint_however_small_its_maximum():
    photo = photograph(40, 60)
    faint = np.zeros((40, 60), np.float32)
    faint[20, 30] = 0.001

    assert np.abs(overlay(photo, faint).astype(int) - photo).max() <= 16


def test_more_density_hides_more_of_the_photograph():
    photo = np.full((10, 256, 3), 255, np.uint8)
    ramp = np.tile(np.linspace(0, 0.05, 256, dtype=np.float32), (10, 1))

    red = overlay(photo, ramp)[5, :, 0].astype(int)

    assert red[0] == 255
    assert (np.diff(red) <= 1).all()
    assert red[-1] < 150


def test_each_density_has_one_colour_whatever_else_the_map_holds():
    photo = np.full((8, 8, 3), 100, np.uint8)
    alone, beside = np.full((8, 8), 0.5, np.float32), np.full((8, 8), 0.5, np.float32)
    beside[0, 0] = 1.0

    assert np.array_equal(overlay(photo, alone)[7, 7], overlay(photo, beside)[7, 7])


def test_density_lands_where_it_belongs_in_a_larger_photograph():
    photo = np.zeros((80, 160, 3), np.uint8)
    density = np.zeros((8, 16), np.float32)
    density[2, 12] = 1

    changed = np.argwhere(overlay(photo, density).any(axis=-1))

    assert changed.mean(axis=0) == pytest.approx((24.5, 124.5), abs=1)


def test_what_is_no_number_or_out_of_range_is_drawn_all_the_same():
    photo = photograph(2, 2)
    density = np.array([[np.nan, -1], [0, 7]], np.float32)

    shown = overlay(photo, density)

    assert np.array_equal(shown[0], photo[0])
    assert not np.array_equal(shown[1, 1], photo[1, 1])


def test_a_panel_for_an_absent_object_shows_the_photograph_whole():
    photo = photograph(384, 400)

    page = panels(photo, [result(np.zeros((384, 400)))])

    assert contains(page, photo)
    assert page.dtype == np.uint8


def test_every_prompt_gets_a_panel_of_at_least_the_photographs_size():
    photo = photograph(390, 500)
    one = panels(photo, [result(np.zeros((384, 492)))])

    three = panels(photo, [result(np.zeros((384, 492)), name) for name in ("a", "b", "c")])

    assert one.shape[0] >= 390 + 30
    assert one.shape[1] == 500
    assert three.shape[0] * three.shape[1] >= 3 * one.shape[0] * one.shape[1]


def test_count_prompt_and_scale_are_written_in_light_on_dark():
    photo = np.zeros((400, 500, 3), np.uint8)

    page = panels(photo, [result(np.zeros((384, 480)))])
    nameless = panels(photo, [result(np.zeros((384, 480)), "")])

    header, footer = page[:40], page[-40:]
    assert (header > 240).any()
    assert (footer > 150).any()
    assert (page[0, 0] < 40).all()
    assert not np.array_equal(page[:40], nameless[:40])


def test_letters_grow_with_the_photograph():
    small = panels(photograph(384, 500), [result(np.zeros((384, 500)))])
    large = panels(photograph(1152, 1500), [result(np.zeros((384, 500)))])

    assert large.shape[0] - 1152 > 2 * (small.shape[0] - 384)


def test_a_long_prompt_wraps_and_ends():
    words = panels(photograph(384, 400), [result(np.zeros((384, 400)), "ripe apples " * 9)])
    endless = panels(photograph(384, 400), [result(np.zeros((384, 400)), "apple" * 4000)])
    short = panels(photograph(384, 400), [result(np.zeros((384, 400)), "apples")])

    assert short.shape[0] < words.shape[0] <= endless.shape[0] < short.shape[0] + 384
    assert words.shape[1] == endless.shape[1] == 400


@given(prompt=st.text(max_size=40))
@settings(max_examples=25, deadline=None)
def test_any_prompt_can_be_written(prompt):
    page = panels(np.zeros((40, 40, 3), np.uint8), [result(np.zeros((40, 40)), prompt)])

    assert page.ndim == 3


def test_a_prompt_with_undecodable_bytes_can_be_written():
    assert panels(photograph(40, 40), [result(np.zeros((40, 40)), "pomme\udce9s")]).any()


@pytest.mark.parametrize(
    ("photo_shape", "density_shape"),
    [((1, 1), (384, 384)), ((2, 100), (24, 1200)), ((100, 2), (1200, 24)), ((60, 90), (384, 576))],
)
def test_a_tiny_photograph_is_enlarged_until_its_density_can_be_seen(photo_shape, density_shape):
    density = np.zeros(density_shape)
    density[density_shape[0] // 2, density_shape[1] // 2] = 1

    page = panels(photograph(*photo_shape), [result(density)])

    assert page.shape[0] >= density_shape[0]
    assert page.shape[1] >= max(density_shape[1], 360)


def test_similarity_below_zero_draws_nothing():
    photo = photograph(384, 400)

    page = similarity_panels(
        photo, [result(np.ones((384, 400)))], [np.full((384, 400), -0.5, np.float32)]
    )

    assert contains(page, photo)
