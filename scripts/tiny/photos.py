"""Annotated photos for training: read, split by the hash of their names, cropped and joined.

A folder holds a folder per set, each with `images/` and `points.csv` (image, prompt, x, y; empty x
and y: the prompt is absent). A prompt that is not listed for a photo is unknown there.
"""

from __future__ import annotations

import csv
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from clipcount_cli.errors import DataError

Part = Literal["train", "val", "test"]
Points = dict[str, np.ndarray]  # prompt -> (K, 2) as (x, y) in pixels

# Sets whose photos show many kinds of things, of which the annotated are a few
MIXED = ("coco_people", "coco_subset")
MIXED_WEIGHT = 1.6
SMALLEST_CROP, SMALLEST_MIXED_CROP = 0.4, 0.6  # of the shorter side
WHOLE = 0.35  # share of crops that take the whole shorter side
BLURRED, TINTED, NOISY = 0.15, 0.3, 0.25  # shares of photos


@dataclass(frozen=True)
class Photo:
    """One annotated photo."""

    set: str
    path: Path
    points_px: Points = field(default_factory=dict)  # of what is there
    absent: tuple[str, ...] = ()  # prompts known to name nothing in it

    @property
    def mixed(self) -> bool:
        return self.set in MIXED

    def read(self) -> Image.Image:
        with Image.open(self.path) as image:
            return image.convert("RGB")


def part_of(photo_set: str, name: str) -> Part:
    """A fixed fifth of every set is for tests, a tenth for validation."""
    number = zlib.crc32(f"{photo_set}/{name}".encode())
    if number % 5 == 0:
        return "test"
    return "val" if number % 10 == 1 else "train"


def read_photos(folder: Path, part: Part) -> list[Photo]:
    """Read the photos of one part. Raises DataError if `folder` holds no set."""
    tables = sorted(folder.glob("*/points.csv"))
    if not tables:
        raise DataError(f"{folder} holds no SET/points.csv", hint="name the folder of photo sets")
    return [photo for table in tables for photo in _read_set(table, part)]


def _read_set(table: Path, part: Part) -> list[Photo]:
    rows: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            points = rows[row["image"]][row["prompt"]]
            if row["x"]:
                points.append((float(row["x"]), float(row["y"])))
    name = table.parent.name
    return [
        Photo(
            name,
            table.parent / "images" / image,
            {prompt: np.array(at, np.float32) for prompt, at in prompts.items() if at},
            tuple(prompt for prompt, at in prompts.items() if not at),
        )
        for image, prompts in sorted(rows.items())
        if part_of(name, image) == part
    ]


def weights_of(photos: list[Photo]) -> np.ndarray:
    """How often each photo is shown: small sets more often than their share, mixed ones too."""
    sizes = {photo.set: sum(other.set == photo.set for other in photos) for photo in photos}
    weights = [
        (MIXED_WEIGHT if photo.mixed else 1.0) / np.sqrt(sizes[photo.set]) for photo in photos
    ]
    return np.array(weights) / np.sum(weights)


def crop_side(
    photo: Photo, size: tuple[int, int], rng: np.random.Generator, smallest: float = SMALLEST_CROP
) -> int:
    """Draw the side of a square crop, in pixels of the photo."""
    smallest = SMALLEST_MIXED_CROP if photo.mixed else smallest
    share = 1.0 if rng.random() < WHOLE else float(np.exp(rng.uniform(np.log(smallest), 0)))
    return int(min(size) * share)


def crop(
    photo: Photo, image: Image.Image, side: int, side_px: int, rng: np.random.Generator
) -> tuple[Image.Image, Points]:
    """Cut a square anywhere, resize it to `side_px`, mirror half of all; points come along."""
    x, y = (int(rng.integers(0, length - side + 1)) for length in image.size)
    filter_ = Image.Resampling.BILINEAR if side < 2 * side_px else Image.Resampling.LANCZOS
    picture = image.resize((side_px, side_px), filter_, (x, y, x + side, y + side))
    mirrored = rng.random() < 0.5
    if mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    points = {}
    for prompt, at in photo.points_px.items():
        seen = (at - (x, y)) * (side_px / side)
        seen = np.clip(seen[((seen >= 0) & (seen < side_px)).all(1)], 0, side_px - 1)
        if mirrored:
            seen = np.stack([side_px - 1 - seen[:, 0], seen[:, 1]], axis=1)
        points[prompt] = seen.astype(np.float32)
    return picture, points


def change_look(picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Another exposure, another camera: returns (S, S, 3) uint8."""
    for enhance, spread in (
        (ImageEnhance.Brightness, 0.35),
        (ImageEnhance.Contrast, 0.3),
        (ImageEnhance.Color, 0.4),
    ):
        picture = enhance(picture).enhance(float(np.exp(rng.normal(0, spread / 2))))
    if rng.random() < BLURRED:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.6)))
    pixels: np.ndarray = np.asarray(picture, np.float32)
    if rng.random() < TINTED:
        pixels = pixels * np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)
    if rng.random() < NOISY:
        pixels = pixels + rng.normal(0, rng.uniform(2, 14), pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)
