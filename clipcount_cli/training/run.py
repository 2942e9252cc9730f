"""`clipcount train`: a data set and a start become RUN/, or RUN/ continues where it stopped.

limits.py, photos.py, sampler.py, start.py, step.py -> loop.py -> [run.py]. All that can be
refused is refused before the first step, and before --overwrite removes an earlier run.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from clipcount_cli import console, distributed
from clipcount_cli.config import RECIPES, Recipe, to_json
from clipcount_cli.counting.compact import build_model
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.counting.prompts import unread_part
from clipcount_cli.data.datasets import load_dataset
from clipcount_cli.data.samples import Dataset
from clipcount_cli.devices import pick_device, pick_precision, require_full_fp32
from clipcount_cli.errors import (
    DataError,
    DeviceError,
    TrainingError,
    UsageError,
    command_line,
    quantity,
)
from clipcount_cli.files import remove_leftovers
from clipcount_cli.training.limits import check_network, check_training
from clipcount_cli.training.loop import fit
from clipcount_cli.training.photos import PixelCache, TrainingImage, read_photos
from clipcount_cli.training.run_folder import LogRow, RunFolder, best_row
from clipcount_cli.training.sampler import Sampler
from clipcount_cli.training.settings import (
    RunSettings,
    fingerprint,
    moved_here,
    provenance,
    read_settings,
    require_same_options,
)
from clipcount_cli.training.start import Start, choose_trained, one_class_notice, start_from
from clipcount_cli.training.step import Trainer
from clipcount_cli.training.validation import validation_of
from clipcount_cli.weights import cache, checkpoint
from clipcount_cli.weights.registry import EMBEDDED_NAME

MAX_PLANNING_PROCESSES = 4  # per GPU
_GIGABYTE = 1e9
_UNREAD_SHOWN = 3


@dataclass(frozen=True)
class TrainRequest:
    """What a user requested; None and empty for what was left out."""

    data: Path | None = None
    out: Path | None = None
    init: str | None = None
    recipe: Recipe | None = None
    part: str | None = None
    device: str = "auto"
    precision: str = "auto"
    hyper_parameters: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False


def train(request: TrainRequest) -> RunFolder:
    """Train from the beginning into a new folder; InterruptedRunError on a request to stop."""
    if request.data is None:
        raise UsageError(
            "missing option '--data'", hint="name the folder of the data set: --data DIR"
        )
    device = pick_device(request.device)
    init, recipe = request.init or "clip", request.recipe or Recipe.default
    check_training(dataclasses.replace(RECIPES[recipe], **request.hyper_parameters))
    with distributed.joined(device):
        folder = _choose_folder(request.out, request.overwrite)
        dataset = _load(request.data, request.part)
        prompts = sorted({sample.prompt for sample in dataset.split("train")})
        start = start_from(init, recipe, request.hyper_parameters, prompts)
        check_network(start.model.config)
        if notice := one_class_notice(start.config, dataset.split("train"), init):
            start = dataclasses.replace(start, notices=(*start.notices, notice))
        settings = RunSettings(
            str(request.data.resolve()),
            request.part,
            init,
            recipe,
            pick_precision(request.precision, device),
            fingerprint(dataset),
            start.config,
            device.type,
            distributed.world_size(),
        )
        return _run(folder, settings, start, dataset, device, begins=True)


def resume(run: Path, request: TrainRequest) -> RunFolder:
    """Resume `run` at the step at which it stopped; UsageError names each option that differs.

    The data may have moved, and device and processes may be others: config.json then states them.
    """
    folder = RunFolder(run)
    _require_resumable(folder)
    settings = read_settings(folder)
    require_same_options(settings, _options_of(request), folder)
    check_training(settings.train)
    data = request.data or Path(settings.data)
    if not data.is_dir():
        raise DataError(
            f"{data}, which {run} learns from, is not a folder",
            hint=f"give its new place with --data: --resume {run} --data DIR",
        )
    device = pick_device(settings.device if request.device == "auto" else request.device)
    if settings.precision == "fp16" and device.type == "cpu":
        raise DeviceError(
            f"{run} trains in fp16, which a CPU does not multiply in",
            hint="resume on a machine with a GPU: --device cuda",
        )
    with distributed.joined(device):
        dataset = _load(data, settings.part)
        if fingerprint(dataset) != settings.data_sha256:
            raise TrainingError(
                f"{data} is not what it was when {run} began: names, prompts or points changed",
                hint=f"start a new run from its weights: --init {folder.last} --data {data}",
            )
        settings = moved_here(settings, data, device)
        if len(rows := folder.read_log()) == settings.train.epochs:
            console.notice(f"{run} is already complete: nothing is left to train")
            _report_end(folder, rows, dataset, settings.train.tiles)
            return folder
        return _run(folder, settings, _continued(folder, settings), dataset, device)


def _continued(folder: RunFolder, settings: RunSettings) -> Start:
    """The network as it stopped. The file is closed on return: Windows replaces no mapped file."""
    state, metadata = checkpoint.load_state(folder.last)
    model = build_model(metadata.config)
    model.load_state_dict(state, strict=False)
    dtypes = {name: tensor.dtype for name, tensor in state.items()}
    return Start(model, settings.train, metadata.origin, dtypes)


def _run(
    folder: RunFolder,
    settings: RunSettings,
    start: Start,
    dataset: Dataset,
    device: torch.device,
    begins: bool = False,
) -> RunFolder:
    config = start.config
    require_full_fp32(settings.precision)
    model = start.model.float().to(device)
    choose_trained(model, config)
    with folder.made():
        cache = PixelCache(config.cache_gb * _GIGABYTE, folder.path)
        photos = read_photos(dataset.split("train"), cache, "reading train", config.tiles)
        validation = read_photos(dataset.split("val"), cache, "reading val", config.tiles)
        sampler = Sampler(photos, config, model.config, device, planning_processes(device))
        trainer = Trainer(model, config, sampler.plan, settings.precision, config.freeze_norms)
        _report_start(folder, start, trainer, photos, validation)

        def save_weights(model: ClipCount, path: Path) -> None:
            checkpoint.save(_as_read(model, start, trainer), model.config, path, start.origin)

        if distributed.is_first():
            remove_leftovers(folder.path)
            history = provenance(None if begins else folder.read_config())
            if begins:
                _require_space(folder, trainer)
                folder.clear()
            saved = {**to_json(settings), "model": to_json(model.config)}
            saved["trained_parameters"] = trainer.trained_parameters
            folder.save_config({**saved, **history})
        distributed.barrier()  # none may look for a checkpoint that is about to be removed
    rows = fit(
        trainer,
        sampler.batches,
        folder,
        save_weights,
        validation_of(dataset.split("val"), validation, settings.precision, config.tiles),
        config.validate_every,
        60 * config.save_minutes,
    )
    _report_end(folder, rows, dataset, config.tiles)
    return folder


def _require_resumable(folder: RunFolder) -> None:
    """Raise UsageError if a file is missing without which the run cannot continue exactly."""
    if not folder.config.is_file():
        raise UsageError(f"{folder.path} holds no training to resume", "start one with --data DIR")
    needed = (folder.checkpoint, folder.last)
    if missing := [file.name for file in needed if not file.is_file()]:
        weights = next((file for file in (folder.last, folder.best) if file.is_file()), None)
        hint = "start a new run with --data DIR"
        raise UsageError(
            f"{folder.path} cannot be resumed where it stopped: it has no {missing[0]}",
            hint=hint if weights is None else f"{hint} --init {weights} --out RUN",
        )


def _options_of(request: TrainRequest) -> dict[str, Any]:
    """The options that a user chose, by the names that a run's settings have."""
    return {
        "out": None if request.out is None else str(request.out.resolve()),
        "init": request.init,
        "recipe": request.recipe and request.recipe.value,
        "part": request.part,
        "precision": None if request.precision == "auto" else request.precision,
        **request.hyper_parameters,
    }


def _report_end(folder: RunFolder, rows: Sequence[LogRow], dataset: Dataset, tiles: int) -> None:
    if not distributed.is_first():
        return
    if unwritten := ", ".join(sorted(str(path) for path in folder.unwritten)):
        console.warn(
            f"{unwritten} could not be written: close the program that has it open, then run "
            f"`clipcount train --resume {folder.path}`, which only writes what is missing"
        )
    if (best := best_row(rows)) is not None:
        console.notice(f"best epoch {best['epoch']:.0f}: MAE {best['val_mae']:.2f}, {folder.best}")
        console.notice(f"to count with it: {_count_command(folder, dataset, tiles)}")


def _count_command(folder: RunFolder, dataset: Dataset, tiles: int) -> str:
    """How to count with a finished run, for the prompt of most training images."""
    images_of = Counter(sample.prompt for sample in dataset.split("train") if sample.truth)
    prompt = min(images_of, key=lambda prompt: (-images_of[prompt], prompt))
    is_name = str(folder.path) in {EMBEDDED_NAME, *cache.installed()}  # which comes before folders
    weights = folder.best if is_name else folder.path
    command = ["clipcount", "count", "IMAGE", prompt, "--weights", str(weights)]
    return command_line(command if tiles == 1 else [*command, "--tiles", str(tiles)])


def planning_processes(device: torch.device) -> int:
    """How many processes draw plans: none on a CPU, which has no time to win."""
    if device.type != "cuda":
        return 0
    share = (os.cpu_count() or 1) // distributed.local_world_size()
    return max(1, min(MAX_PLANNING_PROCESSES, share - 2))


def _load(data: Path, part: str | None) -> Dataset:
    dataset = load_dataset(data, part)
    if distributed.is_first():
        for notice in dataset.notices:
            console.notice(notice)
        for warning in dataset.warnings:
            console.warn(warning)
    return dataset


def _choose_folder(out: Path | None, overwrite: bool) -> RunFolder:
    """RUN/, which must be new or empty unless it may be overwritten; the first process names it."""
    named = Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S") if out is None else out
    path = Path(distributed.gather(str(named))[0])
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file, not a folder", hint="choose another with --out")
    occupied = path.is_dir() and any(path.iterdir())
    distributed.barrier()
    if occupied and not overwrite:
        raise UsageError(
            f"{path} is not empty",
            hint=f"continue with --resume {path}, choose another with --out, or add --overwrite",
        )
    return RunFolder(path)


def _report_start(
    folder: RunFolder,
    start: Start,
    trainer: Trainer,
    photos: Sequence[TrainingImage],
    validation: Sequence[TrainingImage],
) -> None:
    if not distributed.is_first():
        return
    for notice in start.notices:
        console.notice(notice)
    prompts = sorted({prompt for photo in photos for prompt in photo.points_px})
    unread = [hidden for p in prompts if (hidden := unread_part(p, start.model.config)) is not None]
    if unread:
        shown = "; ".join(unread[:_UNREAD_SHOWN])
        console.notice(f"notes on {len(unread)} of {quantity(len(prompts), 'prompt')}: {shown}")
    console.notice(
        f"training {trainer.trained_parameters:,} of "
        f"{sum(p.numel() for p in start.model.parameters()):,} parameters on "
        f"{quantity(len(photos), 'image')}, validating on {len(validation)}; "
        f"output in {folder.path}"
    )


def _as_read(model: ClipCount, start: Start, trainer: Trainer) -> dict[str, torch.Tensor]:
    """The network's tensors; those that were not trained in the precision they came in."""
    return {
        name: tensor
        if name in trainer.trained or name not in start.dtypes
        else tensor.to(start.dtypes[name])
        for name, tensor in model.state_dict().items()
    }


def _require_space(folder: RunFolder, trainer: Trainer) -> None:
    """Refuse a disk that cannot hold two weights files and two checkpoints, one half-written.

    What an earlier run takes there is about to be freed.
    """
    weights = sum(t.nbytes for t in trainer.model.state_dict().values())
    states = 3 + bool(trainer.average)  # the weights, AdamW's two memories, the average
    needed = 3 * weights + 2 * states * 4 * trainer.trained_parameters
    free = shutil.disk_usage(folder.path).free + sum(file.stat().st_size for file in folder.files)
    if free < needed:
        raise TrainingError(
            f"{folder.path} has {free / _GIGABYTE:.2g} GB left, and this training writes up to "
            f"{needed / _GIGABYTE:.2g} GB",
            hint="make room, or choose another disk with --out",
        )
