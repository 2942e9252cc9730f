"""Score the embedded model on annotated photos that were not used in training.

    python scripts/score_recognition.py --photos DIR [--weights tiny] [--labels photos/labels.csv]

A fixed fifth of every set (by the hash of its photos' names) is never trained on. Printed per set:
the median relative error of the right noun and of "objects", what absent prompts count as a share
of the true count, how often the right prompt is closer than absent ones, and the place of the right
noun among the nouns of the bank, by the network's features of the patches that hold its dots.
--labels adds photos beside that file of which only counts are known (image, prompt, count).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from tiny.bank import Bank
from tiny.photos import Part, Photo, read_photos
from tiny.validation import MIN_COUNT, shown_nouns

from clipcount_cli import console, load_counter
from clipcount_cli.config import GENERIC_PROMPT
from clipcount_cli.counting.compact import CompactClipCount
from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.images import read_image
from clipcount_cli.counting.windows import cut_windows, resize_shorter_side, window_origins

MAX_ABSENT = 4  # prompts per photo
GROUP = 1  # the vector of a patch's group, see recognition.py
LABELLED = "labelled counts"
HINT_BELOW, HINT_FROM = 0.25, 3  # the hint of `count`: few of what the generic prompt finds


@dataclass
class Score:
    """The results of one set of photos."""

    right: list[float] = field(default_factory=list)  # relative errors
    objects: list[float] = field(default_factory=list)  # relative errors
    wrong: list[float] = field(default_factory=list)  # over the true count
    closer: list[float] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    hints: list[bool] = field(default_factory=list)

    def add_photo(self, truths: dict[str, int], counts: dict[str, float], complete: bool) -> None:
        """counts: of every noun of `truths`, of absent prompts, and of the generic prompt."""
        shown = shown_nouns(truths)
        self.right += [abs(counts[noun] - truths[noun]) / truths[noun] for noun in shown]
        generic = counts[GENERIC_PROMPT]
        self.hints += [counts[n] < HINT_BELOW * generic and generic >= HINT_FROM for n in shown]
        if complete:
            total = sum(truths.values())
            self.objects.append(abs(generic - total) / total)
        absent = [counts[name] for name in counts if name not in {*truths, GENERIC_PROMPT}]
        if absent:
            most = max(truths, key=lambda noun: truths[noun])
            self.wrong.append(float(np.mean(absent)) / truths[most])
            off = abs(float(np.mean(absent)) - truths[most])
            self.closer.append(float(abs(counts[most] - truths[most]) < off))

    def row(self, name: str) -> tuple[str, ...]:
        ranks = np.array(self.ranks)
        return (
            name,
            str(len(self.right)),
            _shown(self.right, np.median),
            _shown(self.objects, np.median),
            _shown(self.wrong, np.mean),
            _shown(self.closer, np.mean),
            _shown(ranks < 1, np.mean),
            _shown(ranks < 10, np.mean),
            _shown(self.hints, np.mean),
        )


def _shown(values: Iterable[float], mean: object) -> str:
    values = np.asarray(values, float)
    return f"{mean(values):.2f}" if len(values) else ""


@torch.inference_mode()
def rank_of(counter: Counter, pixels: np.ndarray, noun: str, dots: np.ndarray, bank: Bank) -> int:
    """How many other nouns of the bank the patches under `dots` (K, 2) resemble more."""
    model = counter.model
    assert isinstance(model, CompactClipCount)
    small = resize_shorter_side(pixels, counter.windows.side_px)
    scale = small.shape[0] / pixels.shape[0]
    total = torch.zeros(model.config.clip.embed_dim)
    height_px, width_px = small.shape[:2]
    for origin in window_origins(height_px, width_px, counter.windows):
        features = counter.encode_windows(cut_windows(small, [origin], counter.windows))
        assert features.evidence is not None
        vectors = features.evidence.vectors[0, :, GROUP].float()
        side, side_px = model.config.clip.grid_side, counter.windows.side_px
        cells = (dots * scale - (origin[1], origin[0])) * (side / side_px)
        cells = cells[((cells >= 0) & (cells < side)).all(axis=1)].astype(int)
        total += vectors[cells[:, 1] * side + cells[:, 0]].sum(dim=0)
    likeness = (model.recognition.bank.float() @ total).tolist()
    own = likeness[model.config.bank.index(noun)]
    others = zip(model.config.bank, likeness, strict=True)
    return sum(like > own for name, like in others if not bank.may_be_same(name, noun))


def score_photo(counter: Counter, photo: Photo, bank: Bank, score: Score) -> None:
    pixels = read_image(photo.path).pixels
    truths = {noun: len(at) for noun, at in photo.points_px.items()}
    if not truths:
        return
    prompts = [*truths, *photo.absent[:MAX_ABSENT], GENERIC_PROMPT]
    counts = {result.prompt: result.count for result in counter.count(pixels, prompts)}
    score.add_photo(truths, counts, complete=not photo.mixed)
    if isinstance(counter.model, CompactClipCount):
        for noun, dots in photo.points_px.items():
            if noun in counter.model.config.bank and len(dots) >= MIN_COUNT:
                score.ranks.append(rank_of(counter, pixels, noun, dots, bank))


def score_labels(counter: Counter, labels: Path, score: Score) -> None:
    """Photos of which only counts are known; absent prompts are the first nouns of the others."""
    photos: dict[str, dict[str, int]] = defaultdict(dict)
    with labels.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["count"].strip() and int(row["count"]) > 0:
                photos[row["image"]][row["prompt"]] = int(row["count"])
    every = sorted({prompt for truths in photos.values() for prompt in truths})
    for name, truths in photos.items():
        words = {word for prompt in truths for word in prompt.split()}
        absent = [prompt for prompt in every if not words & set(prompt.split())][:MAX_ABSENT]
        pixels = read_image(labels.parent / name).pixels
        results = counter.count(pixels, [*truths, *absent, GENERIC_PROMPT])
        counts = {result.prompt: result.count for result in results}
        score.add_photo(truths, counts, complete=False)


def main(
    photos: Annotated[Path, typer.Option(help="Folder of sets: SET/images, SET/points.csv.")],
    labels: Annotated[Path | None, typer.Option(help="CSV with image, prompt, count.")] = None,
    weights: Annotated[str, typer.Option(help="Weights to count with.")] = "tiny",
    part: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
) -> None:
    """Print one row per set, and one over all sets."""
    counter = load_counter(weights, precision=precision)
    bank = _bank(photos)
    scores: dict[str, Score] = defaultdict(Score)
    chosen: Part = part
    for photo in read_photos(photos, chosen):
        score_photo(counter, photo, bank, scores[photo.set])
    if labels is not None:
        score_labels(counter, labels, scores[LABELLED])
    everything = Score()
    for score in scores.values():
        for name, values in vars(score).items():
            getattr(everything, name).extend(values)
    heads = ["set", "nouns", "right", "objects", "wrong", "closer", "first", "in ten", "hints"]
    rows = [score.row(name) for name, score in sorted(scores.items())]
    console.show_table(heads, [*rows, everything.row(f"all, {counter.label}")])


def _bank(photos: Path) -> Bank:
    from scenes.nouns import CUT_OUT, MODELLED, NOUNS, PICTURED

    prompts = {prompt for photo in read_photos(photos, "train") for prompt in photo.points_px}
    return Bank({**NOUNS, **PICTURED, **MODELLED, **CUT_OUT}, prompts)


if __name__ == "__main__":
    typer.run(main)
