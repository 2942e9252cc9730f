"""Sound TIFFs that Pillow cannot read: read with tifffile, or named for what they hold."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from image_files import tiff

from clipcount_cli.counting.images import count_pages, read_image
from clipcount_cli.counting.stacks import Selection
from clipcount_cli.errors import ImageReadError

GRAY = np.random.default_rng(2).integers(0, 200, (20, 30))
COLOUR = np.random.default_rng(3).integers(0, 200, (20, 30, 3))
COMPRESSION, ORIENTATION, EXTRA_SAMPLES, GDAL_NODATA = 259, 274, 338, 42113


@pytest.fixture
def tifffile():
    return pytest.importorskip("tifffile")


@pytest.fixture
def no_tifffile(monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)


def stretched(samples: np.ndarray) -> np.ndarray:
    low, high = np.percentile(samples, (0.1, 99.9))
    return (np.clip((samples - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f2", "u8", "i8", "u4"])
@pytest.mark.parametrize("samples", [GRAY, COLOUR], ids=["gray", "colour"])
@pytest.mark.usefixtures("tifffile")
def test_a_rare_sample_type_is_stretched_like_any_other(samples, dtype, deflate, order):
    stored = (samples / 256 if dtype[0] == "f" else samples).astype(dtype)

    pixels = read_image(tiff(stored, order, deflate=deflate)).pixels

    expected = stretched(stored.astype(np.float64))
    expected = expected if expected.ndim == 3 else expected[..., None]
    assert np.abs(pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "f4", "f8", "u2"])
@pytest.mark.usefixtures("tifffile")
def test_colour_planes_of_any_sample_type_are_read(dtype):
    stored = (COLOUR - 100 if dtype == "i1" else COLOUR).astype(dtype)

    pixels = read_image(tiff(stored, planar=True)).pixels

    assert np.abs(pixels.astype(int) - stretched(stored.astype(np.float64))).max() <= 1


@pytest.mark.usefixtures("tifffile")
def test_compressed_16_bit_planes_keep_both_bytes():
    twelve_bits = (COLOUR * 20).astype(np.uint16)

    assert np.array_equal(
        read_image(tiff(twelve_bits, planar=True, deflate=True)).pixels, stretched(twelve_bits)
    )


@pytest.mark.usefixtures("no_tifffile")
def test_compressed_16_bit_planes_say_that_a_byte_is_missing_without_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    decoded = read_image(tiff((COLOUR * 20).astype(np.uint16), planar=True, deflate=True))

    assert [notice.brief for notice in decoded.notices] == ["8 of 16 bits read"]


@pytest.mark.usefixtures("tifffile")
def test_three_gray_channels_are_read_as_colours_and_five_by_the_first():
    three = tiff((COLOUR * 16).astype(np.uint16), photometric=1)
    five = np.concatenate([COLOUR, COLOUR[..., :2]], axis=2)
    five = tiff(five.astype(np.uint8), photometric=1, tags={EXTRA_SAMPLES: [0] * 4})

    decoded = read_image(five)

    assert np.array_equal(read_image(three).pixels, stretched(COLOUR * 16))
    assert (decoded.pixels == COLOUR[..., :1]).all()
    assert [notice.brief for notice in decoded.notices] == ["first of 5 channels"]
    for channel, expected in ((2, COLOUR[..., 1:2]), (4, COLOUR[..., :1])):
        pixels = read_image(five, selection=Selection(channel=channel)).pixels
        assert (pixels == expected).all()
    with pytest.raises(ImageReadError, match="has 5 channels, no channel 6"):
        read_image(five, selection=Selection(channel=6))


@pytest.mark.usefixtures("tifffile")
def test_the_second_of_two_gray_channels_is_reached():
    stream = tiff(COLOUR[..., :2].astype(np.uint8), tags={EXTRA_SAMPLES: [0]})

    assert [notice.brief for notice in read_image(stream).notices] == ["first of 2 channels"]
    pixels = read_image(stream, selection=Selection(channel=2)).pixels
    assert (pixels == COLOUR[..., 1:2]).all()


@pytest.mark.usefixtures("tifffile")
def test_alpha_in_floats_is_laid_on_white():
    samples = np.concatenate([COLOUR / 256, np.ones((20, 30, 1))], axis=2)
    samples[:5] = (0.9, 0.1, 0.1, 0)

    pixels = read_image(tiff(samples)).pixels

    assert (pixels[:5] == 255).all()
    assert np.abs(pixels[5:].astype(int) - stretched(samples[5:, :, :3])).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.usefixtures("tifffile")
def test_a_rare_sample_type_comes_upright_as_a_common_one(orientation):
    tags = {ORIENTATION: [orientation]}
    common = read_image(tiff(GRAY.astype(np.uint16), tags=tags)).pixels

    assert np.array_equal(read_image(tiff(GRAY.astype(np.float64), tags=tags)).pixels, common)


@pytest.mark.usefixtures("tifffile")
def test_missing_data_and_white_as_zero_are_honoured_in_rare_types_too():
    holed = GRAY.astype(np.float64)
    holed[5:10, 5:10] = -1e6

    pixels = read_image(tiff(holed, photometric=0, tags={GDAL_NODATA: "-1e6"})).pixels[..., 0]

    plain = 255 - stretched(GRAY)
    assert np.abs(pixels[12:].astype(int) - plain[12:]).max() <= 2


def test_a_page_of_a_rare_type_leaves_the_others_readable(tifffile):
    common = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for page in (common, common / 255, common.astype(np.uint16) * 257):
            writer.write(page)

    assert count_pages(stream) == 3
    for page in (1, 2, 3):
        read = read_image(stream, "a.tif", Selection(page=page))
        assert read.pixels[..., 0] == pytest.approx(common, abs=3)


def test_pages_of_a_rare_type_are_chosen_and_projected(tifffile):
    stack = np.random.default_rng(4).random((3, 20, 30))
    stream = io.BytesIO()
    tifffile.imwrite(stream, stack, photometric="minisblack")

    assert count_pages(stream) == 3
    for page, expected in ((2, stack[1]), ("max", stack.max(axis=0))):
        pixels = read_image(stream, selection=Selection(page=page)).pixels[..., 0]
        assert np.abs(pixels.astype(int) - stretched(expected)).max() <= 1


@pytest.mark.parametrize(
    ("samples", "held"),
    [
        (GRAY.astype("f8"), "float64 samples"),
        (GRAY.astype("f2"), "float16 samples"),
        (GRAY.astype("u8"), "uint64 samples"),
        (COLOUR.astype("f4"), r"float32 samples \(3 per pixel\)"),
        (COLOUR.astype("i2"), r"int16 samples \(3 per pixel\)"),
    ],
)
@pytest.mark.usefixtures("no_tifffile")
def test_without_the_extra_the_sample_type_is_named_and_what_to_do(samples, held):
    with pytest.raises(ImageReadError, match=f"holds {held}, which need an extra package") as got:
        read_image(tiff(samples), "a.tif")

    assert "pip install tifffile" in got.value.hint
    assert "save it as gray or RGB of 8 or 16 bits" in got.value.hint


@pytest.mark.parametrize(
    ("compression", "name"), [(33005, "JPEG 2000"), (50002, "JPEG XL"), (4711, "type 4711")]
)
@pytest.mark.usefixtures("no_tifffile")
def test_a_rare_compression_is_named(compression, name):
    stream = tiff(GRAY.astype(np.uint8), tags={COMPRESSION: [compression]})

    with pytest.raises(ImageReadError, match=f"uint8 samples compressed as {name}"):
        read_image(stream, "a.tif")


@pytest.mark.usefixtures("tifffile")
def test_samples_that_are_no_image_are_refused_by_name():
    with pytest.raises(ImageReadError, match="holds complex64 samples"):
        read_image(tiff(GRAY.astype(np.complex64)), "a.tif")


@pytest.mark.parametrize("missing", [5, 50, 3000])
@pytest.mark.usefixtures("tifffile")
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on torn metadata
def test_a_cut_off_file_of_a_rare_type_is_refused(missing):
    whole = tiff(GRAY.astype(np.float64)).getvalue()

    with pytest.raises(ImageReadError):
        read_image(io.BytesIO(whole[:-missing]))


def test_a_cut_off_file_that_begins_with_its_directory_is_refused(tifffile):
    stream = io.BytesIO()
    tifffile.imwrite(stream, GRAY.astype(np.float64))

    with pytest.raises(ImageReadError, match="cut off"):
        read_image(io.BytesIO(stream.getvalue()[:-100]))


def test_a_rare_type_beyond_the_limit_is_refused_before_decoding(tifffile):
    stream = tiff(GRAY.astype(np.float64), tags={256: [30_000], 257: [30_000]})

    with pytest.raises(ImageReadError, match="megapixels"):
        read_image(stream)


def test_more_channels_than_memory_holds_are_refused_before_decoding(tifffile):
    stream = tiff(GRAY.astype(np.float64), tags={256: [9_000], 257: [9_000], 277: [1_000]})

    with pytest.raises(ImageReadError, match=r"648 GB on one page"):
        read_image(stream)
