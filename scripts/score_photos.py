"""Count in a folder of photos whose true counts are known, and print both side by side.

    python scripts/score_photos.py --photos DIR --labels FILE [--absent] [--weights NAME|FILE]

FILE is a table like the counts.csv that `clipcount eval` reads (image,prompt,count; without a
count: present, but not counted); further columns are ignored. With --absent each photo is
also queried for what others show, as `eval --prompt-check` does. Beside the figures of `eval`: the
photos in the order of their errors, and Spearman's rank correlation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.stats import spearmanr

from clipcount_cli import console, load_counter
from clipcount_cli.data.checks import Findings
from clipcount_cli.data.formats import counted
from clipcount_cli.data.samples import Sample, as_points
from clipcount_cli.data.tables import read_table
from clipcount_cli.evaluation.evaluate import evaluate, gathered
from clipcount_cli.evaluation.metrics import EvalRow, Metrics


def read_samples(photos: Path, labels: list[Path]) -> list[Sample]:
    """One sample per counted prompt of each photo, in the order of the tables."""
    findings = Findings()
    images = [image for path in labels for image in counted.read_table(read_table(path), findings)]
    findings.raise_if_any(photos, counted.TITLE)
    return [
        Sample(
            image.name,
            photos / image.name,
            prompt,
            as_points([]),
            count=count,
            uncounted=frozenset(image.uncounted),
        )
        for image in images
        for prompt, count in image.counts.items()
    ]


def relative_error(row: EvalRow) -> float:
    """|error| / truth; where the truth is 0, the count itself."""
    return abs(row.error or 0.0) / (row.truth or 1)


def show_ranking(rows: list[EvalRow]) -> None:
    """Print every row on stdout, the smallest relative error first."""
    table = [
        (row.image, row.prompt, row.truth, f"{row.count:.1f}", f"{relative_error(row):.2f}")
        for row in sorted(rows, key=relative_error)
    ]
    console.show_table(["image", "prompt", "true", "counted", "relative error"], table)


def summary(rows: list[EvalRow], absent: bool) -> list[tuple[str, str]]:
    """The figures over all rows; relative ones over those whose truth is above zero."""
    metrics = Metrics.of(rows)
    there = [row for row in rows if row.truth > 0]
    rank = spearmanr([row.truth for row in there], [row.count for row in there]).statistic
    empty = [row.count for row in rows if row.truth == 0 and row.count is not None]
    figures = {
        "MAE": metrics.mae,
        "median relative error": metrics.median_relative_error,
        "exact": metrics.exact,
        "Spearman correlation": rank,
        "mean count where the truth is 0": float(np.mean(empty)) if empty else None,
    }
    if absent:
        shares = [row.absent_mean / row.truth for row in there if row.absent_mean is not None]
        figures |= {
            "NMN (absent prompts over truth)": metrics.nmn,
            "the same, median": float(np.median(shares)) if shares else None,
            "the same, worst": max(shares, default=None),
            "PCCN (percent)": metrics.pccn,
        }
    shown = [(name, "-" if value is None else f"{value:.2f}") for name, value in figures.items()]
    return [("rows", str(len(rows))), *shown]


def main(
    photos: Annotated[Path, typer.Option(help="Folder of photos.")],
    labels: Annotated[list[Path], typer.Option(help="CSV with image, prompt, count; repeatable.")],
    absent: Annotated[bool, typer.Option(help="Also query what others show.")] = False,
    weights: Annotated[str | None, typer.Option(help="Weights to count with.")] = "tiny",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "fp32",
) -> None:
    """Print true and predicted counts, best first, and the figures over all of them."""
    counter = load_counter(weights, precision=precision)
    rows = gathered(evaluate(counter, read_samples(photos, labels), prompt_check=absent))
    for failed in (row for row in rows if row.count is None):
        console.warn(failed.message)
    done = [row for row in rows if row.count is not None]
    show_ranking(done)
    console.show_table([counter.label, ""], summary(done, absent))


if __name__ == "__main__":
    typer.run(main)
