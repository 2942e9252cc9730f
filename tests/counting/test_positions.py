"""A density map becomes as many positions as it counts, where its objects are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from clipcount_cli.counting.positions import positions


def spots(points, shape=(240, 320), sigma_px=4.0):
    """One object's density around each of `points`, as the network is trained to draw it."""
    dots = np.zeros(shape, np.float32)
    for x, y in points:
        dots[int(y), int(x)] += 1
    return gaussian_filter(dots, sigma_px, mode="constant")


def test_every_spot_is_found_within_a_few_pixels():
    truth = np.stack(np.meshgrid(np.arange(25, 305, 30), np.arange(25, 225, 30)), -1)
    truth = truth.reshape(-1, 2) + np.random.default_rng(0).integers(-6, 7, (70, 2))

    found = positions(spots(truth))

    distances, nearest = cKDTree(found).query(truth)
    assert len(found) == len(truth)
    assert len(set(nearest.tolist())) == len(truth)
    assert distances.max() < 4


def test_touching_objects_stay_two():
    found = positions(spots([(100, 100), (116, 100)], sigma_px=4.0))

    assert sorted(np.round(found[:, 0] / 10).tolist()) == [10, 12]


@given(st.integers(0, 2**16), st.integers(1, 90), st.integers(1, 90), st.floats(0, 30))
@settings(deadline=None, max_examples=40)
def test_there_are_as_many_positions_as_the_rounded_count_and_all_lie_inside(
    seed, height, width, total
):
    density = np.random.default_rng(seed).random((height, width), dtype=np.float32)
    density *= np.float32(total) / density.sum()

    found = positions(density)

    assert len(found) == round(float(density.sum(dtype=np.float64)))
    assert (found >= 0).all()
    assert (found < (width, height)).all()


def test_an_empty_map_has_no_position():
    assert positions(np.zeros((50, 60), np.float32)).shape == (0, 2)


def test_one_object_of_a_faint_wide_spot_lies_at_its_middle():
    [found] = positions(spots([(150, 120)], sigma_px=12.0))

    assert found == pytest.approx((150, 120), abs=4)
