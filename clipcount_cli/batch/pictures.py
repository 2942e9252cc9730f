"""What a batch draws of each result: a heatmap on disk, thumbnails for the report.

Called by pipeline.py in its workers, before the row is written: a row on disk has its images.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from clipcount_cli.batch.plan import Job
from clipcount_cli.config import DENSITY_SCALE
from clipcount_cli.counting.counter import CountResult
from clipcount_cli.counting.heatmap import colour_ramp
from clipcount_cli.counting.images import write_image
from clipcount_cli.counting.windows import Density, Pixels
from clipcount_cli.files import write_error

THUMBNAIL_PX = (400, 300)  # about 15 KB: sharp on a phone, a page of thousands still opens
OVERLAY_PX = (160, 120)  # the browser smooths it; a density has no finer detail at this size
OVERLAY_LEVELS = 64
MAX_NAME_BYTES = 200  # file systems allow 255, and a temporary file may add to it


class Thumbnail(NamedTuple):
    """An image and where the objects are, small enough for a page of thousands."""

    photo: bytes  # JPEG
    overlay: bytes  # PNG, transparent where the density is zero


@dataclass(frozen=True)
class Pictures:
    """Draws what was requested."""

    heatmaps: Path | None = None
    heatmap_suffix: str = ".png"
    thumbnails: bool = False

    def __call__(self, job: Job, pixels: Pixels, result: CountResult) -> Thumbnail | None:
        """Write the heatmap of one result; return its thumbnail."""
        if self.heatmaps is not None:
            from clipcount_cli.counting import heatmap

            path = heatmap_path(self.heatmaps, job.image, result.prompt, self.heatmap_suffix)
            _make_folder(path.parent)
            write_image(path, heatmap.panels(pixels, [result]))
        return thumbnail(pixels, result.density) if self.thumbnails else None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error


def heatmap_path(folder: Path, image: str, prompt: str, suffix: str = ".png") -> Path:
    """Where a heatmap lies: in the image's own sub-folder; no two results share a path.

    The prompt is the part between the last two dots and holds none itself, so the rest is the
    image's whole name. What the name cannot say as it is is told apart by a digest.
    """
    parts = [part for part in image.split("/") if part not in ("", ".")]
    clean = [_file_name(part) for part in parts]
    name = "/".join(clean)
    if name != image:  # given as /a/b.jpg, ../b.jpg or with characters no file name may have
        clean[-1] = f"{clean[-1]}-{_digest(image)}"
    slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40] or "prompt"
    if slug.replace("-", " ") != prompt:
        slug = f"{slug}-{_digest(prompt)}"
    last = f"{clean[-1]}.{slug}{suffix}"
    if len(last.encode()) > MAX_NAME_BYTES:
        last = f"{_digest(clean[-1])}{_digest(clean[-1][::-1])}.{slug}{suffix}"
    return folder.joinpath(*clean[:-1], last)


def _file_name(part: str) -> str:
    return re.sub(r'[<>:"\\|?*\x00-\x1f]', "_", part).replace("..", "__")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def thumbnail(pixels: Pixels, density: Density) -> Thumbnail:
    """Shrink an image (H, W, 3) and its density (h, w) of any scale."""
    photo = Image.fromarray(pixels)
    photo.thumbnail(THUMBNAIL_PX, Image.Resampling.BILINEAR, reducing_gap=2.0)
    jpeg = io.BytesIO()
    photo.save(jpeg, "JPEG", quality=72, optimize=True)
    return Thumbnail(jpeg.getvalue(), _overlay(density))


def _overlay(density: Density) -> bytes:
    """Density as a palette PNG in the colours of a heatmap, clear where there is nothing."""
    seen = Image.fromarray(density * np.float32(DENSITY_SCALE))
    seen.thumbnail(OVERLAY_PX, Image.Resampling.BOX)
    levels = np.rint(np.sqrt(np.clip(np.asarray(seen), 0, 1)) * (OVERLAY_LEVELS - 1))
    image = Image.fromarray(levels.astype(np.uint8)).convert("P")
    ramp = colour_ramp(OVERLAY_LEVELS)
    image.putpalette(ramp[:, :3].tobytes())
    png = io.BytesIO()
    image.save(png, "PNG", transparency=ramp[:, 3].tobytes(), optimize=True)
    return png.getvalue()
