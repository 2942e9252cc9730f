"""`--tiles auto` goes up where objects are too small to be seen, and nowhere else."""

import numpy as np
import pytest
from dot_counter import DotCounter, draw_dots

from clipcount_cli.counting.scale import (
    MAX_SAMPLES,
    Comparison,
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


def seen(objects, pitch_px):
    return View(objects, pitch_px)


@pytest.mark.parametrize(
    ("comparisons", "tiles"),
    [
        ([], 1),
        ([Comparison(2, seen(10, 30), seen(11, 40))], 1),  # the counts agree
        ([Comparison(2, seen(10, 30), seen(40, 50))], 2),  # many more, close together
        ([Comparison(2, seen(10, 90), seen(25, 90))], 1),  # more, but far apart: parts of objects
        ([Comparison(2, seen(0, np.inf), seen(2, 20))], 1),  # too few to tell
        (
            [
                Comparison(2, seen(0, np.inf), seen(1, 70)),  # not yet seen at either size
                Comparison(4, seen(1, 70), seen(60, 20)),
                Comparison(8, seen(60, 20), seen(62, 40)),
            ],
            4,
        ),
        (
            [
                Comparison(2, seen(30, 20), seen(31, 40)),  # seen: parts of objects follow
                Comparison(4, seen(31, 40), seen(100, 50)),
            ],
            1,
        ),
        (
            [
                Comparison(2, seen(30, 20), seen(31, 40)),  # clusters: many objects in each
                Comparison(4, seen(31, 40), seen(200, 50)),
                Comparison(8, seen(200, 50), seen(270, 50)),
            ],
            8,
        ),
    ],
)
def test_tiles_follow_from_growth_and_distance(comparisons, tiles):
    assert choose_tiles(comparisons, limit=8) == tiles


@pytest.mark.parametrize(("pitch_px", "tiles"), [(40, 6), (50, 4), (80, 2)])
def test_what_is_small_to_the_last_gets_all_of_an_images_own_pixels(pitch_px, tiles):
    comparisons = [
        Comparison(2, seen(5, 60), seen(20, 50)),
        Comparison(4, seen(20, 50), seen(80, pitch_px)),
    ]

    assert choose_tiles(comparisons, limit=6.9) == tiles


def test_the_pitch_of_a_lattice_is_its_spacing():
    density = np.zeros((2, 384, 384), np.float32)
    density[:, 16::32, 16::32] = 1

    view = View.of(density)

    assert view.objects == 2 * 144
    assert view.pitch_px == pytest.approx(32, rel=0.1)
