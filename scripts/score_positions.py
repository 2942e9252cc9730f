"""Measure where a model finds objects: precision and recall of positions on rendered scenes.

    python scripts/score_positions.py [--weights tiny] [--scenes 100]

A position is right if it lies within half an object's size of an object that no other position has
taken. As many positions are found as are counted, so a wrong count alone costs precision or recall:
the last column is what positions without any error would reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from scenes.render import Catalogue, Scene, SceneConfig, render_scene
from scipy.optimize import linear_sum_assignment

from clipcount_cli import Counter, console, load_counter
from clipcount_cli.config import GENERIC_PROMPT
from clipcount_cli.counting.positions import positions

FIRST_SEED = 3_000_000
FEWEST_OBJECTS = 3
FAR = 1e6  # marks an impossible pair in the assignment


@dataclass(frozen=True)
class Match:
    """How many of the positions found in one scene are right."""

    right: int
    found: int
    true: int

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.true

    @property
    def best(self) -> Match:
        """The same count, each position right."""
        return Match(min(self.found, self.true), self.found, self.true)


def match(found: np.ndarray, true: np.ndarray, within_px: float) -> Match:
    """Give each of `true` (K, 2) at most one of `found` (N, 2) that lies `within_px` of it."""
    distance = np.linalg.norm(found[:, None] - true[None], axis=2)
    cost = np.where(distance <= within_px, distance, FAR)
    rows, columns = linear_sum_assignment(cost)
    return Match(int((cost[rows, columns] < FAR).sum()), len(found), len(true))


def match_scene(counter: Counter, scene: Scene) -> list[Match]:
    """One match per noun of a scene, the first in each group of synonyms, and for all objects."""
    prompts = [p for p, points in scene.points_px.items() if len(points) >= FEWEST_OBJECTS]
    named = [prompt for prompt in prompts if prompt != GENERIC_PROMPT][:1]
    asked = named + [prompt for prompt in prompts if prompt == GENERIC_PROMPT]
    return [
        match(positions(result.density), scene.points_px[result.prompt], scene.size_px / 2)
        for result in counter.count(scene.pixels, asked)
    ]


def main(
    weights: Annotated[str, typer.Option(help="Weights to count with.")] = "tiny",
    scenes: Annotated[int, typer.Option(help="Number of scenes.")] = 100,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
) -> None:
    """Print precision and recall of positions, within half an object's size."""
    counter = load_counter(weights, precision=precision)
    catalogue = Catalogue.drawn()
    config = SceneConfig(side_px=counter.windows.side_px)
    matches = []
    with console.progress("scenes", scenes, "scenes") as bar:
        for seed in range(FIRST_SEED, FIRST_SEED + scenes):
            matches += match_scene(counter, render_scene(seed, catalogue, config, "test"))
            bar.advance()
    rows = [
        (
            kind,
            f"{summary([getattr(m, kind) for m in matches])}",
            f"{summary([getattr(m.best, kind) for m in matches])}",
        )
        for kind in ("precision", "recall")
    ]
    console.show_table([counter.label, "mean and median", "with the same count at best"], rows)


def summary(values: list[float]) -> str:
    """Mean and median."""
    return f"{np.mean(values):.2f}, {np.median(values):.2f}"


if __name__ == "__main__":
    typer.run(main)
