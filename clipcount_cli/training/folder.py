"""RUN/: the files a training leaves, each written whole or not at all, `log.csv` by whole rows.

`checkpoint.pt` is what goes on exactly; `last.safetensors` and `best.safetensors` are weights for
`count`. A column that no epoch has filled stays empty.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from clipcount_cli.errors import TrainingError

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

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint; a process killed meanwhile leaves the old one."""
        with replacing(self.checkpoint) as temporary:
            torch.save(dict(state), temporary)

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
        with replacing(self.config) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def write_log(self, rows: Sequence[Row]) -> None:
        """Make log.csv hold exactly `rows`."""
        with replacing(self.log) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(_cells(row) for row in rows)

    def append_log(self, row: Row) -> None:
        """Add one flushed row."""
        with self.log.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(_cells(row))
            file.flush()
            os.fsync(file.fileno())


def _cells(row: Row) -> list[str]:
    return [f"{row[name]:.6g}" if name in row else "" for name in COLUMNS]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place once it is on the disk."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
