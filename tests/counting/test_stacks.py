"""Pages and channels: which part of a stack is read, and what is said about the rest."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipcount_cli.counting.images import count_pages, read_image
from clipcount_cli.counting.notices import as_message
from clipcount_cli.counting.stacks import Selection, read_stack
from clipcount_cli.errors import ImageReadError, UsageError

DESCRIPTION_TAG = 270
IMAGEJ = "ImageJ=1.53t\nimages=6\nchannels=3\nslices=2\nhyperstack=true\nmode=composite\n"
OME = (
    '<?xml version="1.0"?><OME><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
    'Type="uint8" SizeX="6" SizeY="5" SizeZ="2" SizeC="3" SizeT="1"/></Image></OME>'
)
TIFFFILE = '{"shape": [2, 3, 5, 6], "axes": "ZCYX"}'


def pages(number: int, form: str = "TIFF", mode: str = "L", description: str = "") -> io.BytesIO:
    """A file whose page n (from 1) has the gray value 20 n."""
    images = [Image.new(mode, (6, 5), color) for color in gray_values(number, mode)]
    stream = io.BytesIO()
    options = {"tiffinfo": {DESCRIPTION_TAG: description}} if description else {}
    images[0].save(stream, form, save_all=True, append_images=images[1:], **options)
    return stream


def gray_values(number: int, mode: str) -> list:
    values = [20 * n for n in range(1, number + 1)]
    return values if mode in ("L", "I;16") else [(v,) * 3 for v in values]


def read_value(stream: io.BytesIO, **selection: object) -> int:
    return round(read_image(stream, selection=Selection(**selection)).pixels.mean() / 20)


@pytest.mark.parametrize(
    ("form", "mode"), [("TIFF", "L"), ("TIFF", "RGB"), ("GIF", "L"), ("WEBP", "RGB"), ("PNG", "L")]
)
def test_each_page_or_frame_is_read_by_its_number(form, mode):
    stream = pages(4, form, mode)

    assert count_pages(stream) == 4
    assert [read_value(stream, page=n) for n in (1, 2, 3, 4)] == [1, 2, 3, 4]


def test_the_first_page_comes_with_a_notice_unless_it_was_chosen():
    stream = pages(5)

    unasked, chosen = read_image(stream), read_image(stream, selection=Selection(page=1))

    assert as_message(unasked.notices) == "first of 5 pages"
    assert str(unasked.notices[0]) == "counting page 1 of 5 (choose with --page)"
    assert chosen.notices == ()
    assert unasked.pages == chosen.pages == 5


@pytest.mark.parametrize("form", ["TIFF", "GIF"])
def test_a_page_that_does_not_exist_is_refused_with_the_number_of_pages(form):
    with pytest.raises(ImageReadError, match="has 3 pages, no page 4"):
        read_image(pages(3, form), "a.tif", Selection(page=4))
    with pytest.raises(ImageReadError, match="has 1 page, no page 2"):
        read_image(pages(1, form), "a.tif", Selection(page=2))


@pytest.mark.parametrize("selection", [{"page": 0}, {"page": -1}, {"channel": 0}])
def test_pages_and_channels_count_from_one(selection):
    with pytest.raises(UsageError, match="there is no") as caught:
        Selection(**selection)
    assert "count from 1" in caught.value.hint


@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
@settings(max_examples=20, deadline=None)
def test_the_projection_is_the_brightest_sample_of_all_pages(seed, number):
    stack = np.random.default_rng(seed).integers(0, 256, (number, 5, 6), dtype=np.uint8)
    images = [Image.fromarray(page) for page in stack]
    stream = io.BytesIO()
    images[0].save(stream, "TIFF", save_all=True, append_images=images[1:])

    decoded = read_image(stream, selection=Selection(page="max"))

    assert np.array_equal(decoded.pixels[..., 0], stack.max(axis=0))
    assert decoded.notices == ()


def test_deep_pages_are_projected_before_they_are_stretched():
    stack = np.random.default_rng(3).integers(0, 4096, (3, 30, 40)).astype(np.uint16)
    stack[1] //= 8  # a dim slice, which its own stretch would brighten
    images = [Image.fromarray(page) for page in stack]
    stream, projected = io.BytesIO(), io.BytesIO()
    images[0].save(stream, "TIFF", save_all=True, append_images=images[1:])
    Image.fromarray(stack.max(axis=0)).save(projected, "TIFF")

    pixels = read_image(stream, selection=Selection(page="max")).pixels

    assert np.array_equal(pixels, read_image(projected).pixels)


def test_pages_of_different_sizes_cannot_be_projected_but_read_one_by_one():
    images = [Image.new("L", size, 40) for size in ((6, 5), (8, 5))]
    stream = io.BytesIO()
    images[0].save(stream, "TIFF", save_all=True, append_images=images[1:])

    assert read_image(stream, selection=Selection(page=2)).pixels.shape == (5, 8, 3)
    with pytest.raises(ImageReadError, match=r"pages of 6 x 5 .* and of 8 x 5") as caught:
        read_image(stream, selection=Selection(page="max"))
    assert "--page N" in caught.value.hint


@pytest.mark.parametrize(
    ("description", "channel_2"), [(IMAGEJ, [2, 5]), (OME, [3, 4]), (TIFFFILE, [2, 5])]
)
def test_a_channel_stored_as_pages_is_found_in_the_order_its_program_wrote(description, channel_2):
    stream = pages(6, description=description)

    assert count_pages(stream) == 6
    assert count_pages(stream, selection=Selection(channel=2)) == 2
    assert [read_value(stream, channel=2, page=n) for n in (1, 2)] == channel_2
    assert read_value(stream, channel=2, page="max") == channel_2[-1]
    with pytest.raises(ImageReadError, match="has 2 pages of channel 2, no page 3"):
        read_value(stream, channel=2, page=3)
    with pytest.raises(ImageReadError, match="has 3 channels, no channel 4"):
        read_value(stream, channel=4)


def test_what_of_a_hyperstack_was_not_read_is_said():
    stream = pages(6, description=IMAGEJ)

    for selection, message in (
        (Selection(), "first of 6 pages, channel 1 of 3"),
        (Selection(channel=2), "first of 2 pages"),
        (Selection(page="max"), "brightest of 3 channels"),
        (Selection(channel=2, page="max"), ""),
        (Selection(page=3), ""),
    ):
        assert as_message(read_image(stream, selection=selection).notices) == message


@pytest.mark.parametrize(
    "description",
    [
        IMAGEJ.replace("slices=2", "slices=9"),  # one file of a larger set
        OME.replace('SizeZ="2"', 'SizeZ="0"'),
        "ImageJ=1.53t\n",
        "{",
        '{"axes": 3, "shape": "x"}',
        "<Pixels>",
        "an image of cells",
    ],
)
def test_a_description_that_does_not_fit_the_pages_is_not_used(description):
    assert read_stack(6, description).channels == 1
    assert read_image(pages(6, description=description)).pages == 6


@pytest.mark.parametrize(("form", "depth"), [("PNG", np.uint8), ("TIFF", np.uint8)])
def test_a_channel_of_a_colour_image_is_its_gray_image(form, depth):
    colours = np.random.default_rng(1).integers(0, 256, (5, 6, 3)).astype(depth)
    stream = io.BytesIO()
    Image.fromarray(colours).save(stream, form)

    for channel in (1, 2, 3):
        pixels = read_image(stream, selection=Selection(channel=channel)).pixels
        assert (pixels == colours[..., channel - 1, None]).all()
    with pytest.raises(ImageReadError, match="has 3 channels, no channel 4"):
        read_image(stream, selection=Selection(channel=4))


def test_a_gray_image_has_one_channel():
    stream = pages(1)

    assert read_value(stream, channel=1) == 1
    with pytest.raises(ImageReadError, match="has 1 channel, no channel 2"):
        read_value(stream, channel=2)
