"""RUN/: the files a training leaves, each written whole or not at all, `log.csv` by whole rows.

`checkpoint.pt` is what a resumed run continues from; `last.safetensors` and `best.safetensors` are
weights for `count`. A training does not depend on `log.csv` and `curves.png`, which people open in
other programs: while one of them cannot be written, the training continues and writes it later.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from clipcount_cli import console
from clipcount_cli.errors import ClipCountError, TrainingError
from clipcount_cli.files import atomic_write, require_replaceable, write_error

COLUMNS = (
    *("epoch", "step", "learning_rate", "loss", "density", "count", "contrast", "negative"),
    *("val_mae", "val_rmse", "val_nmn", "val_pccn", "images_per_s", "waiting", "seconds"),
)
LogRow = dict[str, float]

# Each panel of curves.png: title, vertical axis, and what a column is called in its legend.
_PANELS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (
        "Training loss",
        "loss",
        {
            "loss": "total",
            "density": "density",
            "count": "count",
            "contrast": "patch-text contrast",
            "negative": "contrast with other prompts",
        },
    ),
    (
        "Error on the validation images",
        "objects per image",
        {"val_mae": "mean absolute error", "val_rmse": "root mean squared error"},
    ),
    (
        "Count of prompts that are absent",
        "share of the objects present",
        {"val_nmn": "normalized mean of absent prompts"},
    ),
)


class RunFolder:
    """The files of one training run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.log = path / "log.csv"
        self.curves = path / "curves.png"
        self.best = path / "best.safetensors"
        self.last = path / "last.safetensors"
        self.checkpoint = path / "checkpoint.pt"
        self._logged: int | None = None  # rows in log.csv; None: it is to be written as a whole
        self.unwritten: set[Path] = set()  # files that could not be written the last time

    @property
    def files(self) -> list[Path]:
        """Those of a run's files that exist."""
        every = (self.config, self.log, self.curves, self.best, self.last, self.checkpoint)
        return [file for file in every if file.is_file()]

    @contextmanager
    def made(self) -> Iterator[None]:
        """Make the folder; a start that is refused within leaves no empty one behind."""
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.path, error) from error
        try:
            yield
        except BaseException:
            for folder in missing:
                with contextlib.suppress(OSError):  # it holds something
                    folder.rmdir()
            raise

    def clear(self) -> None:
        """Remove the files of an earlier run: all of them, or none if one cannot be replaced."""
        require_replaceable(*self.files)
        try:
            for file in self.files:
                file.unlink()
        except OSError as error:
            raise write_error(self.path, error) from error

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint; a process killed meanwhile leaves the old one."""
        with atomic_write(self.checkpoint) as temporary:
            try:
                torch.save(dict(state), temporary)
            except RuntimeError as error:  # torch words the disk's errors as its own
                raise OSError(errno.EIO, str(error).partition("\n")[0]) from error

    def load_state(self) -> dict[str, Any]:
        """The last checkpoint, read without running code in it."""
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, "cpu", weights_only=True)
        except Exception as error:  # damaged pickles raise many kinds of errors
            raise TrainingError(
                f"{self.checkpoint} cannot be read: {error}",
                hint=f"start a new run from its weights: --init {self.last}",
            ) from error
        return state

    def read_config(self) -> dict[str, Any]:
        """What config.json holds; raises TrainingError if it cannot be read."""
        try:
            return dict(json.loads(self.config.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(f"{self.config} cannot be read: {error}") from error

    def save_config(self, config: Mapping[str, Any]) -> None:
        """Write what `--resume` has to know."""
        with atomic_write(self.config) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def update_log(self, rows: Sequence[LogRow]) -> None:
        """Bring log.csv up to `rows`, of which it only lacks the last ones."""
        with self._optional(self.log):
            pending, self._logged = self._logged, None
            if pending is None:
                with atomic_write(self.log) as temporary, temporary.open("w", newline="") as file:
                    csv.writer(file, lineterminator="\n").writerow(COLUMNS)
                    _write_rows(file, rows)
            else:
                with self.log.open("a", newline="") as file:
                    _write_rows(file, rows[pending:])
            self._logged = len(rows)

    def read_log(self) -> list[LogRow]:
        """The rows of log.csv; none if it cannot be read."""
        try:
            with self.log.open(newline="") as file:
                return [
                    {name: float(cell) for name, cell in row.items() if cell}
                    for row in csv.DictReader(file)
                ]
        except (OSError, ValueError, TypeError, csv.Error):
            return []

    def draw_curves(self, rows: Sequence[LogRow]) -> None:
        """Draw the epochs so far into curves.png."""
        with self._optional(self.curves), atomic_write(self.curves) as temporary:
            draw_curves(rows, temporary)

    @contextmanager
    def _optional(self, path: Path) -> Iterator[None]:
        """Let training continue while `path` cannot be written; warn about it once."""
        try:
            yield
        except (OSError, ClipCountError) as error:
            if path not in self.unwritten:
                reason = getattr(error.__cause__ or error, "strerror", None) or error
                console.warn(
                    f"{path} cannot be written now ({reason}); training continues and writes it "
                    "later"
                )
            self.unwritten.add(path)
        else:
            self.unwritten.discard(path)


def best_row(rows: Sequence[LogRow]) -> LogRow | None:
    """The first epoch of the smallest validation error; None if none was validated."""
    validated = [row for row in rows if math.isfinite(row.get("val_mae", math.nan))]
    return min(validated, key=lambda row: row["val_mae"], default=None)


def _write_rows(file: Any, rows: Sequence[LogRow]) -> None:
    csv.writer(file, lineterminator="\n").writerows(
        [f"{row[name]:.6g}" if name in row else "" for name in COLUMNS] for row in rows
    )
    file.flush()
    os.fsync(file.fileno())


def draw_curves(rows: Sequence[LogRow], path: Path) -> None:
    """Draw the epochs so far, a panel for each kind of figure there is, into `path`, a PNG."""
    from matplotlib.figure import Figure  # 0.3 s: paid only when curves are drawn

    panels = [
        (title, unit, drawn)
        for title, unit, names in _PANELS
        if (drawn := {n: label for n, label in names.items() if any(n in row for row in rows)})
    ]
    figure = Figure(figsize=(4.4 * max(1, len(panels)), 4.2), layout="constrained")
    for place, (title, unit, names) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        _draw_panel(axes, rows, names)
        axes.set(title=title, xlabel="epoch", ylabel=unit)
    figure.savefig(path, format="png", dpi=100)


def _draw_panel(axes: Any, rows: Sequence[LogRow], names: Mapping[str, str]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    for name, label in names.items():
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), label=label, marker=".", linewidth=1)
    if (best := best_row(rows)) is not None:
        label = f"best epoch: {best['epoch']:.0f}"
        axes.axvline(best["epoch"], color="0.4", linestyle=":", linewidth=1, label=label)
    if "loss" in names:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(0, 1.03 * rows[-1]["epoch"])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18)}  # where it covers no curve
    axes.legend(**below, ncols=2, frameon=False, fontsize="small")
