"""Fine-tune the embedded model on a noun it does not know: thirty images, on a CPU, offline.

    python scripts/show_finetuning.py --folder FOLDER

Renders sixty images of crescents, which scripts/make_tiny.py never draws or names; fine-tunes
`tiny` on thirty of them with `clipcount train --init tiny`, and prints the mean absolute error on
the other thirty before and after.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from scenes.brush import Brush, Surface
from scenes.drawings import DRAWINGS
from scenes.nouns import ANY, Noun
from scenes.render import Catalogue, SceneConfig, render_scene

from clipcount_cli import console
from clipcount_cli.api import load_counter
from clipcount_cli.data.datasets import load_dataset
from clipcount_cli.evaluation.evaluate import evaluate
from clipcount_cli.evaluation.metrics import Metrics
from clipcount_cli.training import run as train

NOUN = Noun("crescents", "crescent", ANY)
SCENES = SceneConfig(
    side_px=384, empty=0.0, second_class=0.0, assorted=0.0, grey=0.0, max_objects=80
)
SPLITS = ("train",) * 25 + ("val",) * 5 + ("test",) * 30


def main(
    folder: Annotated[Path, typer.Option(help="Folder of the images and the run.")],
    epochs: Annotated[int, typer.Option(help="Of fine-tuning.")] = 200,
) -> None:
    """Render, measure, train, measure again."""
    data, run = folder / "photographs", folder / "run"
    if not (data / "split.csv").exists():
        render_photographs(data)
    before = measure("tiny", data)
    started = time.monotonic()
    settings = {"epochs": epochs}
    if (run / "config.json").exists():
        train.resume(run, train.TrainRequest(hyper_parameters=settings))
    else:
        request = train.TrainRequest(data=data, out=run, init="tiny", hyper_parameters=settings)
        train.train(request)
    minutes = (time.monotonic() - started) / 60
    after = measure(str(run / "best.safetensors"), data)
    console.show_line("mean absolute error before", f"{before:.2f}")
    console.show_line("mean absolute error after", f"{after:.2f}")
    console.show_line("minutes of training", f"{minutes:.1f}")


def crescent(brush: Brush) -> Surface:
    """A disc without another disc."""
    hollow = brush.between(0.62, 0.78) - np.hypot(brush.x - brush.between(0.3, 0.45), brush.y)
    distance = np.maximum(brush.radius - 0.95, hollow)
    height = brush.between(0.2, 0.6) * np.sqrt(np.clip(-distance, 0, 1))
    return Surface(height, brush.plain(), brush.inside(distance), brush.between(0, 0.4))


def render_photographs(data: Path) -> None:
    """Write own data: thirty images to train on, thirty others to evaluate on."""
    DRAWINGS[NOUN.plural] = crescent
    catalogue = Catalogue({NOUN.plural: NOUN})
    (data / "images").mkdir(parents=True, exist_ok=True)
    rows: list[tuple[object, ...]] = []
    for seed, split in enumerate(SPLITS):
        scene = render_scene(seed, catalogue, SCENES, "test" if split == "test" else "train")
        name = f"{seed:02}.png"
        Image.fromarray(scene.pixels).save(data / "images" / name)
        shown = scene.points_px.get(NOUN.plural, np.zeros((0, 2))).tolist()
        rows.extend((name, NOUN.plural, x, y) for x, y in shown or [("", "")])
    splits = [(f"{seed:02}.png", split) for seed, split in enumerate(SPLITS)]
    _write(data / "points.csv", ("image", "prompt", "x", "y"), rows)
    _write(data / "split.csv", ("image", "split"), splits)


def measure(weights: str, data: Path) -> float:
    """Mean absolute error on the held-out images."""
    samples = load_dataset(data, splits=("test",)).split("test")
    rows = evaluate(load_counter(weights), samples)
    return Metrics.of([row for picture in rows for row in picture]).mae or 0.0


def _write(path: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


if __name__ == "__main__":
    typer.run(main)
