"""Every mode an image may have; 16 bits per sample above all, which Pillow alone would halve."""

from __future__ import annotations

import io
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import png16, tiff
from PIL import Image, ImageCms

from clipcount_cli.counting.images import as_pixels, read_image

RNG = np.random.default_rng(7)


def saved(image: Image.Image, form: str, **options) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream


def stretched(samples: np.ndarray) -> np.ndarray:
    low, high = np.percentile(samples, (0.1, 99.9))
    return (np.clip((samples - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)


TWELVE_BITS = RNG.integers(0, 4096, (20, 30, 4)).astype(np.uint16)


@pytest.mark.parametrize(("channels", "planar"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
def test_a_12_bit_microscopy_tiff_is_not_black(channels, order, planar, deflate):
    samples = TWELVE_BITS[..., :channels]
    photometric = 2 if channels == 3 else 1

    pixels = read_image(tiff(samples, order, planar, deflate, photometric)).pixels

    # without tifffile, compressed planes reach us with their high byte only: 16 of 256 levels
    tolerance = 17 if planar and deflate and not find_spec("tifffile") else 0
    expected = np.broadcast_to(stretched(samples), (20, 30, 3))
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (3, 2)])
def test_both_bytes_of_a_16_bit_png_are_used(channels, colour_type):
    samples = TWELVE_BITS[..., :channels]

    pixels = read_image(png16(samples, colour_type)).pixels

    assert np.array_equal(pixels, np.broadcast_to(stretched(samples), (20, 30, 3)))


@pytest.mark.parametrize("write", [lambda samples: png16(samples, 6), tiff])
def test_16_bit_alpha_is_laid_on_white_and_hidden_colours_do_not_steer_the_stretch(write):
    samples = TWELVE_BITS.copy()
    samples[..., 3] = 65535
    samples[:10] = (65535, 0, 65535, 0)

    pixels = read_image(write(samples)).pixels

    assert (pixels[:10] == 255).all()
    assert np.array_equal(pixels[10:], stretched(samples[10:, :, :3]))


def test_gray_with_alpha_in_16_bits_is_not_black_either():
    samples = TWELVE_BITS[..., :2].copy()
    samples[..., 1] = 65535

    pixels = read_image(png16(samples, 4)).pixels

    assert np.abs(pixels[..., 0].astype(int) - stretched(samples[..., 0])).max() <= 17


def test_a_transparent_16_bit_colour_is_laid_on_white():
    gray, colour = TWELVE_BITS[..., :1].copy(), TWELVE_BITS[..., :3].copy()
    gray[0, 0], colour[0, 0] = 5000, (5000, 6000, 7000)

    assert (read_image(png16(gray, 0, (5000,))).pixels[0, 0] == 255).all()
    assert (read_image(png16(colour, 2, (5000, 6000, 7000))).pixels[0, 0] == 255).all()


def test_a_tiff_whose_zero_is_white_is_not_a_negative():
    samples = TWELVE_BITS[..., :1]

    pixels = read_image(tiff(samples, photometric=0)).pixels

    assert np.array_equal(pixels[..., 0], 255 - stretched(samples[..., 0]))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_samples_are_stretched_from_their_own_range(dtype):
    values = (RNG.random((20, 30)) * 3e8 - 1e8).astype(dtype)

    pixels = read_image(saved(Image.fromarray(values), "TIFF")).pixels

    assert np.abs(pixels[..., 1].astype(int) - stretched(values.astype(np.float64))).max() <= 1


def test_floats_that_are_no_numbers_are_black_and_do_not_spoil_the_rest():
    values = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    values[0, :3] = (np.nan, np.inf, -np.inf)

    pixels = as_pixels(Image.fromarray(values))

    assert [int(v) for v in pixels[0, :3, 0]] == [0, 255, 0]
    assert pixels[10].mean() == pytest.approx(128, abs=10)


def test_a_few_bright_cells_on_a_flat_ground_stay_visible():
    samples = np.full((100, 100), 100, np.uint16)
    samples[3, 4] = 900

    pixels = as_pixels(Image.fromarray(samples))

    assert pixels[3, 4, 0] == 255
    assert pixels.sum() == 3 * 255


def test_a_flat_16_bit_picture_is_read():
    assert (as_pixels(Image.fromarray(np.full((4, 5), 700, np.uint16))) == 0).all()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_any_small_16_bit_colour_picture_keeps_its_order_of_brightness(height, width, seed):
    samples = np.random.default_rng(seed).integers(0, 65536, (height, width, 3)).astype(np.uint16)

    pixels = read_image(png16(samples, 2)).pixels

    ranked = pixels.reshape(-1)[np.argsort(samples.reshape(-1))]
    assert (np.diff(ranked.astype(int)) >= 0).all()


COLOURS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "HSV", "P", "RGBX"])
def test_a_mode_without_alpha_is_what_pillow_makes_of_it(mode):
    image = Image.fromarray(COLOURS).convert(mode)

    assert np.array_equal(as_pixels(image), np.asarray(image.convert("RGB")))


def test_lab_comes_back_as_the_colours_it_was_made_from():
    smooth = np.full((4, 4, 3), (200, 120, 60), np.uint8)
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(smooth), srgb, lab, outputMode="LAB")

    assert np.abs(read_image(saved(image, "TIFF")).pixels.astype(int) - smooth).max() <= 4


def test_cmyk_survives_a_tiff_and_an_adobe_jpeg():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))

    for form in ("TIFF", "JPEG"):
        assert read_image(saved(image, form)).pixels[8, 8] == pytest.approx((255, 0, 0), abs=4)


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La", "PA"])
def test_alpha_is_laid_on_white(mode):
    gray = Image.new("LA", (3, 1), (0, 255))
    gray.putpixel((0, 0), (90, 0))
    gray.putpixel((1, 0), (0, 51))
    if mode == "PA":
        image = Image.frombytes("PA", gray.size, gray.tobytes())
        image.putpalette([value for gray in range(256) for value in (gray, gray, gray)])
    elif mode.startswith("L"):
        image = gray.convert(mode)
    else:
        image = gray.convert("RGBA").convert(mode)

    assert as_pixels(image)[0, :, 0].tolist() == [255, 204, 0]


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_palette_with_a_transparent_entry_is_laid_on_white(form):
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])

    pixels = read_image(saved(image, form, transparency=0)).pixels

    assert pixels[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_a_palette_may_hold_an_alpha_for_each_entry():
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 200, 100, 50])

    pixels = read_image(saved(image, "PNG", transparency=bytes([51, 255]))).pixels

    assert pixels[0].tolist() == [[204, 204, 204], [200, 100, 50]]
