"""Deep images whose contrast marks, collars or missing data would take up alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import tiff
from scipy.ndimage import gaussian_filter

from clipcount_cli.counting.images import read_image

GDAL_NODATA = 42113
COLUMNS, ROWS = np.meshgrid(np.arange(160), np.arange(120))
SMOOTH = (2000 + 1500 * np.sin(COLUMNS / 9) * np.cos(ROWS / 7)).astype(np.uint16)  # 500 to 3500
NOISE = np.random.default_rng(5).normal(500, 20, (120, 160)).astype(np.uint16)


def spread(pixels: np.ndarray) -> float:
    """How much of 0..255 the middle 90 % of the pixels use."""
    low, high = np.percentile(pixels, (5, 95))
    return float(high - low)


def with_bar(samples: np.ndarray, value: float) -> np.ndarray:
    marked = samples.copy()
    marked[105:111, 130:155] = value  # 0.8 % of the pixels
    return marked


def with_collar(samples: np.ndarray, value: float, rows: int = 15) -> np.ndarray:
    return np.pad(samples, ((rows, rows), (0, 40)), constant_values=value)


@pytest.mark.parametrize("value", [65535, 60000, 16383])
def test_a_scale_bar_takes_no_contrast_from_the_image(value):
    plain = read_image(tiff(SMOOTH))
    marked = read_image(tiff(with_bar(SMOOTH, value)))

    assert spread(marked.pixels) == pytest.approx(spread(plain.pixels), abs=3)
    assert (marked.pixels[105:111, 130:155] == 255).all()
    assert f"0.8% of samples at {value} set aside" in str(marked.notices[0])
    assert plain.notices == ()


def test_a_dark_bar_on_bright_samples_is_set_aside_too():
    bright = SMOOTH + np.uint16(40_000)

    marked = read_image(tiff(with_bar(bright, 0)))

    assert spread(marked.pixels) == pytest.approx(spread(read_image(tiff(bright)).pixels), abs=3)


def test_a_bar_in_16_bit_colour_is_set_aside_in_all_channels():
    colours = np.stack([SMOOTH, SMOOTH // 2, SMOOTH // 3], axis=2)

    marked = read_image(tiff(with_bar(colours, 65535)))

    plain = read_image(tiff(colours))
    assert np.abs(marked.pixels[:100].astype(int) - plain.pixels[:100]).max() <= 3


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.uint16, 65535),
        (np.uint16, 30_000),
        (np.int16, -32768),
        (np.int32, -9999),
        (np.float32, -9999),
        (np.float32, -3.4028235e38),
        (np.float32, np.nan),
        (np.float32, np.inf),
    ],
)
def test_an_untagged_collar_takes_no_contrast_from_the_image(dtype, value):
    samples = with_collar(SMOOTH.astype(dtype), value)

    pixels = read_image(tiff(samples)).pixels

    assert spread(pixels[15:-15, :160]) > 180


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        (np.uint16, 65535, "65535"),
        (np.uint16, 4000, "4000.0"),  # within the range of a 12-bit image
        (np.uint16, 0, "0"),
        (np.int16, -32768, "-32768"),
        (np.float32, -3.4028235e38, "-3.40282e+38"),
        (np.float32, -9999, "-9999"),
        (np.float32, np.nan, "nan"),
    ],
)
def test_samples_tagged_as_missing_do_not_steer_the_stretch(dtype, value, text):
    holed = SMOOTH.astype(dtype)
    holed[40:70, 60:110] = value  # inside, where no edge gives it away

    decoded = read_image(tiff(holed, tags={GDAL_NODATA: text}))

    plain = read_image(tiff(SMOOTH.astype(dtype)))
    assert np.abs(decoded.pixels[:, :50].astype(int) - plain.pixels[:, :50]).max() <= 8
    assert decoded.notices == ()


def test_a_no_data_tag_of_an_8_bit_image_changes_nothing():
    samples = (SMOOTH // 16).astype(np.uint8)

    tagged = read_image(tiff(samples, tags={GDAL_NODATA: "0"}))

    assert np.array_equal(tagged.pixels, read_image(tiff(samples)).pixels)


@pytest.mark.parametrize("text", ["", "none", "1e999", "-1", "70000", "2.5"])
def test_a_no_data_tag_that_names_no_sample_changes_nothing(text):
    tagged = read_image(tiff(SMOOTH, tags={GDAL_NODATA: text}))

    assert np.array_equal(tagged.pixels, read_image(tiff(SMOOTH)).pixels)


def test_a_bar_with_text_and_soft_edges_is_set_aside():
    drawn = np.zeros((120, 160))
    drawn[105:111, 130:155] = drawn[96:102, 139:142] = 1
    soft = gaussian_filter(drawn, 1)
    samples = (SMOOTH * (1 - soft) + 65535 * soft).astype(np.uint16)

    marked = read_image(tiff(samples))

    assert spread(marked.pixels[:90]) == pytest.approx(
        spread(read_image(tiff(SMOOTH)).pixels), abs=9
    )


@pytest.mark.parametrize(
    "place",
    [
        np.abs(COLUMNS - 80) + np.abs(ROWS - 60) > 105,  # the corners around a rotated image
        (COLUMNS > 30) & (COLUMNS < 80) & (ROWS > 30) & (ROWS < 90),  # a label inside
        np.random.default_rng(1).random((120, 160)) < 0.01,  # defective pixels
    ],
)
def test_what_is_saturated_in_few_places_or_in_lone_pixels_is_set_aside(place):
    pixels = read_image(tiff(np.where(place, np.uint16(65535), SMOOTH))).pixels

    assert spread(pixels[~place]) > 180


def test_saturated_spots_on_a_smooth_background_are_not_taken_for_a_mark():
    rows, columns = np.mgrid[8:120:16, 8:160:16]
    dots = np.zeros((120, 160))
    dots[rows, columns] = 1
    spots = gaussian_filter(dots, 1.2)
    background = 200 + COLUMNS / 2 + NOISE % 7
    samples = np.clip(background + 200_000 * spots, 0, 4095).astype(np.uint16)

    decoded = read_image(tiff(samples))

    assert "set aside" not in str(decoded.notices)
    assert np.percentile(decoded.pixels, 50) < 20


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_without_any_number_says_so(value):
    decoded = read_image(tiff(np.full((40, 50), value, np.float32)))

    assert decoded.notices[0].brief == "no samples"


def test_bright_objects_on_noise_are_not_taken_for_a_mark():
    cells = NOISE.copy()
    for row, column in ((20, 30), (60, 90), (90, 140)):
        cells[row : row + 9, column : column + 9] = 65535

    decoded = read_image(tiff(cells))

    assert np.percentile(decoded.pixels, 50) < 3  # the noise stays dark
    assert decoded.notices == ()


def test_large_saturated_objects_are_not_taken_for_a_mark():
    cells = SMOOTH.copy()
    for column in range(5, 150, 20):
        cells[10:100:20, column : column + 10] = cells[11:101:20, column : column + 10] = 65535
        cells[12:102:20, column : column + 10] = 65535

    assert "set aside" not in str(read_image(tiff(cells)).notices)


def test_an_image_that_uses_few_levels_says_so():
    dark = NOISE.copy()
    dark[20:29, 30:39] = 65535

    decoded = read_image(tiff(dark))

    assert decoded.notices[-1].brief == "99% of pixels share 24 of 256 levels"


@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_8_bit_samples_are_signed(order):
    signed = (SMOOTH // 16 - 128).astype(np.int8)

    pixels = read_image(tiff(signed, order)).pixels[..., 0]

    by_sample = pixels.ravel()[np.argsort(signed.ravel(), kind="stable")]
    assert (np.diff(by_sample.astype(int)) >= 0).all()
    assert spread(pixels) > 180


def test_32_bit_samples_beyond_the_signed_range_are_bright():
    samples = SMOOTH.astype(np.uint32) * 1_000_000  # up to 3.5e9

    pixels = read_image(tiff(samples)).pixels[..., 0].astype(int)

    assert np.abs(pixels - read_image(tiff(SMOOTH)).pixels[..., 0]).max() <= 1


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint16, np.int16, np.int32, np.float32]))
@settings(max_examples=30, deadline=None)
def test_a_brighter_sample_never_becomes_darker(seed, dtype):
    rng = np.random.default_rng(seed)
    samples = rng.normal(1000, 200, (12, 20)).astype(dtype)
    samples[rng.random((12, 20)) < 0.1] = rng.choice([0, 32767])

    pixels = read_image(tiff(samples)).pixels[..., 0]

    ordered = pixels.ravel()[np.argsort(samples.ravel(), kind="stable")].astype(int)
    assert (np.diff(ordered) >= 0).all()
