"""Regions share a density among them: what is inside, and nothing twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcount_cli.counting.regions import Box, Boxes, Labels
from clipcount_cli.errors import UsageError

sides_px = st.integers(1, 40)
seeds = st.integers(0, 2**16)


def density_of(height, width, seed=0):
    return np.random.default_rng(seed).random((height, width), dtype=np.float32)


@given(sides_px, sides_px, sides_px, sides_px, seeds)
@settings(deadline=None, max_examples=50)
def test_labels_that_part_an_image_add_up_to_the_whole(height, width, map_height, map_width, seed):
    index = np.random.default_rng(seed).integers(1, 5, (height, width), dtype=np.uint8)
    density = density_of(map_height, map_width, seed)

    counts = Labels(("1", "2", "3", "4"), index).counts(density)

    assert sum(counts) == pytest.approx(density.sum(dtype=np.float64), rel=1e-5)


@given(sides_px, sides_px, sides_px, sides_px, st.data(), seeds)
@settings(deadline=None, max_examples=50)
def test_boxes_that_part_an_image_add_up_to_the_whole(
    height, width, map_height, map_width, data, seed
):
    x, y = data.draw(st.floats(0.1, width - 0.1)), data.draw(st.floats(0.1, height - 0.1))
    quarters = [
        Box(0, 0, x, y),
        Box(x, 0, width - x, y),
        Box(0, y, x, height - y),
        Box(x, y, width - x, height - y),
    ]
    density = density_of(map_height, map_width, seed)

    counts = Boxes(tuple(quarters), width, height).counts(density)

    assert sum(counts) == pytest.approx(density.sum(dtype=np.float64), rel=1e-6)


@given(sides_px, sides_px, sides_px, sides_px, seeds)
@settings(deadline=None, max_examples=50)
def test_the_density_inside_a_label_sums_to_its_count(height, width, map_height, map_width, seed):
    index = np.random.default_rng(seed).integers(0, 2, (height, width), dtype=np.uint8)
    density = density_of(map_height, map_width, seed)
    labels = Labels(("1",), index)

    [count] = labels.counts(density)

    assert labels.inside(density).sum(dtype=np.float64) == pytest.approx(count, rel=1e-4, abs=1e-5)


def test_a_rectangle_and_a_mask_of_it_hold_the_same():
    density = density_of(12, 16)
    index = np.zeros((60, 80), np.uint8)
    index[10:30, 20:60] = 1

    [drawn] = Labels(("1",), index).counts(density)
    [given] = Boxes((Box(20, 10, 40, 20),), 80, 60).counts(density)

    assert given == pytest.approx(density[2:6, 4:12].sum(), rel=1e-6)
    assert drawn == pytest.approx(given, rel=1e-6)


def test_a_border_within_a_cell_takes_its_share_of_it():
    density = np.ones((1, 4), np.float32)

    [count] = Boxes((Box(0, 0, 25, 100),), 200, 100).counts(density)

    assert count == pytest.approx(0.5)


def test_overlapping_boxes_each_count_what_they_hold_but_show_it_once():
    density = density_of(10, 10)
    boxes = Boxes((Box(0, 0, 6, 10), Box(4, 0, 6, 10)), 10, 10)

    left, right = boxes.counts(density)

    assert left + right > density.sum(dtype=np.float64)
    np.testing.assert_allclose(boxes.inside(density), density, rtol=1e-6)


def test_what_lies_in_no_region_is_neither_counted_nor_shown():
    density = density_of(8, 8)
    index = np.zeros((8, 8), np.uint8)
    index[2:4, 2:4] = 1

    inside = Labels(("1",), index).inside(density)

    assert inside[2:4, 2:4].sum() == pytest.approx(density[2:4, 2:4].sum())
    assert inside.sum() == pytest.approx(inside[2:4, 2:4].sum())


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "0,0,0,9", "0,0,9,0", "-1,0,9,9", "0,0,nan,9",
             "0,0,inf,9"],
)  # fmt: skip
def test_what_is_no_rectangle_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="is not a region") as refused:
        Box.parse(text)

    assert "0,0,640,480" in refused.value.hint


def test_a_region_beyond_the_image_is_refused_with_the_images_size():
    with pytest.raises(UsageError, match="640 x 480"):
        Boxes.of([Box.parse("600, 0, 100, 100")], 640, 480)
