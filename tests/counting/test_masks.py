"""Masks as drawing programs, label editors and cell segmenters write them."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from clipcount_cli.counting.masks import read_mask
from clipcount_cli.errors import ImageReadError

WIDTH, HEIGHT = 60, 40


def halves(left, right, dtype=np.uint8):
    values = np.full((HEIGHT, WIDTH), left, dtype=dtype)
    values[:, WIDTH // 2 :] = right
    return values


def saved(image, path, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def shares(labels):
    """The share of the image that each region covers."""
    flat = np.ones((1, 1), np.float32)
    return dict(zip(labels.names, np.round(labels.counts(flat), 3).tolist(), strict=True))


@pytest.mark.parametrize("white", [1, 2, 200, 255])
def test_a_two_valued_mask_is_one_region(white, tmp_path):
    mask = saved(halves(0, white), tmp_path / "m.png")

    assert shares(read_mask(mask, WIDTH, HEIGHT)) == {"inside": 0.5}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"])
def test_black_and_white_means_the_same_in_every_mode(mode, tmp_path):
    image = Image.fromarray(halves(0, 255)).convert(mode)
    suffix = "png" if mode != "F" else "tif"

    mask = saved(image, tmp_path / f"m.{suffix}")

    assert shares(read_mask(mask, WIDTH, HEIGHT)) == {"inside": 0.5}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_a_label_image_is_a_region_per_label_and_none_for_its_ground(dtype, tmp_path):
    values = halves(0, 3, dtype)
    values[: HEIGHT // 2] = 7

    mask = saved(values, tmp_path / "m.tif")

    assert shares(read_mask(mask, WIDTH, HEIGHT)) == {"3": 0.25, "7": 0.5}


def test_labels_that_leave_no_ground_are_all_regions(tmp_path):
    mask = saved(halves(1, 2), tmp_path / "m.png")

    assert shares(read_mask(mask, WIDTH, HEIGHT)) == {"1": 0.5, "2": 0.5}


def test_a_palette_of_a_label_editor_keeps_its_numbers(tmp_path):
    image = Image.fromarray(halves(1, 2), "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])

    mask = saved(image, tmp_path / "m.png")

    assert shares(read_mask(mask, WIDTH, HEIGHT)) == {"1": 0.5, "2": 0.5}


def test_a_palette_that_begins_with_white_is_read_by_its_colours(tmp_path):
    image = Image.fromarray(halves(0, 1), "P")
    image.putpalette([255, 255, 255, 0, 0, 0])

    mask = saved(image, tmp_path / "m.png")

    labels = read_mask(mask, WIDTH, HEIGHT)
    assert labels.names == ("inside",)
    assert labels.index[:, 0].all()
    assert not labels.index[:, -1].any()


def test_painted_colours_are_regions_named_like_them(tmp_path):
    colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colours[:, : WIDTH // 2] = (255, 0, 0)
    colours[: HEIGHT // 2, WIDTH // 2 :] = (0, 128, 255)

    mask = saved(colours, tmp_path / "m.png")

    assert shares(read_mask(mask, WIDTH, HEIGHT)) == {"#0080ff": 0.25, "#ff0000": 0.5}


def test_transparent_pixels_are_outside(tmp_path):
    rgba = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    rgba[:, : WIDTH // 2, 3] = 0

    mask = saved(rgba, tmp_path / "m.png")

    assert shares(read_mask(mask, WIDTH, HEIGHT)) == {"inside": 0.5}


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_soft_edges_do_not_make_a_label_image(suffix, tmp_path):
    image = Image.fromarray(halves(0, 255)).resize(
        (6 * WIDTH, 6 * HEIGHT), Image.Resampling.NEAREST
    )
    if suffix == "png":
        image = image.filter(ImageFilter.GaussianBlur(1))

    mask = saved(image, tmp_path / f"m.{suffix}")

    labels = read_mask(mask, 6 * WIDTH, 6 * HEIGHT)
    assert labels.names == ("inside",)
    assert shares(labels)["inside"] == pytest.approx(0.5, abs=0.01)


def test_a_mask_is_turned_upright_as_its_image_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6

    mask = saved(Image.fromarray(halves(0, 255)), tmp_path / "m.png", exif=exif)

    assert read_mask(mask, HEIGHT, WIDTH).index[-1].all()


@pytest.mark.parametrize(
    ("size", "said"), [((HEIGHT, WIDTH), "EXIF"), ((WIDTH // 2, HEIGHT // 2), "full size")]
)
def test_a_mask_of_another_size_is_refused_with_both_sizes(size, said, tmp_path):
    mask = saved(Image.new("L", size, 255), tmp_path / "m.png")

    with pytest.raises(ImageReadError, match=f"{size[0]} x {size[1]}.*60 x 40") as refused:
        read_mask(mask, WIDTH, HEIGHT)

    assert said in refused.value.hint


def write_pages(path):
    pages = [Image.fromarray(halves(0, 255))] * 2
    pages[0].save(path, save_all=True, append_images=pages[1:])


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"not a mask"), "cannot be read"),
        (lambda path: saved(halves(0, 0), path, format="PNG"), "all black"),
        (write_pages, "2 pages"),
    ],
)
def test_what_draws_no_region_is_refused_by_name(write, said, tmp_path):
    mask = tmp_path / "mask.tif"
    write(mask)

    with pytest.raises(ImageReadError, match=said) as refused:
        read_mask(mask, WIDTH, HEIGHT)

    assert "mask.tif" in str(refused.value)
    assert refused.value.hint


def test_a_cut_off_mask_is_refused(tmp_path):
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
    Image.fromarray(noise).save(data, "PNG")
    mask = tmp_path / "mask.png"
    mask.write_bytes(data.getvalue()[: len(data.getvalue()) // 2])

    with pytest.raises(ImageReadError, match="cannot be read"):
        read_mask(mask, WIDTH, HEIGHT)


def test_a_stack_of_masks_holds_one_for_each_page(tmp_path):
    mask = tmp_path / "m.tif"
    pages = [Image.fromarray(halves(0, 255)), Image.fromarray(halves(255, 255))]
    pages[0].save(mask, save_all=True, append_images=pages[1:])

    assert shares(read_mask(mask, WIDTH, HEIGHT, page=1)) == {"inside": 0.5}
    assert shares(read_mask(mask, WIDTH, HEIGHT, page=2)) == {"inside": 1}
    with pytest.raises(ImageReadError, match="has 2 pages, no page 3"):
        read_mask(mask, WIDTH, HEIGHT, page=3)
    for page in (None, "max"):
        with pytest.raises(ImageReadError, match="has 2 pages") as refused:
            read_mask(mask, WIDTH, HEIGHT, page)
        assert refused.value.hint == "save a single page"
