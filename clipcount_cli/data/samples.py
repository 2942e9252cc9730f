"""One image, one prompt, its dots; and how a data set's protocol lays them out for counting.

Data set -> samples, step 1 of 3: [samples.py] <- fsc147.py, carpk.py, shanghaitech.py, custom.py
<- datasets.py. A protocol is what the authors' evaluation does to an image before its windows are
cut, and which number it then takes as true; upstream's figures only come out with its own protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from PIL import Image

from clipcount_cli.errors import UsageError

Source = tuple[Path, int]  # an image file and its page, from 1
Protocol = Literal["fsc147", "carpk", "shanghaitech", "own"]
OWN: Final = "own"  # the protocol and name of a data set that is none of the published ones
FSC147_MULTIPLE_PX = 16  # its evaluation rounds both sides down to multiples of CLIP's patch


@dataclass(frozen=True, eq=False)
class Sample:
    """The objects of one prompt in one image. Samples of the same image share `source`."""

    name: str  # as the data set calls the picture
    image: Path
    prompt: str
    points_px: np.ndarray  # (K, 2) float32 as (x, y), in pixels of the upright full-size picture
    protocol: Protocol = OWN
    stated_size: tuple[int, int] | None = None  # (width, height) by the annotations
    count: int | None = None  # the true count, if it is known without positions
    uncounted: frozenset[str] = frozenset()  # what else the picture shows, without a true count
    page: int | None = None  # of a stack, from 1; None: not named, the first is read

    @property
    def source(self) -> Source:
        """Which file, and which page of it, the pixels are read from."""
        return self.image, self.page or 1

    @property
    def truth(self) -> int:
        """How many objects the annotations give."""
        return len(self.points_px) if self.count is None else self.count


class Prepared(NamedTuple):
    """A sample as its protocol evaluates it; training starts from the same pixels."""

    pixels: np.ndarray  # (H, W, 3) uint8
    points_px: np.ndarray  # (K, 2) float32 as (x, y), inside these pixels
    truth: int  # the count that the protocol calls true


@dataclass(frozen=True)
class Dataset:
    """All samples of one folder, by split."""

    name: str  # fsc147, carpk, shanghaitech_A, shanghaitech_B or own
    splits: Mapping[str, tuple[Sample, ...]]
    notices: tuple[str, ...] = field(default=())  # worth reporting, no reason to refuse
    warnings: tuple[str, ...] = field(default=())  # what may make the figures wrong
    title: str = ""  # of own data: its folder's name

    @property
    def shown_name(self) -> str:
        """What messages call it."""
        return self.title or self.name

    def split(self, name: str) -> tuple[Sample, ...]:
        """The samples of one split, or of `all`; UsageError names the splits there are."""
        if name == "all":
            return _distinct(sample for samples in self.splits.values() for sample in samples)
        if name not in self.splits:
            known = ", ".join([*self.splits, "all"])
            raise UsageError(
                f"{self.shown_name} has no split {name!r}",
                hint=f"choose one with --split: {known}",
            )
        return self.splits[name]


def prepare(sample: Sample) -> Prepared:
    """Read a sample's image and lay it out by its protocol; ImageReadError if it cannot be read."""
    return prepare_pixels(sample, read_pixels(sample))


def read_pixels(sample: Sample) -> np.ndarray:
    """The image of a sample, (H, W, 3) uint8; ImageReadError if it cannot be read."""
    from clipcount_cli.counting.images import read_image
    from clipcount_cli.counting.stacks import Selection

    return read_image(sample.image, sample.name, Selection(sample.page)).pixels


def prepare_pixels(sample: Sample, pixels: np.ndarray) -> Prepared:
    """Lay out a picture that is already read; pixels: (H, W, 3) uint8, upright and full size."""
    if sample.protocol == "fsc147":
        return _round_down(pixels, sample.points_px)
    points_px = sample.points_px
    if sample.protocol == "shanghaitech":
        pixels, points_px = _lay_down(pixels, points_px)
    return Prepared(pixels, _clamp(points_px, pixels), sample.truth)


def _round_down(pixels: np.ndarray, points_px: np.ndarray) -> Prepared:
    """Both sides down to multiples of 16; as upstream, x is scaled along and y only clamped."""
    height, width = (_multiple(side) for side in pixels.shape[:2])
    scale = np.float64(width) / pixels.shape[1]
    if (height, width) != pixels.shape[:2]:
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
    points_px = _clamp(points_px.astype(np.float64) * (scale, 1.0), pixels)
    # The authors count pixels with a dot, so two dots in one pixel are one object.
    return Prepared(pixels, points_px, len(np.unique(points_px.astype(int), axis=0)))


def _multiple(side_px: int) -> int:
    return max(side_px // FSC147_MULTIPLE_PX, 1) * FSC147_MULTIPLE_PX


def _lay_down(pixels: np.ndarray, points_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn a portrait image counterclockwise by 90 degrees, into a landscape."""
    height, width = pixels.shape[:2]
    if height <= width:
        return pixels, points_px
    turned_px = np.stack([points_px[:, 1], width - 1 - points_px[:, 0]], axis=1)
    return np.ascontiguousarray(np.rot90(pixels)), turned_px


def _clamp(points_px: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    last = np.nextafter(
        np.array([width, height], np.float32), np.float32(0)
    )  # still inside the last pixel
    clamped: np.ndarray = np.clip(points_px, 0, last).astype(np.float32)
    return clamped


def _distinct(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Each sample once: val_coco lists pictures that val lists too."""
    return tuple({(sample.source, sample.prompt): sample for sample in samples}.values())


def as_points(rows: object) -> np.ndarray:
    """(K, 2) float32 from nested lists; ValueError if they are not pairs of finite numbers."""
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            points = np.asarray(rows, dtype=np.float64).astype(np.float32)
    except (TypeError, OverflowError) as error:
        raise ValueError("not a list of numbers") from error
    points = points.reshape(0, 2) if points.size == 0 else points
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError("not a list of (x, y)")
    return points


def by_image(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The samples of each image together, so that it is read and encoded once."""
    groups: dict[Source, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.source, []).append(sample)
    return list(groups.values())
