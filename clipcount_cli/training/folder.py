"""RUN/: the files a training leaves, each written whole or not at all, `log.csv` by whole rows.

`checkpoint.pt` is what goes on exactly; `last.safetensors` and `best.safetensors` are weights for
`count`. A column that no epoch has filled stays empty.
"""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from clipcount_cli.errors import TrainingError
from clipcount_cli.files import cannot_write, written_whole

COLUMNS = (
    *("epoch", "step", "learning_rate", "loss", "density", "count", "contrast", "negative"),
    *("val_mae", "val_rmse", "val_nmn", "val_pccn", "images_per_s", "waiting", "seconds"),
)
Row = dict[str, float]


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

    def clear(self) -> None:
        """Remove the files of an earlier run."""
        for file in (self.config, self.log, self.curves, self.best, self.last, self.checkpoint):
            file.unlink(missing_ok=True)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint; a process killed meanwhile leaves the old one."""
        with written_whole(self.checkpoint) as temporary:
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
        with written_whole(self.config) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def write_log(self, rows: Sequence[Row]) -> None:
        """Make log.csv hold exactly `rows`."""
        with written_whole(self.log) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(_cells(row) for row in rows)

    def append_log(self, row: Row) -> None:
        """Add one flushed row."""
        try:
            with self.log.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(_cells(row))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self.log, error) from error


def _cells(row: Row) -> list[str]:
    return [f"{row[name]:.6g}" if name in row else "" for name in COLUMNS]
