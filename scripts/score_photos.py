"""Count in a folder of photographs whose true counts are known, and print both side by side.

    python scripts/score_photos.py --photos DIR --labels FILE [--absent] [--weights NAME|FILE]

FILE is a CSV with the columns image, prompt and count; further columns are ignored. With --absent
each photograph is also asked for what the others show. A row without a count says that its prompt
is there, but that nobody counted it: it is not asked.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.stats import spearmanr

from clipcount_cli import Counter, console, load_counter


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


@dataclass
class Photo:
    """One photograph's questions: true counts, and what is there uncounted."""

    counts: dict[str, float] = field(default_factory=dict)
    uncounted: set[str] = field(default_factory=set)

    def absent(self, prompts: Iterable[str]) -> list[str]:
        """Those of `prompts` that name nothing of this photograph: they share no word with it."""
        words = {word for prompt in (*self.counts, *self.uncounted) for word in prompt.split()}
        return sorted(prompt for prompt in prompts if not words & set(prompt.split()))


def read_labels(paths: list[Path]) -> dict[str, Photo]:
    """The questions of each photograph, in the order of the files."""
    photos: dict[str, Photo] = defaultdict(Photo)
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                photo = photos[row["image"]]
                if row["count"].strip():
                    photo.counts[row["prompt"]] = float(row["count"])
                else:
                    photo.uncounted.add(row["prompt"])
    return photos


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


def ask_for_absent(counter: Counter, folder: Path, photos: dict[str, Photo]) -> list[Answer]:
    """Ask each photograph that shows something for what others show; `truth` is what it shows."""
    prompts = {prompt for photo in photos.values() for prompt in photo.counts}
    return [
        Answer(image, result.prompt, max(photo.counts.values()), result.count)
        for image, photo in photos.items()
        if max(photo.counts.values(), default=0) > 0
        for result in counter.count(folder / image, photo.absent(prompts))
    ]


def absent_summary(answers: list[Answer]) -> list[tuple[str, str]]:
    """What is answered for absent things, over the true count of what is there."""
    images = {a.image for a in answers}
    shares = [np.mean([a.count / a.truth for a in answers if a.image == i]) for i in sorted(images)]
    worst = max(answers, key=lambda a: a.count / a.truth)
    return [
        ("questions for what is absent", str(len(answers))),
        ("mean answer over what is there", f"{np.mean(shares):.2f}"),
        ("the same, median photograph", f"{np.median(shares):.2f}"),
        ("worst", f"{worst.image} {worst.prompt}: {worst.count:.1f} of {worst.truth:.0f}"),
    ]


def main(
    photos: Annotated[Path, typer.Option(help="Folder of photographs.")],
    labels: Annotated[list[Path], typer.Option(help="CSV with image, prompt, count; repeatable.")],
    absent: Annotated[bool, typer.Option(help="Ask for what is not there, too.")] = False,
    weights: Annotated[str | None, typer.Option(help="Which model counts.")] = "tiny",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "fp32",
) -> None:
    """Print true and predicted counts, best first, and what they amount to."""
    counter = load_counter(weights, precision=precision)
    asked = read_labels(labels)
    answers = [
        Answer(image, result.prompt, photo.counts[result.prompt], result.count)
        for image, photo in asked.items()
        for result in counter.count(photos / image, list(photo.counts))
    ]
    answers.sort(key=lambda a: a.relative_error if a.truth else a.count)
    rows = [
        (a.image, a.prompt, f"{a.truth:.0f}", f"{a.count:.1f}",
         f"{a.relative_error:.2f}" if a.truth else "")
        for a in answers
    ]  # fmt: skip
    console.show_table(["image", "prompt", "true", "counted", "relative error"], rows)
    console.show_table([counter.label, ""], summary(answers))
    if absent:
        if not (others := ask_for_absent(counter, photos, asked)):
            console.notice("no photograph can be asked for what others show")
            return
        console.show_table([counter.label, ""], absent_summary(others))


if __name__ == "__main__":
    typer.run(main)
