"""`--tiles auto` goes up where objects are too small to be seen, and nowhere else."""

import numpy as np
import pytest
from dot_counter import DotCounter, draw_dots

from clipcount_cli.counting.scale import (
    MAX_SAMPLES,
    Comparison,
    Thresholds,
    View,
    choose_tiles,
)


def truth_and_counts(copies, counter):
    """A tray of dots of 22 px seen from `copies` times as far: its truth, auto, and tiles 1."""
    pixels, centres = draw_dots(384 * copies, 384 * copies, pitch_px=32, size_px=22)
    [auto] = counts = counter.count_image(pixels, "dots", "auto")
    [fixed] = counter.count_pixels(pixels, "dots", 1)
    return len(centres), auto.count, fixed.count, counts.tiles


@pytest.mark.parametrize(("copies", "least"), [(1, 1), (2, 1), (4, 2)])
def test_small_objects_are_seen_as_large_as_the_network_needs(copies, least):
    truth, auto, fixed, tiles = truth_and_counts(copies, DotCounter(smallest_px=10))

    assert auto == pytest.approx(truth, rel=0.1)
    assert least <= tiles <= 2 * least
    if copies > 2:
        assert fixed < 0.1 * truth


@pytest.mark.parametrize("size_px", [140, 360])
def test_a_large_photo_of_large_objects_stays_as_it_is(size_px):
    pixels, centres = draw_dots(1536, 1152, pitch_px=380, size_px=size_px)
    counter = DotCounter()

    counts = counter.count_image(pixels, "dots", "auto")

    assert counts.tiles == 1
    assert counts[0].count == pytest.approx(len(centres), rel=0.15)


def test_no_image_is_enlarged():
    pixels, _ = draw_dots(600, 500, pitch_px=14, size_px=8)
    counter = DotCounter()

    assert counter.choose_tiles(pixels, ["dots"]) == 1
    assert counter.windows_seen == 0


def test_what_is_not_there_is_measured_by_any_object():
    pixels, _ = draw_dots(1536, 1536, pitch_px=32, size_px=22)

    assert DotCounter().choose_tiles(pixels, ["zebras"]) > 1
    assert DotCounter(taught=("dots",)).choose_tiles(pixels, ["zebras"]) == 1


def test_the_choice_costs_a_bounded_number_of_windows():
    counter = DotCounter(smallest_px=6)
    pixels, _ = draw_dots(3072, 1536, pitch_px=48, size_px=14)

    tiles = counter.choose_tiles(pixels, ["dots"])

    assert tiles > 1
    assert counter.windows_seen <= (1 + 2 * 4) * MAX_SAMPLES


def test_the_choice_does_not_depend_on_the_order_of_prompts():
    pixels, _ = draw_dots(1536, 1536, pitch_px=32, size_px=22)
    counter = DotCounter(beads=0.4)

    assert counter.choose_tiles(pixels, ["dots", "beads"]) == counter.choose_tiles(
        pixels, ["beads", "dots"]
    )


def seen(objects, pitch_px, sharpness=1.0):
    return View(objects, pitch_px, sharpness)


@pytest.mark.parametrize(
    ("comparisons", "tiles"),
    [
        ([], 1),
        ([Comparison(2, seen(10, 60), seen(10.5, 80))], 1),  # the counts agree
        ([Comparison(2, seen(10, 60), seen(40, 100))], 8),  # many more
        ([Comparison(2, seen(10, 90), seen(25, 120))], 1),  # more, but far apart: parts of objects
        ([Comparison(2, seen(10, 90), seen(25, 100, 0.7))], 1),  # more, but diffuse: such parts
        ([Comparison(2, seen(10, 30), seen(25, 58, 0.7))], 8),  # a crowd, which had overlapped
        ([Comparison(2, seen(0, np.inf, 0), seen(2, 20))], 1),  # too few to tell
        (
            [
                Comparison(2, seen(0, np.inf, 0), seen(1, 118)),  # not yet seen at either size
                Comparison(4, seen(1, 118), seen(60, 50)),
                Comparison(8, seen(60, 50), seen(62, 90)),
            ],
            4,
        ),
        (
            [
                Comparison(2, seen(30, 40), seen(31, 80)),  # seen: parts of objects follow
                Comparison(4, seen(31, 80), seen(100, 100)),
            ],
            1,
        ),
        (
            [
                Comparison(2, seen(30, 40), seen(31, 80)),  # clusters: many objects in each
                Comparison(4, seen(31, 80), seen(200, 100)),
                Comparison(8, seen(200, 100), seen(270, 100)),
            ],
            8,
        ),
    ],
)
def test_tiles_follow_from_growth_distance_and_sharpness(comparisons, tiles):
    assert choose_tiles(comparisons, limit=8) == tiles


@pytest.mark.parametrize(("growth", "tiles"), [(3, 6), (1.05, 2)])
def test_what_still_gains_at_the_last_gets_all_of_an_images_own_pixels(growth, tiles):
    comparisons = [
        Comparison(2, seen(5, 90), seen(20, 70)),
        Comparison(4, seen(20, 70), seen(20 * growth, 80)),
    ]

    assert choose_tiles(comparisons, limit=6.9) == tiles


def test_other_thresholds_can_be_tried():
    comparisons = [Comparison(2, seen(10, 60), seen(12, 80))]

    assert choose_tiles(comparisons, limit=2, thresholds=Thresholds(growth=1.3)) == 1


@pytest.mark.parametrize("size_px", [4, 8])
def test_sharpness_falls_with_the_spread_of_an_objects_density(size_px):
    y, x = np.mgrid[-192:192, -192:192]
    bell = np.exp(-(x**2 + y**2) / (2 * size_px**2))
    density = (bell / bell.sum()).astype(np.float32)[None]

    assert View.of(density).sharpness == pytest.approx(1 / (4 * np.pi * size_px**2), rel=0.01)


def test_the_pitch_of_a_lattice_is_its_spacing():
    density = np.zeros((2, 384, 384), np.float32)
    density[:, 16::32, 16::32] = 1

    view = View.of(density)

    assert view.objects == 2 * 144
    assert 32 < view.pitch_px < 38  # at the border, neighbours are missing
