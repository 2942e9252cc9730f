"""A run's settings, as config.json holds them: what `--resume` reads, compares and adds to.

config.py -> [settings.py] -> run.py
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import PIL
import torch

from clipcount_cli import console, distributed
from clipcount_cli.config import Recipe, TrainConfig, to_json, train_config_from_json
from clipcount_cli.data.samples import Dataset
from clipcount_cli.errors import TrainingError, UsageError
from clipcount_cli.training.run_folder import RunFolder
from clipcount_cli.version import __version__


@dataclass(frozen=True)
class RunSettings:
    """A run as it was resolved: what config.json holds, beside the network's own configuration."""

    data: str
    part: str | None
    init: str
    recipe: Recipe
    precision: str
    data_sha256: str
    train: TrainConfig
    device: str  # its type: where the run continues unless --device names another
    world_size: int  # processes


def read_settings(folder: RunFolder) -> RunSettings:
    """What a run was started with; raises TrainingError if its config.json cannot be read."""
    saved = folder.read_config()
    names = {f.name for f in dataclasses.fields(RunSettings)}
    plain = {name: value for name, value in saved.items() if name in names}
    try:
        return RunSettings(**{**plain, "train": train_config_from_json(saved["train"])})
    except (ValueError, TypeError, LookupError) as error:
        raise TrainingError(f"{folder.config} cannot be read: {error}") from error


def provenance(earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """Date, command line and versions of this start of a run.

    earlier: the config.json of a run that continues: this start is added to those in it.
    """
    now = {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(["clipcount", *sys.argv[1:]]),
        "versions": {
            "clipcount-cli": __version__,
            "python": platform.python_version(),
            **{library.__name__: library.__version__ for library in (torch, open_clip, np, PIL)},
            "cuda": torch.version.cuda,
        },
    }
    if earlier is None:
        return {**now, "resumed": []}
    first = {name: earlier[name] for name in now if name in earlier}
    return {**first, "resumed": [*earlier.get("resumed", []), now]}


def fingerprint(dataset: Dataset) -> str:
    """Changes when a name, a prompt or a dot that training uses does."""
    digest = hashlib.sha256()
    for split in ("train", "val"):
        for sample in dataset.split(split):
            digest.update(f"{split}\0{sample.name}\0{sample.prompt}\0".encode())
            digest.update(sample.points_px.astype("<f4").tobytes())
    return digest.hexdigest()


def moved_here(settings: RunSettings, data: Path, device: torch.device) -> RunSettings:
    """The settings of a run that continues here; prints if that can change its weights."""
    here = dataclasses.replace(
        settings,
        data=str(data.resolve()),
        device=device.type,
        world_size=distributed.world_size(),
    )
    then, now = (f"{each.device} (processes: {each.world_size})" for each in (settings, here))
    if then != now and distributed.is_first():
        console.notice(
            f"this run was on {then} and continues on {now}: its weights will not be, bit for bit, "
            "what they would have been"
        )
    return here


def require_same_options(
    settings: RunSettings, options: Mapping[str, Any], folder: RunFolder
) -> None:
    """Raise UsageError naming each of `options` (None: not given) that differs from the run's."""
    then = {**to_json(settings), **to_json(settings.train), "out": str(folder.path.resolve())}
    differences = [
        f"--{name.replace('_', '-')} {value} (was {then[name]})"
        for name, value in options.items()
        if value is not None and value != then[name]
    ]
    if differences:
        raise UsageError(
            f"{folder.path} was started with other options: {', '.join(differences)}",
            hint="leave them out to continue it, or train further in a new run: "
            f"--init {folder.last} --data {settings.data}",
        )
