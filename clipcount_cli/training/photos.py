"""Images decoded and resized once, and kept: in memory, then in a file that is mapped.

[photos.py] -> sampler.py -> loop.py. Training must never wait for a JPEG.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from clipcount_cli import console
from clipcount_cli.config import WindowConfig
from clipcount_cli.counting.notices import over_images
from clipcount_cli.counting.plausibility import size_notice
from clipcount_cli.counting.windows import Pixels, resize_shorter_side
from clipcount_cli.data.samples import (
    Prepared,
    Sample,
    Source,
    by_image,
    prepare_pixels,
    read_pixels,
)
from clipcount_cli.errors import DataError, ImageReadError, quantity, shortened
from clipcount_cli.files import write_error

_READERS = 8  # threads that decode

Points = NDArray[np.float32]


@dataclass(frozen=True)
class TrainingImage:
    """An image at training size, and where the objects of each of its prompts are."""

    name: str
    path: Path
    pixels: Pixels  # (H, W, 3), the shorter side as that of `tiles` windows
    points_px: dict[str, Points]  # prompt -> (K, 2) as (x, y) in `pixels`
    truths: dict[str, int] = field(default_factory=dict)  # prompt -> count by the data's protocol
    remark: str = ""  # what limits what can be learned from it
    page: int = 1  # of the file at `path`

    @property
    def source(self) -> Source:
        return self.path, self.page

    def prepared(self, samples: Sequence[Sample]) -> list[Prepared]:
        """What `evaluation` needs, without reading the file again."""
        return [
            Prepared(self.pixels, self.points_px[s.prompt], self.truths[s.prompt]) for s in samples
        ]


class PixelCache:
    """Keeps arrays in memory up to a limit, beyond it in one temporary file in `folder`."""

    def __init__(self, limit_bytes: float, folder: Path) -> None:
        self._left_bytes = limit_bytes
        self._folder = folder
        self._file: IO[bytes] | None = None

    def keep(self, pixels: Pixels) -> Pixels:
        """The same pixels, wherever they are kept from now on."""
        if pixels.nbytes <= self._left_bytes:
            self._left_bytes -= pixels.nbytes
            return np.ascontiguousarray(pixels)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
            offset = self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(pixels).data)
            self._file.flush()
        except OSError as error:
            raise write_error(self._folder, error) from error
        return np.memmap(self._file, np.uint8, "r", offset, pixels.shape)


def read_photos(
    samples: Iterable[Sample], cache: PixelCache, title: str, tiles: int = 1
) -> list[TrainingImage]:
    """Decode and resize every image once; DataError names all that cannot be read.

    tiles: the shorter side becomes that of so many windows.
    """
    pictures = by_image(samples)
    photos: list[TrainingImage] = []
    faults: list[str] = []
    with (
        console.progress(title, len(pictures), "images") as bar,
        ThreadPoolExecutor(_READERS) as pool,
    ):
        for outcome in pool.map(partial(_read, tiles=tiles), pictures):
            bar.advance()
            if isinstance(outcome, ImageReadError):
                faults.append(outcome.with_hint)
            else:
                photos.append(replace(outcome, pixels=cache.keep(outcome.pixels)))
    if faults:
        listed = shortened(faults, separator="\n")
        raise DataError(
            f"{quantity(len(faults), 'image')} cannot be read:\n{listed}",
            hint="fix or remove them; nothing has been started",
        )
    for remark in over_images((photo.name, photo.remark) for photo in photos):
        console.notice(remark)
    return photos


def _read(picture: Sequence[Sample], tiles: int) -> TrainingImage | ImageReadError:
    try:
        pixels = read_pixels(picture[0])
    except ImageReadError as error:
        return error
    laid_out = [prepare_pixels(sample, pixels) for sample in picture]
    whole = laid_out[0].pixels
    resized = resize_shorter_side(whole, tiles * WindowConfig.side_px)
    notice = size_notice(min(whole.shape[:2]), tiles, WindowConfig.side_px)
    scale = np.array(resized.shape[1::-1]) / np.array(whole.shape[1::-1])
    points = {
        sample.prompt: (prepared.points_px * scale).astype(np.float32)
        for sample, prepared in zip(picture, laid_out, strict=True)
    }
    truths = {s.prompt: p.truth for s, p in zip(picture, laid_out, strict=True)}
    remark = notice.brief if notice else ""
    path, page = picture[0].source
    return TrainingImage(picture[0].name, path, resized, points, truths, remark, page)
