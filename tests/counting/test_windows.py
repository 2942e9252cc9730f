"""Windows cover a photograph, and their densities blend back into it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcount_cli.config import WindowConfig
from clipcount_cli.counting.windows import (
    cut_windows,
    join_densities,
    resize_shorter_side,
    window_origins,
)

SMALL = WindowConfig(side_px=12, stride_px=4)
sides_px = st.integers(min_value=12, max_value=60)


@given(height=sides_px, width=sides_px)
def test_every_pixel_lies_in_a_window(height, width):
    seen = np.zeros((height, width), dtype=bool)

    for y, x in window_origins(height, width, SMALL):
        seen[y : y + SMALL.side_px, x : x + SMALL.side_px] = True

    assert seen.all()


@given(height=sides_px, width=sides_px, seed=st.integers(0, 2**16))
@settings(deadline=None)
def test_windows_of_one_map_join_to_that_map(height, width, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    origins = window_origins(height, width, SMALL)
    densities = cut_windows(picture, origins, SMALL)[..., 0].astype(np.float32)

    joined = join_densities(densities, height, width, SMALL)

    np.testing.assert_allclose(joined, picture[..., 0], atol=1e-4)


@given(height=sides_px, width=sides_px, seed=st.integers(0, 2**16))
@settings(deadline=None)
def test_joining_never_leaves_the_range_of_the_windows(height, width, seed):
    origins = window_origins(height, width, SMALL)
    densities = np.random.default_rng(seed).random((len(origins), 12, 12), dtype=np.float32)

    joined = join_densities(iter(densities), height, width, SMALL)

    assert joined.shape == (height, width)
    assert 0 <= joined.min() <= joined.max() <= densities.max() + 1e-6


@given(long=st.integers(min_value=13, max_value=60), seed=st.integers(0, 2**16))
@settings(deadline=None)
def test_a_portrait_is_joined_as_its_landscape_would_be(long, seed):
    count = len(window_origins(12, long, SMALL))
    densities = np.random.default_rng(seed).random((count, 12, 12), dtype=np.float32)

    wide = join_densities(densities, 12, long, SMALL)
    tall = join_densities(densities.swapaxes(1, 2), long, 12, SMALL)

    np.testing.assert_array_equal(wide.T, tall)


def test_a_width_that_the_stride_divides_is_padded_by_a_whole_stride_as_upstream_does():
    origins = window_origins(384, 512, WindowConfig())

    assert [x for _, x in origins] == [0, 128, 256]


def test_a_square_is_seen_twice_along_its_width_as_upstream_does():
    assert window_origins(384, 384, WindowConfig()) == [(0, 0), (0, 128)]


@pytest.mark.parametrize(("size", "resized"), [((480, 640), (384, 512)), ((640, 480), (512, 384))])
def test_the_shorter_side_decides_the_scale(size, resized):
    pixels = resize_shorter_side(np.zeros((*size, 3), np.uint8), 384)

    assert pixels.shape[:2] == resized


def test_a_single_pixel_grows_to_a_window():
    pixels = resize_shorter_side(np.full((1, 1, 3), 7, np.uint8), 384)

    assert pixels.shape == (384, 384, 3)
    assert (pixels == 7).all()
