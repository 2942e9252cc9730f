"""RUN/: the files a training leaves, each written whole or not at all, `log.csv` by whole rows.

`checkpoint.pt` is what goes on exactly; `last.safetensors` and `best.safetensors` are weights for
`count`. A column that no epoch has filled stays empty.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from clipcount_cli.errors import TrainingError
from clipcount_cli.files import atomic_write, write_error

COLUMNS = (
    *("epoch", "step", "learning_rate", "loss", "density", "count", "contrast", "negative"),
    *("val_mae", "val_rmse", "val_nmn", "val_pccn", "images_per_s", "waiting", "seconds"),
)
LogRow = dict[str, float]

_PANELS = (
    ("loss", "loss", ("loss", "density", "count", "contrast", "negative")),
    ("error on the validation split", "objects", ("val_mae", "val_rmse")),
    ("answer to absent prompts", "share of what is there", ("val_nmn",)),
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

    @property
    def files(self) -> list[Path]:
        """What is there of a run's files."""
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
        """Remove the files of an earlier run."""
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
        except Exception as error:  # torch raises whatever its unpickler meets
            raise TrainingError(
                f"{self.checkpoint} cannot be read: {error}",
                hint=f"start anew from its weights: --init {self.last}",
            ) from error
        return state

    def save_config(self, config: Mapping[str, Any]) -> None:
        """Write what `--resume` has to know."""
        with atomic_write(self.config) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def write_log(self, rows: Sequence[LogRow]) -> None:
        """Make log.csv hold exactly `rows`."""
        with atomic_write(self.log) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(_cells(row) for row in rows)

    def append_log(self, row: LogRow) -> None:
        """Add one flushed row."""
        try:
            with self.log.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(_cells(row))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(self.log, error) from error


def _cells(row: LogRow) -> list[str]:
    return [f"{row[name]:.6g}" if name in row else "" for name in COLUMNS]


def draw_curves(rows: Sequence[LogRow], path: Path) -> None:
    """Draw the epochs so far into `path`, a PNG."""
    from matplotlib.figure import Figure  # 0.3 s: paid only where a picture is drawn

    figure = Figure(figsize=(12, 3.6))
    figure.subplots_adjust(0.06, 0.15, 0.98, 0.9, wspace=0.25)
    for axes, (title, unit, names) in zip(figure.subplots(1, 3), _PANELS, strict=True):
        for name in names:
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, marker=".", linewidth=1)
        if axes.lines:
            axes.legend(frameon=False)
        if names[0] == "loss":
            axes.set_yscale("log")
        axes.set(title=title, xlabel="epoch", ylabel=unit)
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
