"""Pages of a stack that stays open: the same pixels as if each page were read by itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from clipcount_cli.counting import images
from clipcount_cli.counting.images import read_image
from clipcount_cli.counting.open_stacks import OpenStacks
from clipcount_cli.counting.stacks import Selection
from clipcount_cli.errors import ImageReadError

SHAPES = [(20, 30), (20, 30, 3), (25, 10), (20, 30, 4), (2, 200)]  # the last one is too long
SAMPLES = [np.uint8, np.uint16, np.float32, np.int8, np.uint32]


@pytest.fixture
def stacks():
    opened = OpenStacks()
    yield opened
    opened.close()


@pytest.fixture
def opened(monkeypatch):
    """The streams of all files that are opened."""
    streams = []
    really_open = images._open_unblocked

    def remember(path):
        streams.append(really_open(path))
        return streams[-1]

    monkeypatch.setattr(images, "_open_unblocked", remember)
    return streams


def save_gray(path, pages):
    first, *others = (Image.new("L", (8, 6), level) for level in range(pages))
    first.save(path, save_all=True, append_images=others)


def content(read, path, page, channel=None):
    try:
        decoded = read(path, path.name, Selection(page, channel))
    except ImageReadError as error:
        return str(error)
    return decoded.pixels.tolist(), decoded.notices, decoded.pages


def save_mixed(path, rng, pages):
    """Pages whose kind, size, compression and profile change from one to the next."""
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(path) as writer:
        for number in range(pages):
            shape = SHAPES[rng.integers(len(SHAPES) if number else 1)]
            samples = SAMPLES if len(shape) == 2 else SAMPLES[:2]
            values = (rng.random(shape) * 120).astype(samples[rng.integers(len(samples))])
            kind = "rgb" if len(shape) == 3 else "minisblack"
            more = {"extrasamples": ["unassalpha"]} if shape[2:] == (4,) else {}
            packed = {"compression": "zlib"} if rng.random() < 0.5 else {}
            writer.write(values, photometric=kind, metadata=None, **more, **packed)


@pytest.mark.parametrize("channel", [None, 1])
@pytest.mark.parametrize("seed", range(3))
def test_pages_of_an_open_stack_are_those_of_the_file(tmp_path, stacks, seed, channel):
    path = tmp_path / "mixed.tif"
    save_mixed(path, np.random.default_rng(seed), 24)
    pages = [*range(1, 26), 4, 4, 2]  # in order, one that does not exist, twice, and back

    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(lambda page: content(stacks.read, path, page, channel), pages)]
    one_by_one = [content(stacks.read, path, page, channel) for page in pages]

    assert sum(isinstance(each, str) for each in found) < len(pages) / 2
    assert found == one_by_one == [content(read_image, path, page, channel) for page in pages]


def test_a_stack_is_opened_once_for_all_its_pages(tmp_path, stacks, opened):
    save_gray(tmp_path / "a.tif", 5)

    decoded = [stacks.read(tmp_path / "a.tif", "a", Selection(page)) for page in range(1, 6)]

    assert [image.pixels[0, 0].tolist() for image in decoded] == [[n] * 3 for n in range(5)]
    assert len(opened) == 1


def test_files_are_closed_when_another_is_read_and_at_the_end(tmp_path, stacks, opened):
    for name in ("a.tif", "b.tif"):
        save_gray(tmp_path / name, 2)
        stacks.read(tmp_path / name, name, Selection(1))

    assert [stream.closed for stream in opened] == [True, False]

    stacks.close()

    assert opened[1].closed
