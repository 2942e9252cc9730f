"""Results compare, show themselves in a notebook, and are never a number that is none."""

import io

import numpy as np
import pytest
from dot_counter import DotCounter, draw_dots
from PIL import Image

from clipcount_cli.counting.results import CountResult, Counts
from clipcount_cli.errors import CountError

PIXELS, _ = draw_dots(120, 90, pitch_px=30, size_px=14)


@pytest.fixture(scope="module")
def counts():
    return DotCounter(beads=0.6).count(PIXELS, ["dots", "beads"])


def test_results_compare_by_what_they_hold(counts):
    again = DotCounter(beads=0.6).count(PIXELS, ["dots", "beads"])

    assert counts == again
    assert counts[0] != counts[1]
    assert len({counts[0], again[0], counts[1]}) == 2
    assert counts[0] != "dots"
    assert "density" not in repr(counts[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_an_error_that_advises_full_precision(value):
    density = np.zeros((4, 4), np.float32)
    density[1, 2] = value

    with pytest.raises(CountError, match="not a number") as failed:
        CountResult.of("dots", density)

    assert "--precision fp32" in failed.value.hint
    assert 'precision="fp32"' in failed.value.__notes__[0]


def test_an_overlay_has_the_size_of_the_image_it_is_drawn_over(counts):
    large = Image.new("RGB", (300, 225), "white")

    drawn = counts[0].overlay(large)

    assert isinstance(drawn, Image.Image)
    assert drawn.size == large.size
    assert np.asarray(drawn).min() < 255
    assert counts[0].overlay().size == (PIXELS.shape[1], PIXELS.shape[0])


def test_an_overlay_without_an_image_is_drawn_over_the_counted_one_but_stays_small():
    large = np.full((150, 2000, 3), 255, np.uint8)

    [result] = DotCounter().count(large, "dots")

    assert result.overlay().size == (1600, 120)


def test_a_result_without_its_image_says_how_to_draw_it():
    result = CountResult.of("dots", np.zeros((4, 4), np.float32))

    with pytest.raises(ValueError, match=r"overlay\(image\)"):
        result.overlay()
    assert result._repr_png_() is None


def test_results_display_themselves_in_a_notebook(counts):
    page = counts._repr_html_()
    picture = Image.open(io.BytesIO(counts[0]._repr_png_()))

    assert "dots" in page
    assert f"{counts[0].count:.1f}" in page
    assert "data:image/png;base64," in page
    assert picture.format == "PNG"


def test_a_notebook_shows_at_most_800_pixels_however_many_tiles_were_seen():
    large, _ = draw_dots(1200, 900, pitch_px=60, size_px=20)

    counts = DotCounter().count(large, "dots", tiles=3)

    picture = Image.open(io.BytesIO(counts[0]._repr_png_()))
    assert counts[0].density.shape == (1152, 1536)
    assert picture.width == 800


def test_a_notebook_shows_why_there_are_no_results():
    assert Counts([], error=CountError("broken"))._repr_html_() == "<p>broken</p>"


def test_a_prompt_is_text_to_a_notebook_not_markup():
    counts = DotCounter(taught=()).count(PIXELS, ["<b>dots</b>"])

    assert "<b>" not in counts._repr_html_()
