"""Compare `--tiles auto` with every fixed choice, on images seen from increasing distances.

    python scripts/score_tiles.py [--weights tiny] [--photos DIR --labels FILE] [--scenes 12]
                                  [--calibrate]

Each image is laid out 1 x 1 to 12 x 12 times, as a larger photo of more and smaller objects. `auto`
chooses on the whole layout. A layout of n x n copies seen with t tiles shows each copy as large as
any other layout of the same t / n, so the counts themselves are taken from small layouts.
FILE is a CSV with the columns image, prompt and count, as for score_photos.py; the first prompt of
each image is counted. --calibrate prints the errors for other thresholds than those of
clipcount_cli/counting/scale.py: run it when the embedded weights change.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter as Tally
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scenes.render import Catalogue, SceneConfig, render_scene
from score_photos import read_samples

from clipcount_cli import Counter, console, load_counter
from clipcount_cli.counting import scale
from clipcount_cli.counting.images import read_image
from clipcount_cli.counting.results import CountResult
from clipcount_cli.counting.windows import Pixels, resize_shorter_side

FIRST_SEED = 2_000_000
FEWEST_OBJECTS = 5
COPIES = (1, 2, 3, 4, 6, 8, 12)  # per side of a layout
TILES = (1, 2, 4, 8)
LARGEST_VIEW = 2.0  # of a copy, over the window's side; beyond it every count is wrong
GROWTHS, PITCHES_PX = (1.2, 1.3, 1.5, 2.0), (36, 44, 52, 60, 76)


@dataclass
class Subject:
    """One image, what is counted in it, and the results at every distance."""

    name: str
    pixels: Pixels
    prompt: str
    truth: float
    counts: dict[float, float] = field(default_factory=dict)  # per copy, by relative size
    comparisons: dict[int, list[scale.Comparison]] = field(default_factory=dict)  # by copies

    def error(self, copies: int, tiles: int) -> float:
        """The relative error of one copy's count."""
        return abs(self.counts[tiles / copies] - self.truth) / self.truth

    def choice(self, copies: int, growth: float, pitch_px: float) -> int:
        """What `auto` chooses with these thresholds."""
        return scale.choose_tiles(self.comparisons[copies], growth, pitch_px)


def rendered(number: int) -> Iterator[Subject]:
    """Scenes of one noun with drawings that were not used in training."""
    catalogue, config = Catalogue.drawn(), SceneConfig(second_class=0.0, empty=0.0, side_px=384)
    for seed in range(FIRST_SEED, FIRST_SEED + number):
        scene = render_scene(seed, catalogue, config, "test")
        prompt, points = max(scene.points_px.items(), key=lambda item: len(item[1]))
        if len(points) >= FEWEST_OBJECTS:
            yield Subject(f"scene {seed}", scene.pixels, prompt, len(points))


def photographed(folder: Path, labels: list[Path]) -> Iterator[Subject]:
    """Photos with a known count, each counted for the first of its prompts."""
    seen = set()
    for sample in read_samples(folder, labels):
        if sample.count and sample.name not in seen:
            seen.add(sample.name)
            pixels = read_image(sample.image).pixels
            yield Subject(sample.name, pixels, sample.prompt, sample.count)


def measure(counter: Counter, subject: Subject) -> None:
    """Count `subject` at every relative size, and compare sizes on every layout of it."""
    side_px = counter.windows.side_px
    whole = resize_shorter_side(subject.pixels, side_px)
    for copies, tiles in itertools.product(COPIES, TILES):
        size = tiles / copies
        if size <= LARGEST_VIEW and size not in subject.counts:
            subject.counts[size] = count_at(counter, whole, subject.prompt, size)
    for copies in COPIES:
        layout = np.tile(whole, (copies, copies, 1))
        subject.comparisons[copies] = list(counter.compare_sizes(layout, [subject.prompt]))


def count_at(counter: Counter, copy: Pixels, prompt: str, size: float) -> float:
    """The count of one copy that is seen at `size` times the window's side."""
    seen = resize_shorter_side(copy, max(1, round(size * counter.windows.side_px)))
    repeats = max(1, math.ceil(1 / size))
    layout = np.tile(seen, (repeats, repeats, 1))
    [density] = counter.map_densities(layout, [prompt])
    return CountResult.of(prompt, density).count / repeats**2


def table(subjects: list[Subject]) -> list[tuple[str, ...]]:
    """Per layout: the median and mean relative error of each fixed choice and of `auto`."""
    rows: list[tuple[str, ...]] = []
    for copies in COPIES:
        cells = [
            figures([s.error(copies, tiles) for s in subjects])
            if tiles / copies <= LARGEST_VIEW
            else ""
            for tiles in TILES
        ]
        chosen = [s.choice(copies, scale.MIN_GROWTH, scale.MAX_PITCH_PX) for s in subjects]
        errors = [s.error(copies, tiles) for s, tiles in zip(subjects, chosen, strict=True)]
        tally = Tally(chosen)
        choices = ", ".join(f"{tiles}: {tally[tiles]}" for tiles in sorted(tally))
        rows.append((f"{copies} x {copies}", *cells, figures(errors), choices))
    return rows


def figures(errors: list[float]) -> str:
    """Median and mean."""
    return f"{np.median(errors):.2f} {np.mean(errors):.2f}"


def thresholds(subjects: list[Subject]) -> list[tuple[str, ...]]:
    """The error over all layouts, median and mean, for each pair of thresholds."""
    rows: list[tuple[str, ...]] = []
    for growth, pitch_px in itertools.product(GROWTHS, PITCHES_PX):
        errors = [
            s.error(copies, s.choice(copies, growth, pitch_px))
            for s in subjects
            for copies in COPIES
        ]
        in_use = (growth, pitch_px) == (scale.MIN_GROWTH, scale.MAX_PITCH_PX)
        rows.append((f"{growth}", str(pitch_px), figures(errors), "in use" if in_use else ""))
    return rows


def main(
    weights: Annotated[str, typer.Option(help="Weights to count with.")] = "tiny",
    photos: Annotated[Path | None, typer.Option(help="Folder of photos.")] = None,
    labels: Annotated[
        list[Path] | None, typer.Option(help="CSV with image, prompt, count; repeatable.")
    ] = None,
    scenes: Annotated[int, typer.Option(help="Number of rendered scenes.")] = 12,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    calibrate: Annotated[bool, typer.Option(help="Also try other thresholds.")] = False,
) -> None:
    """Print the relative errors of fixed and automatic tiles at every distance."""
    counter = load_counter(weights, precision=precision)
    subjects = list(rendered(scenes))
    if photos is not None:
        subjects += photographed(photos, labels or [])
    with console.progress("images", len(subjects), "images") as bar:
        for subject in subjects:
            measure(counter, subject)
            bar.advance()
    columns = ["layout", *(f"tiles {tiles}" for tiles in TILES), "auto", "chosen"]
    console.show_table(columns, table(subjects), f"{counter.label}: median and mean error")
    if calibrate:
        console.show_table(["growth", "pitch", "error", ""], thresholds(subjects))


if __name__ == "__main__":
    typer.run(main)
