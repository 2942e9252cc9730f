"""Score a model on rendered scenes it was not trained on: accuracy, and how it follows prompts.

    python scripts/score_scenes.py [--weights tiny] [--scenes 500] [--material DIR]
                                   [--two-sizes 0.5] [--material-share 0.7] [--pictures FILE.png]

A scene depends on its number alone; its drawings and backgrounds are not used in training. With
--material (see scripts/scenes/fetch.py), scenes also show the nouns for which there are only
pictures, from another source than in training. --two-sizes is the share of scenes with "small
buttons" and "large buttons", --material-share the share of classes named like "wooden
spoons". --pictures draws the best, median and worst scenes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from scenes.nouns import MATERIALS, SIZES, noun_of
from scenes.render import Catalogue, Scene, SceneConfig, render_scene
from scenes.sheet import contact_sheet

from clipcount_cli import Counter, console, load_counter
from clipcount_cli.counting import heatmap

FIRST_SEED = 1_000_000
MIN_QUERIES = 3
RANKS_SHOWN = 4
SCENES_PER_ROW = 3
ABSENT_ASKED = 4


@dataclass(frozen=True)
class ScoredScene:
    """The counts of one scene: of what is there, with the truth, and of what is not."""

    seed: int
    prompts: list[str]  # of what is there
    truths: np.ndarray
    counts: np.ndarray
    absent_counts: np.ndarray

    @property
    def share_of_absent(self) -> float:
        """The mean absent count over the true count (NMN of one scene)."""
        return float(self.absent_counts.mean() / self.truths.max())

    @property
    def errors(self) -> np.ndarray:
        """Relative errors, one for each prompt of what is there."""
        return np.abs(self.counts - self.truths) / self.truths

    @property
    def follows_prompt(self) -> float:
        """1 if the right prompts' counts are closer to the truth than wrong ones', a tie 0.5."""
        right = np.abs(self.counts - self.truths).mean()
        wrong = np.abs(self.absent_counts.mean() - self.truths).mean()
        return 0.5 * (1 + float(np.sign(wrong - right)))


def score_scene(counter: Counter, scene: Scene, seed: int) -> ScoredScene:
    """Count every class that the scene holds, and some that it does not."""
    present = [prompt for prompt in scene.points_px if len(scene.points_px[prompt])]
    absent = list(scene.absent[:ABSENT_ASKED])
    counts = np.array([r.count for r in counter.count(scene.pixels, [*present, *absent])])
    truths = np.array([len(scene.points_px[prompt]) for prompt in present], dtype=float)
    return ScoredScene(seed, present, truths, counts[: len(present)], counts[len(present) :])


def figures(scored: list[ScoredScene]) -> list[tuple[str, str]]:
    """Errors beside those of always predicting the median, and how well prompts are followed."""
    truths = np.concatenate([a.truths for a in scored])
    counts = np.concatenate([a.counts for a in scored])
    there = [a for a in scored if len(a.truths)]
    empty = [a.absent_counts.mean() for a in scored if not len(a.truths)]
    mae = np.abs(counts - truths).mean()
    median = np.abs(np.median(truths) - truths).mean()
    nmn = np.mean([a.share_of_absent for a in there])
    return [
        ("scenes", str(len(scored))),
        ("prompts for what is there", str(len(truths))),
        ("mean absolute error", f"{mae:.2f}"),
        ("the same, always predicting the median", f"{median:.2f}"),
        ("ratio of the two", f"{mae / median:.2f}"),
        ("NAE", f"{(np.abs(counts - truths) / truths).mean():.2f}"),
        ("correlation", f"{np.corrcoef(counts, truths)[0, 1]:.2f}"),
        ("NMN: absent count over true count", f"{nmn:.3f}"),
        ("PCCN, percent", f"{100 * np.mean([a.follows_prompt for a in there]):.1f}"),
        ("mean count in scenes with nothing", f"{np.mean(empty):.2f}" if empty else "none"),
    ]


def errors_by_wording(scored: list[ScoredScene], nouns: Collection[str]) -> list[tuple[str, ...]]:
    """The NAE of prompts that name a noun, a noun with an attribute, or anything else."""
    errors: dict[str, list[float]] = defaultdict(list)
    for scene in scored:
        for prompt, error in zip(scene.prompts, scene.errors.tolist(), strict=True):
            errors[wording_of(prompt, nouns)].append(error)
    return [
        (wording, str(len(errors[wording])), f"{np.mean(errors[wording]):.2f}")
        for wording in ("noun", "colour", "material", "size", "kind, synonym, singular", "objects")
        if errors[wording]
    ]


def wording_of(prompt: str, nouns: Collection[str]) -> str:
    """The kind of a prompt, by its most specific word."""
    first, noun = prompt.split()[0], noun_of(prompt)
    if noun == "objects":
        return "objects"
    if noun not in nouns:
        return "kind, synonym, singular"
    if first in (*SIZES, *SIZES.values()):
        return "size"
    if prompt == noun:
        return "noun"
    return "material" if first in MATERIALS else "colour"


def nouns_by_rank(scored: list[ScoredScene], nouns: Collection[str]) -> list[tuple[str, ...]]:
    """The nouns queried at least MIN_QUERIES times: the best, the middle and the worst."""
    errors: dict[str, list[float]] = defaultdict(list)
    for scene in scored:
        for prompt, error in zip(scene.prompts, scene.errors.tolist(), strict=True):
            if prompt in nouns:
                errors[prompt].append(error)
    ranked = sorted(
        (float(np.median(e)), noun) for noun, e in errors.items() if len(e) >= MIN_QUERIES
    )
    rows = [(str(i + 1), noun, f"{error:.2f}") for i, (error, noun) in enumerate(ranked)]
    return [rows[i] for i in shown_places(len(rows), RANKS_SHOWN)]


def shown_places(length: int, each: int) -> list[int]:
    """The first, the middle and the last `each` places of a ranking."""
    middle = (length - each) // 2
    places = [*range(each), *range(middle, middle + each), *range(length - each, length)]
    return sorted({place for place in places if 0 <= place < length})


def draw_by_rank(
    counter: Counter, scored: list[ScoredScene], catalogue: Catalogue, config: SceneConfig
) -> Image.Image:
    """The best, median and worst scenes, one row each, under the density of their first noun."""
    there = [a for a in scored if set(a.prompts) & set(catalogue.nouns)]
    there.sort(key=lambda a: a.errors.mean())
    panels = []
    for place in shown_places(len(there), SCENES_PER_ROW):
        scene = there[place]
        prompt = next(p for p in scene.prompts if p in catalogue.nouns)
        truth = scene.truths[scene.prompts.index(prompt)]
        pixels = render_scene(scene.seed, catalogue, config, "test").pixels
        result = counter.count(pixels, [prompt])[0]
        titled = replace(result, prompt=f"{prompt} (true: {truth:.0f})")
        panels.append(Image.fromarray(heatmap.panels(pixels, [titled])))
    return contact_sheet(panels, SCENES_PER_ROW)


def main(
    weights: Annotated[str, typer.Option(help="Weights to count with.")] = "tiny",
    scenes: Annotated[int, typer.Option(help="Number of scenes.")] = 500,
    material: Annotated[Path | None, typer.Option(help="Folder of pictures.")] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "fp32",
    side_px: Annotated[int, typer.Option(help="Of the scenes.")] = 384,
    two_sizes: Annotated[float, typer.Option(help="Share of scenes, 0 to 1.")] = 0.0,
    material_share: Annotated[float, typer.Option(help="Share of classes, 0 to 1.")] = 0.0,
    pictures: Annotated[Path | None, typer.Option(help="Draw scenes by rank.")] = None,
) -> None:
    """Print how well the model counts on scenes of fixed seeds."""
    counter = load_counter(weights, precision=precision)
    catalogue = Catalogue.from_material(material)
    config = SceneConfig(side_px=side_px, two_sizes=two_sizes, materials=material_share)
    scored = []
    with console.progress("scenes", scenes, "scenes") as bar:
        for seed in range(FIRST_SEED, FIRST_SEED + scenes):
            scored.append(score_scene(counter, render_scene(seed, catalogue, config, "test"), seed))
            bar.advance()
    console.show_table([counter.label, ""], figures(scored))
    by_wording = errors_by_wording(scored, catalogue.nouns)
    console.show_table(["prompts that name", "how many", "NAE"], by_wording)
    ranks = nouns_by_rank(scored, catalogue.nouns)
    console.show_table(["rank", "noun", "median relative error"], ranks)
    if pictures:
        draw_by_rank(counter, scored, catalogue, config).save(pictures)


if __name__ == "__main__":
    typer.run(main)
