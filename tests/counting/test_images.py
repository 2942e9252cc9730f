from __future__ import annotations

import contextlib
import io
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFile, features

from clipcount_cli.counting import images, pillow_frames
from clipcount_cli.counting.images import as_pixels, read_image, write_image
from clipcount_cli.errors import ClipCountError, ImageReadError, UsageError

small_pictures = arrays(
    np.uint8,
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)),
    elements=st.integers(0, 255),
)


def encoded(pixels: np.ndarray, form: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def noise(height: int, width: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
        ("TGA", {}),
        ("JPEG2000", {"irreversible": False}),
        pytest.param("WEBP", {"lossless": True, "exact": True}, id="lossless WebP"),
    ],
)
@given(pixels=small_pictures)
@settings(max_examples=20, deadline=None)
def test_a_lossless_file_gives_back_its_pixels(form, options, pixels):
    assert np.array_equal(read_image(io.BytesIO(encoded(pixels, form, **options))).pixels, pixels)


def test_the_pixels_of_a_photo_are_not_held_twice(tmp_path):
    Image.new("RGB", (8, 6), "red").save(tmp_path / "red.png")

    photo = read_image(tmp_path / "red.png")

    assert photo.size == (8, 6)
    assert photo.pixels is photo.pixels is photo.source
    assert photo.size == (8, 6)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_upright(form, orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = (255, 0, 0)
    upright[8:, :16] = (0, 255, 0)
    undo = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud}
    undo |= {5: lambda a: a.swapaxes(0, 1), 6: np.rot90}
    undo |= {7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: lambda a: np.rot90(a, 3)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(undo[orientation](upright))

    pixels = read_image(io.BytesIO(encoded(stored, form, exif=exif, quality=100))).pixels

    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 25


def test_a_pil_image_is_turned_upright_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(encoded(noise(4, 6), "PNG", exif=exif)))

    assert as_pixels(image).shape == (6, 4, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_spoil_sound_pixels():
    data = encoded(noise(8, 8), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")

    assert read_image(io.BytesIO(data)).pixels.shape == (8, 8, 3)


@pytest.mark.parametrize("progressive", [False, True])
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_jpeg_cut_off_at_any_byte_is_refused(progressive, data):
    whole = encoded(noise(48, 40), "JPEG", progressive=progressive)
    length = data.draw(st.integers(0, len(whole) - 1))

    with pytest.raises(ImageReadError):
        read_image(io.BytesIO(whole[:length]))


def test_a_large_jpeg_without_its_end_marker_is_refused():
    whole = encoded(noise(500, 600), "JPEG")  # more than one of Pillow's 64 kB reads

    for missing in (1, 2, 3, 1000):
        with pytest.raises(ImageReadError, match="cut off"):
            read_image(io.BytesIO(whole[:-missing]))


@pytest.mark.parametrize(
    ("form", "unused_tail"),
    [
        ("PNG", 4),  # the checksum of its empty end mark
        ("WEBP", 0),
        ("TIFF", 0),
        ("JPEG2000", 0),
        ("PPM", 0),
        ("GIF", 2),  # its last bytes say only that nothing follows
        ("BMP", 2),  # padding
    ],
)
@given(st.data())
@settings(max_examples=30, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on torn metadata
def test_other_formats_cut_off_are_refused(form, unused_tail, data):
    whole = encoded(noise(9, 10), form)
    length = data.draw(st.integers(0, len(whole) - 1 - unused_tail))

    with pytest.raises(ImageReadError):
        read_image(io.BytesIO(whole[:length]))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_flipped_bit_in_a_png_is_caught_by_its_checksums(data):
    damaged = bytearray(encoded(noise(9, 10), "PNG"))
    checked = len(damaged) - 12  # the last twelve bytes only say that nothing follows
    damaged[data.draw(st.integers(0, checked - 1))] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(ImageReadError):
        read_image(io.BytesIO(bytes(damaged)))


@given(st.binary(max_size=300), st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]))
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_garbage_behind_a_sound_beginning_never_raises_anything_else(garbage, form):
    with contextlib.suppress(ImageReadError):
        read_image(io.BytesIO(encoded(noise(5, 5), form)[:40] + garbage))


def test_bytes_after_the_end_of_a_jpeg_do_no_harm():
    whole = encoded(noise(9, 10), "JPEG")

    assert np.array_equal(
        read_image(io.BytesIO(whole + b"motion photo")).pixels, read_image(io.BytesIO(whole)).pixels
    )


def test_a_program_that_allows_truncated_files_gets_neither_gray_nor_its_switch_changed(
    monkeypatch,
):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)

    with pytest.raises(ImageReadError, match="cut off"):
        read_image(io.BytesIO(encoded(noise(48, 40), "JPEG")[:-500]))
    assert read_image(io.BytesIO(encoded(noise(48, 40), "JPEG"))).pixels.shape == (48, 40, 3)

    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert Image.MAX_IMAGE_PIXELS == 10


def test_pillows_switches_stay_strict_until_the_last_of_several_readers_left(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    inside, leave = threading.Event(), threading.Event()

    def read_slowly() -> None:
        with images._strict_pillow():
            inside.set()
            leave.wait(10)

    reader = threading.Thread(target=read_slowly)
    reader.start()
    inside.wait(10)
    read_image(io.BytesIO(encoded(noise(5, 5), "PNG")))
    still_strict = not ImageFile.LOAD_TRUNCATED_IMAGES
    leave.set()
    reader.join(10)

    assert still_strict
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [13_500, 30_000])
def test_a_decompression_bomb_is_refused_by_its_header(side):
    bomb = bytearray(encoded(noise(1, 1), "BMP"))
    bomb[18:26] = side.to_bytes(4, "little") * 2

    with pytest.raises(ImageReadError, match="megapixels"):
        read_image(io.BytesIO(bytes(bomb)))


def test_pillows_own_smaller_limit_does_not_apply(recwarn, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)

    assert read_image(io.BytesIO(encoded(noise(9, 10), "PNG"))).pixels.shape == (9, 10, 3)
    assert not recwarn.list


def test_fifty_to_one_is_read_and_beyond_is_refused():
    assert read_image(io.BytesIO(encoded(noise(2, 100), "PNG"))).pixels.shape == (2, 100, 3)
    for shape in ((2, 101), (101, 2)):
        with pytest.raises(ImageReadError, match="50 times longer"):
            read_image(io.BytesIO(encoded(noise(*shape), "PNG")))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"just a few words\n", "is text"),
        ("Größe: 3 Äpfel".encode(), "is text"),
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"%PDF-1.7\n", "is a PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"\xff\x0a\x01\x01", "is in JPEG XL"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is HDF5"),
        (b"<svg xmlns=''></svg>", "is an XML or SVG"),
        (b"\x00\x01\x02\x03nothing", "not an image of a known format"),
        (b"\xff\xd8\xff\xe0", "cut off or broken"),
        (b"\x00\x00\x00\x20ftypisom\x00\x00", "is a video"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "EPS"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(tmp_path, content, reason):
    path = tmp_path / "photo[1].jpg"
    path.write_bytes(content)

    with pytest.raises(ImageReadError, match=reason) as caught:
        read_image(path)

    assert str(caught.value).startswith(str(path))


def test_a_zip_archive_named_like_a_photograph_is_refused(tmp_path):
    path = tmp_path / "x.jpg"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", encoded(noise(5, 5), "JPEG"))

    with pytest.raises(ImageReadError, match="ZIP archive"):
        read_image(path)


def test_the_content_decides_not_the_suffix(tmp_path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(noise(5, 6), "PNG"))

    assert np.array_equal(read_image(path).pixels, noise(5, 6))


def test_a_missing_file_a_folder_and_a_dangling_link_are_told_apart(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("gone.jpg")

    for name, reason in (
        ("missing.jpg", "does not exist"),
        ("folder.jpg", "is a folder"),
        ("link.jpg", "is a link to gone.jpg, which does not exist"),
    ):
        with pytest.raises(ImageReadError, match=reason) as caught:
            read_image(tmp_path / name)
        assert caught.value.hint


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_file_without_permission_says_so(tmp_path, monkeypatch):
    path = tmp_path / "secret.jpg"
    path.write_bytes(encoded(noise(5, 5), "JPEG"))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything: let the system call refuse

        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(ImageReadError, match="may not be read"):
        read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_nobody_writes_to_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")

    with pytest.raises(ImageReadError, match="empty"):
        read_image(tmp_path / "pipe.jpg")


def test_a_pipe_is_read_to_its_end():
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as stream:
        stream.write(encoded(noise(5, 6), "PNG"))

    with os.fdopen(reading, "rb") as stream:
        assert np.array_equal(read_image(stream, "stdin").pixels, noise(5, 6))


def test_an_endless_pipe_is_refused(monkeypatch):
    monkeypatch.setattr(images, "MAX_STREAM_BYTES", 1000)
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as stream:
        stream.write(b"y\n" * 2000)

    with (
        os.fdopen(reading, "rb") as stream,
        pytest.raises(ImageReadError, match="stdin continues"),
    ):
        read_image(stream, "stdin")


def test_the_first_page_is_read_and_the_pages_are_counted():
    pages = [Image.fromarray(noise(5, 6, seed)) for seed in range(3)]
    stream = io.BytesIO()
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])

    photo = read_image(stream)

    assert photo.pages == 3
    assert np.array_equal(photo.pixels, noise(5, 6, 0))


def test_the_first_frame_of_an_animation_is_read():
    frames = [Image.new("RGB", (5, 6), colour) for colour in ("red", "lime", "blue")]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])

    photo = read_image(stream)

    assert photo.pages == 3
    assert photo.pixels[0, 0].tolist() == [255, 0, 0]


def test_the_extra_pictures_of_a_phone_jpeg_are_not_pages():
    stream = io.BytesIO()
    pages = [Image.fromarray(noise(16, 16, seed)) for seed in range(2)]
    pages[0].save(stream, "MPO", save_all=True, append_images=pages[1:])

    assert read_image(stream).pages == 1


def test_a_camera_raw_file_is_not_counted_by_its_thumbnail():
    stream = io.BytesIO()
    Image.fromarray(noise(5, 6)).save(stream, "TIFF", tiffinfo={254: 1})

    with pytest.raises(ImageReadError, match="only a thumbnail"):
        read_image(stream)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_read():
    pixels = read_image(io.BytesIO(encoded(np.full((8, 9, 3), 200, np.uint8), "AVIF"))).pixels

    assert pixels.shape == (8, 9, 3)
    assert pixels.mean() == pytest.approx(200, abs=3)


def test_heic_is_read_where_the_extra_is_installed():
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), (10, 200, 30))).save(stream)

    assert read_image(stream).pixels[24, 32] == pytest.approx((10, 200, 30), abs=6)


def test_heic_without_the_extra_names_the_extra(monkeypatch):
    monkeypatch.setattr(pillow_frames, "_add_heif_reader", lambda: None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setattr(Image, "ID", [form for form in Image.ID if form != "HEIF"])

    with pytest.raises(ImageReadError, match="HEIC") as caught:
        read_image(io.BytesIO(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"))

    assert "pip install pillow-heif" in caught.value.hint  # also right for a checkout
    assert "clipcount-cli[heif]" in caught.value.hint


def test_a_path_a_pil_image_and_an_array_give_the_same_pixels(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(noise(5, 6), "PNG"))

    for image in (path, str(path), Image.open(path), noise(5, 6)):
        assert np.array_equal(as_pixels(image), noise(5, 6))


@pytest.mark.parametrize(
    "array", [np.zeros((5, 6), np.uint8), np.zeros((3, 5, 6), np.uint8), np.zeros((5, 6, 3))]
)
def test_an_array_of_another_shape_or_type_is_refused_with_both(array):
    with pytest.raises(ImageReadError, match=r"expected uint8 \(H, W, 3\)"):
        as_pixels(array)


def test_arrays_are_held_to_the_same_limits():
    with pytest.raises(ImageReadError, match="50 times longer"):
        as_pixels(np.zeros((1, 51, 3), np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".jpeg"])
def test_pixels_are_written_by_the_suffix_with_nothing_left_beside(tmp_path, suffix):
    path = tmp_path / f"heat{suffix}"
    path.write_bytes(b"older")
    pixels = np.full((8, 8, 3), 99, np.uint8)

    write_image(path, pixels)

    assert np.abs(read_image(path).pixels.astype(int) - pixels).max() <= 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()

    write_image(tmp_path / "heat.png", noise(4, 4))

    assert (tmp_path / "heat.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", ["heat.gif", "heat", "missing/heat.png"])
def test_an_unknown_suffix_or_folder_is_a_usage_error(tmp_path, name):
    with pytest.raises(UsageError) as caught:
        write_image(tmp_path / name, noise(4, 4))

    assert caught.value.hint


def test_an_overlong_name_is_told_in_words(tmp_path):
    path = tmp_path / ("x" * 300 + ".png")

    with pytest.raises(ImageReadError, match="cannot be read"):
        read_image(path)
    with pytest.raises(ClipCountError, match="cannot write"):
        write_image(path, noise(4, 4))


def test_a_picture_too_long_for_jpeg_names_png(tmp_path):
    with pytest.raises(UsageError, match="too many for a JPEG"):
        write_image(tmp_path / "heat.jpg", np.zeros((1, 70_000, 3), np.uint8))


def test_a_failed_write_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "heat.png"
    path.write_bytes(b"older")

    def disk_full(_, unfinished, *args, **options):
        unfinished.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", disk_full)

    with pytest.raises(ClipCountError, match="no space left"):
        write_image(path, noise(4, 4))
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_every_suffix_searched_for_is_lower_case_and_pillow_knows_it():
    Image.init()
    known = set(Image.registered_extensions()) | {".heic", ".heif", ".hif", ".avif"}

    assert known >= images.IMAGE_SUFFIXES
    assert all(Path("x" + suffix).suffix == suffix.lower() for suffix in images.IMAGE_SUFFIXES)
