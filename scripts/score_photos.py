"""Count in a folder of photographs whose true counts are known, and print both side by side.

    python scripts/score_photos.py --photos DIR --labels FILE [--weights NAME|FILE]

FILE is a CSV with the columns image, prompt and count; further columns are ignored.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.stats import spearmanr

from clipcount_cli import console, load_counter


@dataclass(frozen=True)
class Answer:
    """One question with its true and its predicted count."""

    image: str
    prompt: str
    truth: float
    count: float

    @property
    def relative_error(self) -> float:
        return abs(self.count - self.truth) / self.truth


def read_labels(path: Path) -> dict[str, dict[str, float]]:
    """The true count of each prompt of each photograph."""
    truths: dict[str, dict[str, float]] = defaultdict(dict)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            truths[row["image"]][row["prompt"]] = float(row["count"])
    return truths


def summary(answers: list[Answer]) -> list[tuple[str, str]]:
    """The figures over all answers; relative ones over those whose truth is above zero."""
    there = [a for a in answers if a.truth > 0]
    error = float(np.median([a.relative_error for a in there]))
    rank = spearmanr([a.truth for a in there], [a.count for a in there]).statistic
    mae = float(np.mean([abs(a.count - a.truth) for a in answers]))
    rows = [
        ("questions", str(len(answers))),
        ("mean absolute error", f"{mae:.1f}"),
        ("median relative error", f"{error:.2f}"),
        ("Spearman correlation", f"{rank:.2f}"),
    ]
    if empty := [a.count for a in answers if a.truth == 0]:
        rows.append(("mean answer where the truth is 0", f"{np.mean(empty):.1f}"))
    return rows


def main(
    photos: Annotated[Path, typer.Option(help="Folder of photographs.")],
    labels: Annotated[Path, typer.Option(help="CSV with image, prompt, count.")],
    weights: Annotated[str | None, typer.Option(help="Which model counts.")] = "tiny",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "fp32",
) -> None:
    """Print true and predicted counts, best first, and what they amount to."""
    counter = load_counter(weights, precision=precision)
    answers = [
        Answer(image, result.prompt, truths[result.prompt], result.count)
        for image, truths in read_labels(labels).items()
        for result in counter.count(photos / image, list(truths))
    ]
    answers.sort(key=lambda a: a.relative_error if a.truth else a.count)
    rows = [
        (a.image, a.prompt, f"{a.truth:.0f}", f"{a.count:.1f}",
         f"{a.relative_error:.2f}" if a.truth else "")
        for a in answers
    ]  # fmt: skip
    console.show_table(["image", "prompt", "true", "counted", "relative error"], rows)
    console.show_table([counter.label, ""], summary(answers))


if __name__ == "__main__":
    typer.run(main)
