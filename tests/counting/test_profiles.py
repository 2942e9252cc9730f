"""Images that carry a colour profile are brought to sRGB; all others keep their pixels."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from clipcount_cli.counting.images import as_pixels, read_image
from clipcount_cli.counting.stacks import Selection

ICC_TAG, BYTES = 34675, 7  # of TIFF: the tag, and the type of its value
PROPHOTO = ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249))
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
RED, GRAY = (200, 30, 40), (128, 128, 128)


def _fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def _profile(space: bytes, device: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Put an ICC profile of version 2 together."""
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(79), **tags}
    tags[b"wtpt"] = b"XYZ " + bytes(4) + _fixed(0.9642, 1.0, 0.8249)
    offset, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = struct.pack(
        ">I4sI4s4s4s",
        offset + len(body),
        b"lcms",
        0x02100000,
        device,
        space,
        b"Lab " if device == b"prtr" else b"XYZ ",
    )
    header += bytes(12) + b"acsp" + bytes(28) + _fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def rgb_profile(primaries: tuple, gamma: float) -> bytes:
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    tags = {name + b"TRC": curve for name in (b"r", b"g", b"b")}
    for name, primary in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags[name + b"XYZ"] = b"XYZ " + bytes(4) + _fixed(*primary)
    return _profile(b"RGB ", b"mntr", tags)


def gray_profile(gamma: float) -> bytes:
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    return _profile(b"GRAY", b"mntr", {b"kTRC": curve})


def cmyk_profile() -> bytes:
    """Ink that darkens without colour: Lab lightness falls with the sum of the four inks."""
    ramp = bytes(range(256))
    corners = [bytes([max(0, 255 - 64 * bin(i).count("1")), 128, 128]) for i in range(16)]
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    lut = table + ramp * 4 + b"".join(corners) + ramp * 3
    return _profile(b"CMYK", b"prtr", {b"A2B0": lut, b"A2B1": lut})


def saved(image: Image.Image, form: str, **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream


def to_profile(colour: tuple[int, int, int], profile: bytes) -> tuple[int, int, int]:
    """How a file with `profile` stores an sRGB colour."""
    image = Image.new("RGB", (1, 1), colour)
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), target, inPlace=True)
    red, green, blue = np.asarray(image)[0, 0].tolist()
    return red, green, blue


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("profile", [rgb_profile(PROPHOTO, 1.8), rgb_profile(DISPLAY_P3, 2.2)])
@pytest.mark.parametrize("colour", [RED, GRAY, (30, 90, 200)])
def test_a_file_in_another_colour_space_shows_the_colours_that_were_meant(form, profile, colour):
    stored = to_profile(colour, profile)
    stream = saved(Image.new("RGB", (16, 16), stored), form, icc_profile=profile, quality=100)

    decoded = read_image(stream)

    assert np.abs(decoded.pixels[8, 8].astype(int) - colour).max() <= 6
    assert decoded.notices == ()


@pytest.mark.parametrize("levels", [1, 257])
@pytest.mark.parametrize("with_profile", [0, 1])
def test_the_profile_of_one_page_is_not_applied_to_another(levels, with_profile):
    tifffile = pytest.importorskip("tifffile")
    profile = rgb_profile(PROPHOTO, 1.8)
    pixels = np.zeros((16, 16, 3), np.uint8 if levels == 1 else np.uint16)
    pixels[:4], pixels[4:8], pixels[8:] = 0, 255 * levels, np.array(RED) * levels
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for page in range(2):
            tags = [(ICC_TAG, BYTES, len(profile), profile, True)] if page == with_profile else []
            writer.write(pixels, photometric="rgb", metadata=None, extratags=tags)

    first, second = (read_image(stream, None, Selection(page)).pixels[12, 12] for page in (1, 2))

    plain, converted = (second, first) if with_profile == 0 else (first, second)
    assert plain.tolist() == list(RED)
    assert converted.tolist() != list(RED)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["L", "RGB", "RGBA", "LA", "P"]))
@settings(max_examples=20, deadline=None)
def test_an_srgb_profile_changes_no_pixel(seed, mode):
    colours = np.random.default_rng(seed).integers(0, 256, (6, 9, 4), dtype=np.uint8)
    image = Image.fromarray(colours).convert(mode)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    tagged = read_image(saved(image, "PNG", icc_profile=srgb))

    assert np.array_equal(tagged.pixels, read_image(saved(image, "PNG")).pixels)


def test_a_gray_profile_is_applied_to_gray_and_its_alpha_kept():
    linear = gray_profile(1.0)  # 55 of 255 in linear light is 128 in sRGB
    gray = Image.new("L", (4, 4), 55)
    faded = Image.merge("LA", (gray, Image.new("L", (4, 4), 51)))

    for image, expected in ((gray, 128), (faded, 255 - (255 - 128) * 0.2)):
        pixels = read_image(saved(image, "PNG", icc_profile=linear)).pixels
        assert pixels[0, 0].tolist() == pytest.approx([expected] * 3, abs=2)


def test_cmyk_is_converted_with_its_own_profile():
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))

    for form in ("TIFF", "JPEG"):
        plain = read_image(saved(image, form)).pixels[8, 8]
        profiled = read_image(saved(image, form, icc_profile=cmyk_profile())).pixels[8, 8]

        assert plain.tolist() == pytest.approx((0, 255, 255), abs=4)
        assert np.ptp(profiled.astype(int)) <= 4  # these inks have no colour
        assert 120 < profiled.mean() < 220


def test_alpha_is_laid_on_white_after_the_profile_was_applied():
    profile = rgb_profile(DISPLAY_P3, 2.2)
    image = Image.new("RGBA", (4, 4), (*to_profile(RED, profile), 51))

    pixels = read_image(saved(image, "PNG", icc_profile=profile)).pixels

    assert np.abs(pixels[0, 0] - (255 - 0.2 * (255 - np.array(RED)))).max() <= 3


def test_a_palette_in_another_colour_space_is_converted():
    profile = rgb_profile(PROPHOTO, 1.8)
    image = Image.new("RGB", (4, 4), to_profile(RED, profile)).quantize()

    pixels = read_image(saved(image, "PNG", icc_profile=profile)).pixels

    assert pixels[0, 0].tolist() == pytest.approx(RED, abs=6)


def test_a_pil_image_is_converted_like_its_file():
    profile = rgb_profile(PROPHOTO, 1.8)
    stream = saved(Image.new("RGB", (4, 4), to_profile(RED, profile)), "PNG", icc_profile=profile)

    assert np.array_equal(as_pixels(Image.open(stream)), read_image(stream).pixels)


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", b"no profile at all"),
        ("RGB", rgb_profile(PROPHOTO, 1.8)[:150]),
        ("RGB", gray_profile(2.2)),
        ("RGB", cmyk_profile()),
        ("RGB", rgb_profile(((0.0,) * 3,) * 3, 1.8)),  # every colour is black
        ("CMYK", rgb_profile(SRGB, 2.2)),
        ("L", cmyk_profile()),
    ],
)
def test_a_damaged_or_foreign_profile_is_ignored_and_said_to_be(mode, profile):
    image = Image.new("RGB", (16, 16), RED).convert(mode)

    decoded = read_image(saved(image, "TIFF", icc_profile=profile))

    assert np.array_equal(decoded.pixels, read_image(saved(image, "TIFF")).pixels)
    assert [notice.brief for notice in decoded.notices] == ["colour profile ignored"]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_profile_with_a_flipped_byte_never_stops_a_count(data):
    profile = bytearray(data.draw(st.sampled_from([rgb_profile(PROPHOTO, 1.8), cmyk_profile()])))
    profile[data.draw(st.integers(0, len(profile) - 1))] ^= data.draw(st.integers(1, 255))
    mode = "RGB" if b"RGB " in profile[:40] else "CMYK"
    image = Image.new("RGB", (8, 8), RED).convert(mode)

    assert read_image(saved(image, "TIFF", icc_profile=bytes(profile))).pixels.shape == (8, 8, 3)
