"""Folders of drawn dots, on which a small network trains in seconds."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner, Result

COLOURS = {"red dots": (220, 30, 30), "blue dots": (30, 30, 220)}
SIDE_PX = 96


def draw_dots(folder: Path, photographs: int = 10, seed: int = 0) -> Path:
    """Write own data: half the photographs show red dots, half blue; all three splits."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows, splits = [], []
    for number in range(photographs):
        name, prompt = f"{number}.png", list(COLOURS)[number % 2]
        pixels = rng.integers(90, 160, (SIDE_PX, SIDE_PX + 20, 3)).astype(np.uint8)
        for _ in range(rng.integers(2, 6)):
            x, y = (int(v) for v in rng.integers(4, SIDE_PX - 4, 2))
            pixels[y - 3 : y + 4, x - 3 : x + 4] = COLOURS[prompt]
            rows.append((name, prompt, x, y))
        Image.fromarray(pixels).save(folder / "images" / name)
        splits.append((name, ("train", "train", "train", "train", "val", "test")[number // 2 % 6]))
    _write(folder / "points.csv", ("image", "prompt", "x", "y"), rows)
    _write(folder / "split.csv", ("image", "split"), splits)
    return folder


def _write(path: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def run_train(*arguments: object) -> Result:
    """`clipcount train` in this process."""
    from clipcount_cli.cli import app

    return CliRunner().invoke(app, ["train", *(str(argument) for argument in arguments)])
