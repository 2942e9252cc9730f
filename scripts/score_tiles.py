"""Compare `--tiles auto` with every fixed choice, on images seen from increasing distances.

    python scripts/score_tiles.py [--weights tiny] [--photos DIR --labels FILE] [--scenes 12]
                                  [--calibrate]

Each image is laid out 1 x 1 to 12 x 12 times, as a larger photo of more and smaller objects, and
enlarged, as one of larger objects. `auto` chooses on the whole layout. A layout of n x n copies
seen with t tiles shows each copy as large as any other layout of the same t / n, so the counts
themselves are taken from small layouts. FILE is a CSV with the columns image, prompt and count, as
for score_photos.py; the first prompt of each image is counted. An image takes some 10 s of one
core. --calibrate prints the errors for other thresholds than those of
clipcount_cli/counting/scale.py: run it when the embedded weights change.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scenes.render import Catalogue, SceneConfig, render_scene
from score_photos import read_samples

from clipcount_cli import Counter, console, load_counter
from clipcount_cli.counting import scale
from clipcount_cli.counting.results import CountResult
from clipcount_cli.counting.windows import Pixels, resize_shorter_side
from clipcount_cli.data.samples import read_pixels
from clipcount_cli.errors import quantity

FIRST_SEED = 2_000_000
FEWEST_OBJECTS = 5
Average = Callable[[list[float]], Any]
AVERAGES: dict[str, Average] = {"median": np.median, "mean": np.mean}
COPIES = (1, 2, 3, 4, 6, 8, 12)  # per side of a layout
ENLARGED = 0.5  # stands among them for the image at twice its size
LAYOUTS = (ENLARGED, *COPIES)
TILES = (1, 2, 4, 8)
SMALLEST_ERROR = 0.01  # that others are measured by
LARGEST_VIEW = 2.0  # of a copy, over the window's side; beyond it every count is wrong
GROWTHS, PITCHES_PX, SHARPNESSES = (1.1, 1.2, 1.3), (60, 90, 110, 118, 200), (0.0, 0.65, 0.75, 0.85)


@dataclass
class Subject:
    """One image, what is counted in it, and the results at every distance."""

    name: str
    pixels: Pixels
    prompt: str
    truth: float
    counts: dict[float, float] = field(default_factory=dict)  # per copy, by relative size
    comparisons: dict[float, list[scale.Comparison]] = field(default_factory=dict)  # by layout
    limits: dict[float, float] = field(default_factory=dict)

    def error(self, layout: float, tiles: int) -> float:
        """The relative error of one copy's count."""
        return abs(self.counts[size_of(layout, tiles)] - self.truth) / self.truth

    def choice(self, layout: float, thresholds: scale.Thresholds | None = None) -> int:
        """What `auto` chooses with these thresholds, or its own."""
        return scale.choose_tiles(self.comparisons[layout], self.limits[layout], thresholds)


def size_of(layout: float, tiles: int) -> float:
    """How large one copy is seen, over the window's side; an enlarged image is one copy."""
    return tiles / max(layout, 1)


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
            pixels = read_pixels(sample)
            yield Subject(sample.name, pixels, sample.prompt, sample.count)


def measure(counter: Counter, subject: Subject) -> None:
    """Count `subject` at every relative size, and compare sizes on every layout of it."""
    side_px = counter.windows.side_px
    whole = resize_shorter_side(subject.pixels, side_px)
    for copies, tiles in itertools.product(COPIES, TILES):
        size = size_of(copies, tiles)
        if size <= LARGEST_VIEW and size not in subject.counts:
            subject.counts[size] = count_at(counter, whole, subject.prompt, size)
    for layout in LAYOUTS:
        pixels = laid_out(whole, layout)
        subject.limits[layout] = scale.most_tiles(pixels, side_px)
        subject.comparisons[layout] = list(counter.compare_sizes(pixels, [subject.prompt]))


def laid_out(whole: Pixels, layout: float) -> Pixels:
    """Copies of an image (H, W, 3) side by side, or the image enlarged."""
    if layout == ENLARGED:
        return resize_shorter_side(whole, round(min(whole.shape[:2]) / ENLARGED))
    return np.tile(whole, (int(layout), int(layout), 1))


def count_at(counter: Counter, copy: Pixels, prompt: str, size: float) -> float:
    """The count of one copy that is seen at `size` times the window's side."""
    seen = resize_shorter_side(copy, max(1, round(size * counter.windows.side_px)))
    repeats = max(1, math.ceil(1 / size))
    layout = np.tile(seen, (repeats, repeats, 1))
    [density] = counter.map_densities(layout, [prompt])
    return CountResult.of(prompt, density).count / repeats**2


def table(subjects: list[Subject], average: Average) -> list[tuple[str, ...]]:
    """Per layout: the average error of each fixed choice and of `auto`, and over the best one's."""
    rows: list[tuple[str, ...]] = []
    for layout in LAYOUTS:
        fixed = [
            float(average([s.error(layout, tiles) for s in subjects]))
            for tiles in TILES
            if size_of(layout, tiles) <= LARGEST_VIEW
        ]
        auto = float(average([s.error(layout, s.choice(layout)) for s in subjects]))
        cells = [*(f"{error:.2f}" for error in fixed), *[""] * (len(TILES) - len(fixed))]
        ratio = f"{auto / min(fixed):.2f}" if min(fixed) >= SMALLEST_ERROR else "-"
        rows.append((called(layout), *cells, f"{auto:.2f}", ratio))
    return rows


def choices(subjects: list[Subject]) -> list[tuple[str, ...]]:
    """Per layout: for how many images `auto` chose which number of tiles."""
    rows: list[tuple[str, ...]] = []
    for layout in LAYOUTS:
        tally = Tally(s.choice(layout) for s in subjects)
        shown = ", ".join(f"{tiles} ({quantity(tally[tiles], 'image')})" for tiles in sorted(tally))
        rows.append((called(layout), shown))
    return rows


def called(layout: float) -> str:
    """What a row of a table is called."""
    return "enlarged" if layout == ENLARGED else f"{layout} x {layout}"


def figures(errors: list[float]) -> str:
    """Median and mean."""
    return f"{np.median(errors):.2f} {np.mean(errors):.2f}"


def calibrated(subjects: list[Subject]) -> list[tuple[str, ...]]:
    """The error over all layouts, median and mean, for thresholds of all three kinds."""
    rows: list[tuple[str, ...]] = []
    for each in itertools.starmap(
        scale.Thresholds, itertools.product(GROWTHS, PITCHES_PX, SHARPNESSES)
    ):
        errors = [s.error(layout, s.choice(layout, each)) for s in subjects for layout in LAYOUTS]
        note = "in use" if each == scale.Thresholds() else ""
        cells = (f"{each.growth}", f"{each.pitch_px}", f"{each.sharpness}", figures(errors), note)
        rows.append(cells)
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
    columns = ["layout", *(f"tiles {tiles}" for tiles in TILES), "auto", "auto / best"]
    for name, average in AVERAGES.items():
        title = f"{counter.label}: {name} relative error of {quantity(len(subjects), 'image')}"
        console.show_table(columns, table(subjects, average), title)
    console.show_table(["layout", "auto chose"], choices(subjects))
    if calibrate:
        columns = ["growth", "pitch", "sharpness", "median and mean error", ""]
        console.show_table(columns, calibrated(subjects))


if __name__ == "__main__":
    typer.run(main)
