"""Ask a model about rendered scenes it was never trained on: is it right, and does it obey?

    python scripts/score_scenes.py [--weights tiny] [--scenes 500] [--material DIR]

The scenes follow from their numbers alone; their drawings and grounds are kept out of training.
With --material (see scripts/material.py) they also show its pictures, of another source than
training's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from clipcount_cli import Counter, console, load_counter
from clipcount_cli.data.scenes import Catalogue, Scene, SceneConfig, render_scene
from clipcount_cli.scenery.nouns import NOUNS

FIRST_SEED = 1_000_000
ABSENT_ASKED = 4


@dataclass(frozen=True)
class Asked:
    """One scene's answers: what is there with its truth, and what is not."""

    truths: np.ndarray
    counts: np.ndarray
    absent_counts: np.ndarray

    @property
    def share_of_absent(self) -> float:
        """The mean absent answer over what is there (NMN of one scene)."""
        return float(self.absent_counts.mean() / self.truths.max())

    @property
    def obeys(self) -> float:
        """1 if the right prompts' answers are nearer the truth than the wrong ones', a tie 0.5."""
        right = np.abs(self.counts - self.truths).mean()
        wrong = np.abs(self.absent_counts.mean() - self.truths).mean()
        return 0.5 * (1 + float(np.sign(wrong - right)))


def ask(counter: Counter, scene: Scene) -> Asked:
    """Ask for every class the scene holds, and for some that it does not."""
    present = [prompt for prompt in scene.points_px if len(scene.points_px[prompt])]
    absent = list(scene.absent[:ABSENT_ASKED])
    counts = np.array([r.count for r in counter.count(scene.pixels, [*present, *absent])])
    truths = np.array([len(scene.points_px[prompt]) for prompt in present], dtype=float)
    return Asked(truths, counts[: len(present)], counts[len(present) :])


def figures(asked: list[Asked]) -> list[tuple[str, str]]:
    """Errors beside those of always answering the median, and how far prompts are obeyed."""
    truths = np.concatenate([a.truths for a in asked])
    counts = np.concatenate([a.counts for a in asked])
    there = [a for a in asked if len(a.truths)]
    empty = [a.absent_counts.mean() for a in asked if not len(a.truths)]
    mae = np.abs(counts - truths).mean()
    median = np.abs(np.median(truths) - truths).mean()
    nmn = np.mean([a.share_of_absent for a in there])
    return [
        ("scenes", str(len(asked))),
        ("prompts for what is there", str(len(truths))),
        ("mean absolute error", f"{mae:.2f}"),
        ("the same, always answering the median", f"{median:.2f}"),
        ("ratio of the two", f"{mae / median:.2f}"),
        ("NAE", f"{(np.abs(counts - truths) / truths).mean():.2f}"),
        ("correlation", f"{np.corrcoef(counts, truths)[0, 1]:.2f}"),
        ("NMN: absent answer over what is there", f"{nmn:.3f}"),
        ("PCCN, percent", f"{100 * np.mean([a.obeys for a in there]):.1f}"),
        ("mean answer in scenes with nothing", f"{np.mean(empty):.2f}" if empty else "none"),
    ]


def main(
    weights: Annotated[str, typer.Option(help="Which model counts.")] = "tiny",
    scenes: Annotated[int, typer.Option(help="How many.")] = 500,
    material: Annotated[Path | None, typer.Option(help="Folder of pictures.")] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "fp32",
    side_px: Annotated[int, typer.Option(help="Of the scenes.")] = 384,
) -> None:
    """Print what the model gets right on scenes of a fixed seed."""
    counter = load_counter(weights, precision=precision)
    catalogue = Catalogue(NOUNS, material)
    config = SceneConfig(side_px=side_px)
    asked = []
    with console.progress("scenes", scenes, "scenes") as bar:
        for number in range(scenes):
            asked.append(ask(counter, render_scene(FIRST_SEED + number, catalogue, config, "test")))
            bar.advance()
    console.show_table([counter.label, ""], figures(asked))


if __name__ == "__main__":
    typer.run(main)
