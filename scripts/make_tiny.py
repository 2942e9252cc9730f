"""Rebuild the embedded model in three steps; the same command resumes an interrupted training.

    python scripts/make_tiny.py text --run RUN --wordnet DIR [...]
    python scripts/make_tiny.py train --run RUN --material DIR --photos DIR
    python scripts/make_tiny.py pack --run RUN --material DIR --photos DIR

`text` distils the phrase encoder (12 minutes on one core), `train` trains what recognizes and
counts on rendered scenes and annotated photos (1.5 hours on two cores), `pack` writes RUN's
weights into the package. MODEL_CARD.md names every source; scripts/tiny holds the parts.
Beside a GPU, making samples limits the speed: on 16 cores, use `--workers 15 --views 2 --batch 96`.
Batches pass through shared memory, of which a container needs more than usual (Docker: `--shm-size
4g`).
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import json
import os
import platform
import signal
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tiny import distil
from tiny.align import Names
from tiny.bank import Bank
from tiny.colours import teach_colours
from tiny.network import continued, strangers, teach_phrases, untrained
from tiny.photos import read_photos
from tiny.samples import MOSAICS, PHOTOS, SCENES, SampleSource
from tiny.trainer import TRAINING, TinyBatch, TinyTrainer, make_batch
from tiny.validation import calibrated_shift, validation
from torch.utils.data import DataLoader, Dataset

from clipcount_cli import console
from clipcount_cli.config import ModelConfig
from clipcount_cli.counting.compact import build_model
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.devices import pick_device
from clipcount_cli.errors import InterruptedRunError
from clipcount_cli.training.loop import fit
from clipcount_cli.training.run_folder import RunFolder
from clipcount_cli.training.step import StepPlan
from clipcount_cli.version import __version__
from clipcount_cli.weights import checkpoint, digests

ASSET = Path(__file__).parents[1] / "clipcount_cli" / "assets" / "tiny.safetensors"
STEPS, STEPS_PER_EPOCH = 1600, 100
COLOUR_BATCHES = 30  # of the run's own samples, from which words for colours are taught first
SAMPLES_PER_SEED = 10_000_000  # trainings with other seeds see other samples
TEXT = "text.safetensors"
STRANGERS = "strangers.txt"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)

RunOption = Annotated[Path, typer.Option(help="Folder of the training.")]
MaterialOption = Annotated[
    Path | None,
    typer.Option(help="Folder that `scripts/scenes fetch` made, with cutouts/NOUN/*.webp."),
]
PhotosOption = Annotated[
    Path, typer.Option(help="Folder of annotated photos: SET/images, SET/points.csv.")
]


@app.command()
def text(
    wordnet: Annotated[Path, typer.Option(help="Folder with WordNet's data.noun.")],
    photos: PhotosOption,
    material: MaterialOption = None,
    run: RunOption = Path("runs/tiny"),
    steps: Annotated[int, typer.Option(help="Number of steps.")] = distil.STEPS,
) -> None:
    """Distil the phrase encoder into RUN."""
    run.mkdir(parents=True, exist_ok=True)
    bank = SampleSource.open(material, photos).bank
    teach_phrases(bank, wordnet, run / TEXT, steps)
    words = strangers(untrained(bank, run / TEXT, 0), wordnet)
    (run / STRANGERS).write_text("\n".join(words), encoding="utf-8")


@app.command()
def train(
    photos: PhotosOption,
    material: MaterialOption = None,
    run: RunOption = Path("runs/tiny"),
    steps: Annotated[int, typer.Option(help="Number of steps in all.")] = STEPS,
    batch: Annotated[int, typer.Option(help="Samples per step.")] = TRAINING.batch,
    views: Annotated[
        int, typer.Option(help="How often each picture is shown, with other prompts and mirrored.")
    ] = 1,
    workers: Annotated[int, typer.Option(help="Processes that make samples.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the first weights and the samples.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    validate_every: Annotated[int, typer.Option(help="Hundreds of steps between validations.")] = 1,
    init: Annotated[Path | None, typer.Option(help="Earlier weights to continue from.")] = None,
) -> None:
    """Train RUN, or resume it."""
    if steps % STEPS_PER_EPOCH:
        raise typer.BadParameter(f"--steps {steps} is not a multiple of {STEPS_PER_EPOCH}")
    place = pick_device(device)
    folder, bank = RunFolder(run), SampleSource.open(material, photos).bank
    needed = (STRANGERS,) if init else (TEXT, STRANGERS)
    if not all((run / name).is_file() for name in needed):
        raise typer.BadParameter(f"{run} has no phrase encoder; run `make_tiny.py text` first")
    keep_config(
        folder,
        {
            "steps": steps,
            "batch": batch,
            "samples": steps * batch,
            "views": views,
            "seed": seed,
            "learning_rate": learning_rate,
            "material": material is not None,
            "photos": PHOTOS,
            "mosaics": MOSAICS,
            "scenes": dataclasses.asdict(SCENES),
            "init": None if init is None else digests.compute_digest(init),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {place}",
        },
    )
    words = tuple((run / STRANGERS).read_text(encoding="utf-8").splitlines())
    model = untrained(bank, run / TEXT, seed) if init is None else continued(bank, init)
    first = seed * SAMPLES_PER_SEED
    source = BatchSource(material, photos, words, model.config, batch, views, first)
    batches = endless_batches(source, workers)
    if not folder.checkpoint.exists() and not matches_colours(init):
        with contextlib.closing(batches(0)) as made:
            some = itertools.islice(made, COLOUR_BATCHES)
            teach_colours(model, [(each.windows, each.colours) for each in some])
    model = model.to(place)
    plan = StepPlan(STEPS_PER_EPOCH, steps // STEPS_PER_EPOCH)
    config = dataclasses.replace(TRAINING, learning_rate=learning_rate, batch=batch)
    trainer = TinyTrainer(model, config, plan, Names(bank), init is None)
    console.notice(f"{trainer.trained_parameters / 1e6:.1f} M trained parameters, {steps} steps")
    validate = validation(read_photos(photos, "val"))
    try:
        fit(trainer, batches, folder, save_weights, validate, validate_every)
    except InterruptedRunError as error:
        console.notice(f"{error}; the same command resumes")


@app.command()
def pack(
    photos: PhotosOption,
    material: MaterialOption = None,
    run: RunOption = Path("runs/tiny"),
    average: Annotated[
        list[Path] | None,
        typer.Option(help="Another run, to take the mean of both weights; may be repeated."),
    ] = None,
) -> None:
    """Write RUN's weights into the package in half precision, with how they were made."""
    runs = [RunFolder(path) for path in (run, *(average or ()))]
    trainings = [finished(folder) for folder in runs]
    state, config = mean_of([folder.last for folder in runs])
    bank = SampleSource.open(material, photos).bank
    model = build_model(config)
    model.load_state_dict(state)
    shift = calibrated_shift(model.eval(), read_photos(photos, "val"))
    config = dataclasses.replace(config, taught=taught(bank), relevance_shift=shift)
    halves = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    origin = {
        "name": "tiny",
        "licence": "MIT; towers Apache-2.0",
        "made_by": f"scripts/make_tiny.py of clipcount-cli {__version__}",
        "training": trainings[0] if len(trainings) == 1 else trainings,
    }
    checkpoint.save(halves, config, ASSET, origin)
    digests.write_record(ASSET)
    console.show_line(ASSET)


def finished(folder: RunFolder) -> dict[str, Any]:
    """How a run was made. Raises typer.BadParameter if it has not ended."""
    if not folder.log.is_file():
        raise typer.BadParameter(f"{folder.path} holds no training; name it with --run")
    training, rows = json.loads(folder.config.read_text()), logged(folder.log)
    done = int(rows[-1]["step"]) if rows else 0
    if done < training["steps"]:
        raise typer.BadParameter(f"{folder.path} has done {done} of {training['steps']} steps")
    training["hours"] = round(sum(float(row["seconds"]) for row in rows) / 3600, 2)
    return training


def mean_of(files: Sequence[Path]) -> tuple[dict[str, torch.Tensor], ModelConfig]:
    """The mean of several runs' weights, of which each continued another or the same one.

    Such a mean counts better than any of them (Wortsman et al., "Model soups", ICML 2022).
    """
    states, metadata = zip(*(checkpoint.load_state(file) for file in files), strict=True)
    mean = {
        name: torch.stack([state[name].float() for state in states]).mean(dim=0)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }
    return mean, metadata[0].config


def matches_colours(init: Path | None) -> bool:
    """Whether earlier weights know what words for colours look like."""
    return init is not None and checkpoint.read_metadata(init).config.colour_channels > 0


def taught(bank: Bank) -> tuple[str, ...]:
    """The nouns that samples showed, with their other names and kinds."""
    nouns = {*bank.table, *bank.photographed}
    return tuple(sorted({n for noun in nouns for n in (*bank.names(noun), *bank.kinds(noun))}))


def save_weights(model: ClipCount, path: Path) -> None:
    checkpoint.save(model, model.config, path, {"name": "tiny", "licence": "MIT"})


@dataclasses.dataclass
class BatchSource(Dataset[list[TinyBatch]]):
    """Batch number n, wherever it is made: samples, and other views of the same pictures."""

    material: Path | None
    photos: Path
    strangers: tuple[str, ...]
    config: ModelConfig
    batch: int  # samples
    views: int
    first_sample: int
    _samples: SampleSource | None = None  # each process opens its own

    def __getitem__(self, number: int) -> list[TinyBatch]:
        if self._samples is None:
            self._samples = SampleSource.open(self.material, self.photos, self.strangers)
        first = self.first_sample + number * self.batch
        seeds = range(first, first + self.batch)
        made = [self._samples.samples(seed, self.views) for seed in seeds]
        return [make_batch(view, self.config, first) for view in zip(*made, strict=True)]


def _start_worker(_number: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the process that trains decides when to stop
        signal.signal(number, signal.SIG_IGN)


def endless_batches(source: BatchSource, workers: int) -> Callable[[int], Generator[TinyBatch]]:
    """Batches of new samples, each made in one of `workers` processes, from any step on."""

    def batches(step: int) -> Generator[TinyBatch]:
        first, shown = divmod(step, source.views)
        made: DataLoader[list[TinyBatch]] = DataLoader(
            source,
            batch_size=None,
            sampler=itertools.count(first),
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_start_worker,
        )
        yield from itertools.islice(itertools.chain.from_iterable(made), shown, None)

    return batches


def keep_config(folder: RunFolder, config: dict[str, Any]) -> None:
    """Keep a run's settings, or check that they are the same again.

    Raises typer.BadParameter if they are not: half of a run's samples from one seed and half from
    another are neither's training.
    """
    if not folder.config.is_file():
        folder.save_config(config)
        return
    started = json.loads(folder.config.read_text())
    changed = [name for name in config if name != "machine" and started.get(name) != config[name]]
    if changed:
        values = ", ".join(f"{name} {started.get(name)}" for name in changed)
        raise typer.BadParameter(f"{folder.path} was started with {values}; name another --run")


def logged(log: Path) -> list[dict[str, str]]:
    """A run's finished epochs."""
    with log.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    app()
