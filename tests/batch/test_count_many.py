"""`counter.count_many`: the batch engine from Python."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_models import save_small

from clipcount_cli import load_counter
from clipcount_cli.errors import UsageError


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    return load_counter(save_small(path, readout="eot"), device="cpu", precision="fp32")


def noise(seed, width=96, height=64):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_many_images_count_as_each_alone_in_order(counter, tmp_path):
    Image.fromarray(noise(1)).save(tmp_path / "1.png")
    images = [tmp_path / "1.png", noise(2), Image.fromarray(noise(3, 64, 96))]

    many = list(counter.count_many(images, ["dots", "beads", "dots"]))

    assert len(many) == 3
    for image, counts in zip(images, many, strict=True):
        alone = counter.count(image, ["dots", "beads", "dots"])
        assert [result.prompt for result in counts] == ["dots", "beads", "dots"]
        for result, single in zip(counts, alone, strict=True):
            assert result.count == pytest.approx(single.count, rel=1e-4)
            assert result.density.shape == single.density.shape


@pytest.mark.filterwarnings("ignore:.*never taught")
def test_an_image_that_cannot_be_read_spoils_no_other(counter, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not an image")

    with pytest.warns(UserWarning, match=r"broken\.jpg"):
        first, broken, last = counter.count_many(
            [noise(1), str(tmp_path / "broken.jpg"), noise(2)], "dots"
        )

    assert (len(first), len(broken), len(last)) == (1, 0, 1)
    assert first.error is None
    assert "broken.jpg" in str(broken.error)


@pytest.mark.filterwarnings("ignore:.*never taught")
def test_an_image_that_is_shrunk_too_far_is_a_warning_as_for_one_image(counter):
    large = np.zeros((1600, 1700, 3), np.uint8)

    with pytest.warns(UserWarning, match=r"image 0: shrunk 4x, try tiles=2"):
        [counts] = counter.count_many([large], "dots")

    assert [notice.brief for notice in counts.notices] == ["shrunk 4x, try --tiles 2"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_images_are_taken_as_they_are_needed(counter):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield noise(len(taken))

    counts = counter.count_many(endless(), "dots")
    next(counts)
    counts.close()

    assert len(taken) < 200


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_page_is_chosen_of_each_and_overlays_have_the_size_of_their_image(counter, tmp_path):
    pages = [Image.fromarray(noise(seed)) for seed in (1, 2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

    [counts] = counter.count_many([tmp_path / "a.tif"], "dots", page=2)

    assert counts[0].count == pytest.approx(counter.count(noise(2), "dots")[0].count, rel=1e-4)
    assert counts[0].overlay().size == (96, 64)


def test_no_prompt_counts_nothing(counter):
    assert [list(counts) for counts in counter.count_many([noise(1), noise(2)], [])] == [[], []]


@pytest.mark.parametrize(("prompts", "tiles"), [("", 1), (["dots", " "], 1), ("dots", 0)])
def test_what_count_refuses_is_refused_at_once(prompts, tiles, counter):
    with pytest.raises(UsageError):
        counter.count_many([noise(1)], prompts, tiles)


@pytest.mark.parametrize(
    "image",
    [
        "a.jpg",
        Path("a.jpg"),
        b"jpeg",
        io.BytesIO(b"jpeg"),
        noise(1),
        Image.new("RGB", (9, 9)),
        None,
    ],
    ids=lambda image: type(image).__name__,
)
def test_one_image_instead_of_several_is_refused_at_once(counter, image):
    with pytest.raises(UsageError, match="takes several images, not one"):
        counter.count_many(image, "dots")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_batch_of_arrays_is_several_images(counter):
    batch = np.stack([noise(1), noise(2)])

    assert len(list(counter.count_many(batch, "dots"))) == 2


def test_a_warning_names_the_path_of_its_image(counter, tmp_path):
    pages = [Image.fromarray(noise(seed)) for seed in (1, 2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])

    with pytest.warns(UserWarning, match="a.tif: first of 2 pages"):
        list(counter.count_many([tmp_path / "a.tif"], "dots"))
