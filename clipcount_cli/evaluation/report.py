"""One evaluation from data set to report: what `eval` prints, and the files it leaves behind.

evaluate.py -> metrics.py -> [report.py]. Under torchrun every process counts its share and the
first one speaks and writes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcount_cli import console, distributed
from clipcount_cli.data.samples import Dataset, Sample, by_image, prepare
from clipcount_cli.errors import ExitCode, UsageError, shortened
from clipcount_cli.evaluation.evaluate import evaluate, gathered
from clipcount_cli.evaluation.metrics import EvalRow, Metrics, worst
from clipcount_cli.files import AppendOnlyFile, as_text, atomic_write, require_writable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from clipcount_cli.counting.counter import Counter

CSV_COLUMNS = ("image", "prompt", "count", "truth", "error")
STDOUT = Path("-")
WORST_SHOWN = 10  # heatmaps of --worst
WORST_NAMED = 5  # labels in the scatter plot; more would cover each other
PLOT_SUFFIXES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")
_LINEAR_BELOW = 1.0  # the plot's axes are logarithmic from one object on, so that zero has a place


@dataclass(frozen=True)
class Report:
    """Everything one evaluation found out."""

    dataset: str
    split: str
    rows: tuple[EvalRow, ...]
    metrics: Metrics
    weights: str
    device: str
    precision: str
    prompt_check: bool

    @property
    def title(self) -> str:
        return f"{self.dataset} {self.split}: {self.weights}, {self.device}, {self.precision}"

    @property
    def summary(self) -> str:
        mae, rmse = _shown(self.metrics.mae), _shown(self.metrics.rmse)
        return f"{self.title}: MAE {mae}, RMSE {rmse} over {self.metrics.images} images"

    @property
    def exit_code(self) -> ExitCode:
        if not self.metrics.failed:
            return ExitCode.OK
        all_failed = self.metrics.failed == self.metrics.images
        return ExitCode.FAILED if all_failed else ExitCode.SOME_IMAGES_FAILED

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints; nmn and pccn only where the prompt check was asked."""
        figures = asdict(self.metrics)
        if not self.prompt_check:
            del figures["nmn"], figures["pccn"]
        used = {"weights": self.weights, "device": self.device, "precision": self.precision}
        return {"dataset": self.dataset, "split": self.split, **figures, **used}

    def show(self) -> None:
        """Put the figures on stdout as a table."""
        metrics = self.metrics
        named = {
            "MAE": metrics.mae,
            "RMSE": metrics.rmse,
            "NAE": metrics.nae,
            "SRE": metrics.sre,
            "RMSE without two largest": metrics.rmse_without_two_largest,
        }
        if self.prompt_check:
            named |= {"NMN": metrics.nmn, "PCCN": metrics.pccn}
        figures = [_shown(value) for value in named.values()]
        columns = ["data set", "split", "images", "failed", *named]
        counts = [str(metrics.images), str(metrics.failed)]
        console.show_table(columns, [[self.dataset, self.split, *counts, *figures]], self.title)


def _shown(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"


@dataclass(frozen=True)
class OutputFiles:
    """The files that an evaluation was asked to write."""

    csv: Path | None = None  # `-` is stdout
    plot: Path | None = None
    worst: Path | None = None  # a folder

    def check(self, json: bool, overwrite: bool) -> None:
        """Raise UsageError for what could not be written, before an hour is spent counting."""
        if self.csv == STDOUT and json:
            raise UsageError("--json and --csv - both want stdout", hint="give --csv a file")
        require_writable(None if self.csv == STDOUT else self.csv, self.plot, overwrite=overwrite)
        if self.plot is not None and self.plot.suffix.lower() not in PLOT_SUFFIXES:
            raise UsageError(
                f"{self.plot}: no picture format is called {self.plot.suffix or 'like that'}",
                hint=f"end the name in {', '.join(PLOT_SUFFIXES)}",
            )
        folder = self.worst
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file", hint="--worst takes a folder")
        if folder is not None and folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise UsageError(f"{folder} is not empty", hint="add --overwrite to write into it")


def run(counter: Counter, dataset: Dataset, split: str, prompt_check: bool) -> Report:
    """Count every picture of the split, once over all processes, and put the figures together."""
    samples = dataset.split(split)
    if distributed.is_first():
        for notice in dataset.notices:
            console.notice(notice)
        for warning in dataset.warnings:
            console.warn(warning)
        _mention_prompts(counter, samples)
    with distributed.joined():
        rows = _count_all(counter, samples, prompt_check)
    metrics = Metrics.of(rows)
    if distributed.is_first():
        _mention_failures(rows)
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
    )


def publish(
    report: Report, files: OutputFiles, counter: Counter, dataset: Dataset, json: bool
) -> None:
    """Write the files that were asked for and put the figures on stdout, in one process."""
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
    r"""The rows as RFC 4180 with `\n`; count and error are empty where the picture failed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        count, error = ("" if v is None else f"{v:.4f}" for v in (row.count, row.error))
        writer.writerow([as_text(row.image), as_text(row.prompt), count, row.truth, error])
    return text.getvalue()


def write_scatter(rows: Sequence[EvalRow], path: Path, title: str) -> None:
    """Draw predicted against true counts, on logarithmic axes, and name the worst pictures."""
    from matplotlib.figure import Figure  # 0.3 s: paid only where a plot is drawn

    done = [row for row in rows if row.count is not None]
    truths = [row.truth for row in done]
    counts = [row.count or 0.0 for row in done]
    top = 1.5 * max([1.0, *truths, *counts])
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, top], [0, top], color="0.6", linewidth=1)
    axes.scatter(truths, counts, s=14, alpha=0.6, linewidths=0)
    axes.set_xscale("symlog", linthresh=_LINEAR_BELOW)
    axes.set_yscale("symlog", linthresh=_LINEAR_BELOW)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="true count", ylabel="predicted count")
    axes.set_title(_literal(title), fontsize=9)
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
    _name_worst(axes, done)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _name_worst(axes: Axes, rows: Sequence[EvalRow]) -> None:
    for place, row in enumerate(worst(rows, WORST_NAMED)):
        left = place % 2 == 1  # neighbours write away from each other
        axes.annotate(
            _literal(as_text(row.image)),
            (row.truth, row.count or 0.0),
            xytext=(-5 if left else 5, 5),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=7,
        )


def _literal(text: str) -> str:
    """Text as matplotlib draws it: a dollar sign begins no formula."""
    return text.replace("$", r"\$")


def write_worst(
    counter: Counter, samples: Sequence[Sample], rows: Sequence[EvalRow], folder: Path
) -> None:
    """Draw the ten worst pictures with density, count and truth, counting each once more."""
    from clipcount_cli.counting.heatmap import panels
    from clipcount_cli.counting.images import write_image

    folder.mkdir(parents=True, exist_ok=True)
    sample_of = {(sample.image, sample.prompt): sample for sample in samples}
    for place, row in enumerate(worst(rows, WORST_SHOWN), start=1):
        pixels = prepare(sample_of[row.path, row.prompt]).pixels
        (result,) = counter.count(pixels, [row.prompt])
        captioned = replace(result, prompt=f"{row.prompt} (true: {row.truth})")
        write_image(folder / f"{place:02d}_{row.path.stem}.png", panels(pixels, [captioned]))


def _count_all(counter: Counter, samples: Sequence[Sample], prompt_check: bool) -> list[EvalRow]:
    with console.progress("counting", len(by_image(samples)), "images") as bar:
        return gathered(_watched(evaluate(counter, samples, prompt_check), bar))


def _watched(
    pictures: Iterable[list[EvalRow]], bar: console.ProgressBar
) -> Iterator[list[EvalRow]]:
    """Pass the rows on; this process's bar stands for all of them, which go equally fast."""
    failed = 0
    for rows in pictures:
        failed += any(row.count is None for row in rows)
        bar.advance(distributed.world_size(), f"{failed} failed" if failed else None)
        yield rows


def _mention_prompts(counter: Counter, samples: Sequence[Sample]) -> None:
    prompts = sorted({sample.prompt for sample in samples})
    hidden = [said for prompt in prompts if (said := counter.unread_part(prompt))]
    if hidden:
        console.warn(
            f"{len(hidden)} of the {len(prompts)} prompts cannot be read in full: {hidden[0]}"
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
        console.warn(f"{len(messages)} images failed: {shortened(messages)}")
