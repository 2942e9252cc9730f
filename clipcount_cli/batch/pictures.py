"""Make what was requested of each result: heatmap, positions, thumbnail, counts of regions.

pipeline.py calls it in a worker before the row is written, so a row on disk has its files.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from clipcount_cli.batch import points
from clipcount_cli.batch.masks import find_mask
from clipcount_cli.batch.names import result_path
from clipcount_cli.batch.plan import Job
from clipcount_cli.config import DENSITY_SCALE
from clipcount_cli.counting.heatmap import colour_ramp, panels
from clipcount_cli.counting.images import stored_page, write_image
from clipcount_cli.counting.masks import read_mask
from clipcount_cli.counting.page_names import page_name, split_page
from clipcount_cli.counting.results import CountResult
from clipcount_cli.counting.stacks import FIRST_PAGE
from clipcount_cli.counting.windows import Density, Pixels
from clipcount_cli.files import write_error

THUMBNAIL_PX = (400, 300)  # about 15 KB: sharp on a phone, a page of thousands still opens
OVERLAY_PX = (160, 120)  # the browser smooths it; a density has no finer detail at this size
OVERLAY_LEVELS = 64


class Thumbnail(NamedTuple):
    """An image and where the objects are, small enough for a page of thousands."""

    photo: bytes  # JPEG
    overlay: bytes  # PNG, transparent where the density is zero


class Made(NamedTuple):
    """What is made of one result, in addition to files."""

    thumbnail: Thumbnail | None = None
    regions: tuple[tuple[str, float], ...] | None = None  # name and count; None without a mask


@dataclass(frozen=True)
class ResultMaker:
    """Makes what was requested of each result."""

    heatmaps: Path | None = None
    heatmap_suffix: str = ".png"
    points: Path | None = None
    masks: Path | None = None
    thumbnails: bool = False

    @property
    def needed(self) -> bool:
        """Whether anything was requested."""
        return self.thumbnails or self.needs_full_size

    @property
    def needs_full_size(self) -> bool:
        """Whether the image is needed at its own size, not as the network sees it."""
        return any(path is not None for path in (self.heatmaps, self.points, self.masks))

    def __call__(self, job: Job, pixels: Pixels, result: CountResult) -> Made:
        """Write the files of one result; return the rest.

        Raises ImageReadError if the mask of the image cannot be read or does not fit.
        """
        size = (pixels.shape[1], pixels.shape[0])
        regions = None
        if self.masks is not None:
            mask = find_mask(self.masks, job.image) or self.masks / job.image
            labels = read_mask(mask, *size, job.page)
            counts = labels.counts(result.density)
            regions = tuple(zip(labels.names, counts, strict=True))
            result = result.inside(labels)
        if self.heatmaps is not None:
            path = _path_in(self.heatmaps, job, result, self.heatmap_suffix)
            write_image(path, panels(pixels, [result]))
        if self.points is not None:
            path = _path_in(self.points, job, result, points.SUFFIX)
            points.write_points(path, _page_read(job), size, result)
        return Made(thumbnail(pixels, result.density) if self.thumbnails else None, regions)


def _page_read(job: Job) -> str:
    """The name by which `train` finds the image: with the page counted, as the file numbers it."""
    named = split_page(job.image)
    split = named is not None and named[1] == job.page
    if job.selection == FIRST_PAGE or (split and job.channel is None):
        return job.image
    image = named[0] if named and split else job.image
    number = stored_page(Path(job.path), job.image, job.selection)
    return image if number is None else page_name(image, number)


def _path_in(folder: Path, job: Job, result: CountResult, suffix: str) -> Path:
    path = result_path(folder, job.image, result.prompt, suffix)
    _make_folder(path.parent)
    return path


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error


def thumbnail(pixels: Pixels, density: Density) -> Thumbnail:
    """Shrink an image (H, W, 3) and its density (h, w) of any scale."""
    photo = Image.fromarray(pixels)
    photo.thumbnail(THUMBNAIL_PX, Image.Resampling.BILINEAR, reducing_gap=2.0)
    jpeg = io.BytesIO()
    photo.save(jpeg, "JPEG", quality=72, optimize=True)
    return Thumbnail(jpeg.getvalue(), _overlay(density))


def _overlay(density: Density) -> bytes:
    """Draw a density as a palette PNG in the colours of a heatmap, transparent where it is zero."""
    seen = Image.fromarray(density * np.float32(DENSITY_SCALE))
    seen.thumbnail(OVERLAY_PX, Image.Resampling.BOX)
    levels = np.rint(np.sqrt(np.clip(np.asarray(seen), 0, 1)) * (OVERLAY_LEVELS - 1))
    image = Image.fromarray(levels.astype(np.uint8)).convert("P")
    ramp = colour_ramp(OVERLAY_LEVELS)
    image.putpalette(ramp[:, :3].tobytes())
    png = io.BytesIO()
    image.save(png, "PNG", transparency=ramp[:, 3].tobytes(), optimize=True)
    return png.getvalue()
