"""One evaluation from data set to report: what `eval` prints, and the files it leaves behind.

evaluate.py -> metrics.py -> [report.py]. Under torchrun every process counts its share and the
first one prints and writes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcount_cli import console, distributed
from clipcount_cli.counting.notices import over_images
from clipcount_cli.data.samples import Dataset, Sample, by_image, prepare
from clipcount_cli.errors import ExitCode, UsageError, quantity, shortened
from clipcount_cli.evaluation.evaluate import evaluate, gathered
from clipcount_cli.evaluation.metrics import EvalRow, Metrics, worst
from clipcount_cli.evaluation.plot import PLOT_SUFFIXES, write_scatter
from clipcount_cli.files import (
    AppendOnlyFile,
    as_text,
    atomic_write,
    require_replaceable,
    require_suffix,
    require_writable,
)

if TYPE_CHECKING:
    from clipcount_cli.counting.counter import Counter, Tiles

CSV_COLUMNS = ("image", "prompt", "count", "truth", "error")
STDOUT = Path("-")
WORST_SHOWN = 10  # heatmaps of --worst


@dataclass(frozen=True)
class Report:
    """The results of one evaluation."""

    dataset: str
    split: str
    rows: tuple[EvalRow, ...]
    metrics: Metrics
    weights: str
    device: str
    precision: str
    prompt_check: bool
    tiles: Tiles = 1
    dataset_title: str = ""  # if people call the data set otherwise than JSON

    @property
    def shown_dataset(self) -> str:
        return self.dataset_title or self.dataset

    @property
    def title(self) -> str:
        tiles = "" if self.tiles == 1 else f", tiles {self.tiles}"
        return (
            f"{self.shown_dataset}, split {self.split}: {self.weights}, {self.device}, "
            f"{self.precision}{tiles}"
        )

    @property
    def summary(self) -> str:
        mae, rmse = _shown(self.metrics.mae), _shown(self.metrics.rmse)
        return f"{self.title}: MAE {mae}, RMSE {rmse} over {quantity(self.metrics.images, 'image')}"

    @property
    def exit_code(self) -> ExitCode:
        if not self.metrics.failed:
            return ExitCode.OK
        all_failed = self.metrics.failed == self.metrics.images
        return ExitCode.FAILED if all_failed else ExitCode.SOME_IMAGES_FAILED

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints; nmn, pccn and tiles only if their options were given."""
        figures = asdict(self.metrics)
        if not self.prompt_check:
            del figures["nmn"], figures["pccn"]
        used = {"weights": self.weights, "device": self.device, "precision": self.precision}
        tiles = {} if self.tiles == 1 else {"tiles": self.tiles}
        return {"dataset": self.dataset, "split": self.split, **figures, **used, **tiles}

    def show(self) -> None:
        """Print the figures on stdout as a table that fits narrow terminals."""
        metrics = self.metrics
        figures = {
            "MAE": metrics.mae,
            "RMSE": metrics.rmse,
            "RMSE without two largest": metrics.rmse_without_two_largest,
            "NAE": metrics.nae,
            "SRE": metrics.sre,
            "median relative error": metrics.median_relative_error,
            "exact": metrics.exact,
        }
        if self.prompt_check:
            figures |= {"NMN": metrics.nmn, "PCCN": metrics.pccn}
        rows = {
            "data set": f"{self.shown_dataset}, {self.split}",
            "weights": self.weights,
            "device": f"{self.device}, {self.precision}",
            **({} if self.tiles == 1 else {"tiles": str(self.tiles)}),
            "images": str(metrics.images),
            "failed": str(metrics.failed),
            **{name: _shown(value) for name, value in figures.items()},
        }
        console.show_table(("figure", "value"), [*rows.items()])


def _shown(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"


@dataclass(frozen=True)
class OutputFiles:
    """The files that an evaluation writes."""

    csv: Path | None = None  # `-` is stdout
    plot: Path | None = None
    worst: Path | None = None  # a folder

    def check(self, json: bool, overwrite: bool) -> None:
        """Raise UsageError for what could not be written, before an hour is spent counting."""
        if self.csv == STDOUT and json:
            raise UsageError("--json and --csv - both want stdout", hint="give --csv a file")
        table = None if self.csv == STDOUT else self.csv
        require_suffix(table, "--csv", ".csv", ".txt", "")
        require_suffix(self.plot, "--plot", *PLOT_SUFFIXES)
        require_writable(table, self.plot, overwrite=overwrite)
        require_replaceable(table, self.plot)
        folder = self.worst
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file", hint="--worst takes a folder")
        if folder is not None and folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise UsageError(f"{folder} is not empty", hint="add --overwrite to write into it")


def run(
    counter: Counter, dataset: Dataset, split: str, prompt_check: bool, tiles: Tiles = 1
) -> Report:
    """Count every image of the split, shared by all processes, and compute the figures."""
    samples = dataset.split(split)
    if distributed.is_first():
        for notice in dataset.notices:
            console.notice(notice)
        for warning in dataset.warnings:
            console.warn(warning)
        _mention_prompts(counter, samples)
    with distributed.joined():
        rows = _count_all(counter, samples, prompt_check, tiles)
    metrics = Metrics.of(rows)
    if distributed.is_first():
        _mention_failures(rows)
        counted = [row for row in rows if row.count is not None]
        for remark in over_images((row.image, row.message) for row in counted):
            console.notice(remark)
        _mention_unchecked(metrics, prompt_check)
    return Report(
        dataset.name,
        split,
        tuple(rows),
        metrics,
        counter.label,
        str(counter.device),
        counter.precision,
        prompt_check,
        tiles,
        dataset.title,
    )


def publish(
    report: Report, files: OutputFiles, counter: Counter, dataset: Dataset, json: bool
) -> None:
    """Write the requested files and print the figures on stdout, in one process."""
    if not distributed.is_first():
        return
    if files.csv is not None and files.csv != STDOUT:
        with atomic_write(files.csv) as temporary:
            temporary.write_bytes(as_csv(report.rows).encode())
    if files.plot is not None:
        write_scatter(report.rows, files.plot, report.title)
    if files.worst is not None:
        write_worst(counter, dataset.split(report.split), report.rows, files.worst)
    if files.csv == STDOUT:
        console.notice(report.summary)
        AppendOnlyFile(None).append(as_csv(report.rows).encode())
    elif json:
        console.show_json(report.as_json())
    else:
        report.show()


def as_csv(rows: Sequence[EvalRow]) -> str:
    r"""The rows as RFC 4180 with `\n`; count and error are empty if the image failed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        count, error = ("" if v is None else f"{v:.4f}" for v in (row.count, row.error))
        writer.writerow([as_text(row.image), as_text(row.prompt), count, row.truth, error])
    return text.getvalue()


def write_worst(
    counter: Counter, samples: Sequence[Sample], rows: Sequence[EvalRow], folder: Path
) -> None:
    """Draw the ten images with the largest errors, counting each of them again."""
    from clipcount_cli.counting.heatmap import panels
    from clipcount_cli.counting.images import write_image

    folder.mkdir(parents=True, exist_ok=True)
    sample_of = {(sample.source, sample.prompt): sample for sample in samples}
    for place, row in enumerate(worst(rows, WORST_SHOWN), start=1):
        pixels = prepare(sample_of[row.source, row.prompt]).pixels
        (result,) = counter.count_pixels(pixels, [row.prompt], row.tiles)
        captioned = replace(result, prompt=f"{row.prompt} (true: {row.truth})")
        write_image(folder / f"{place:02d}_{row.path.stem}.png", panels(pixels, [captioned]))


def _count_all(
    counter: Counter, samples: Sequence[Sample], prompt_check: bool, tiles: Tiles
) -> list[EvalRow]:
    with console.progress("counting", len(by_image(samples)), "images") as bar:
        return gathered(_watched(evaluate(counter, samples, prompt_check, tiles=tiles), bar))


def _watched(
    pictures: Iterable[list[EvalRow]], bar: console.ProgressBar
) -> Iterator[list[EvalRow]]:
    """Pass the rows on; this process's progress stands for all, which are equally fast."""
    failed = 0
    for rows in pictures:
        failed += any(row.count is None for row in rows)
        bar.advance(distributed.world_size(), f"{failed} failed" if failed else None)
        yield rows


def _mention_prompts(counter: Counter, samples: Sequence[Sample]) -> None:
    prompts = sorted({sample.prompt for sample in samples})
    hidden = [part for prompt in prompts if (part := counter.unread_part(prompt))]
    if hidden:
        console.warn(
            f"{len(hidden)} of {quantity(len(prompts), 'prompt')} cannot be read in full: "
            f"{hidden[0]}"
        )


def _mention_unchecked(metrics: Metrics, prompt_check: bool) -> None:
    if prompt_check and metrics.nmn is None:
        console.notice(
            "the prompt check needs two classes or more, and images that lack one of them: "
            "nmn and pccn are null"
        )


def _mention_failures(rows: Sequence[EvalRow]) -> None:
    messages = list(dict.fromkeys(row.message for row in rows if row.count is None))
    if messages:
        console.warn(f"{quantity(len(messages), 'image')} failed: {shortened(messages)}")
