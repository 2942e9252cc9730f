"""Rebuild the embedded model: render scenes without end, train a small network on them, pack it.

    python scripts/make_tiny.py [--run RUN] --material DIR          # the same command resumes RUN
    python scripts/make_tiny.py [--run RUN] --material DIR --pack   # RUN -> clipcount_cli/assets/

Nothing is downloaded: the scenes are drawn by clipcount_cli/data, with the cut-outs of --material
(scripts/scenes/fetch.py fetches them); without it, they show the nouns that we draw ourselves.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import multiprocessing
import os
import platform
import shutil
import signal
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scenes.nouns import SIZES, countable_phrases, noun_of
from scenes.render import Catalogue, Scene, SceneConfig, render_scene, vocabulary

from clipcount_cli import console
from clipcount_cli.config import (
    DENSITY_SCALE,
    GENERIC_PROMPT,
    ClipConfig,
    ModelConfig,
    TrainConfig,
    WindowConfig,
)
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.counting.prompts import bpe_ids, tokenize
from clipcount_cli.errors import InterruptedRunError
from clipcount_cli.files import atomic_write
from clipcount_cli.training.loop import SaveWeights, fit
from clipcount_cli.training.run_folder import RunFolder
from clipcount_cli.training.start import with_words
from clipcount_cli.training.step import Batch, StepPlan, Trainer
from clipcount_cli.training.targets import window_targets
from clipcount_cli.version import __version__
from clipcount_cli.weights import checkpoint

ASSET = Path(__file__).parents[1] / "clipcount_cli" / "assets" / "tiny.safetensors"
SCENE_SIDE_PX = 288  # rendered at the size the image tower sees
TARGET_SIDE_PX = 192  # a density of half the full side costs a quarter, and has the same integral
PROMPTS_PER_SCENE = 3
ASK_ABSENT = 0.7  # the chance that one of them names what is absent
OTHER_NAMES = 0.6  # how often kinds, synonyms, singulars and "objects" are asked, beside names
# Rare but costly: crowds, of which too few were counted, and small things on wide grounds
SCENES = SceneConfig(
    side_px=SCENE_SIDE_PX, crowded=0.4, far=0.15, empty=0.08, two_sizes=0.12, materials=0.35
)
SCENES_PER_SEED = 10_000_000  # trainings with other seeds see other scenes
TEST_SCENES = 120  # looked at after each epoch
STEPS_PER_EPOCH = 200
STEPS = 16_600  # as many scenes as the embedded weights saw: half a day on two cores
# Asked for, but not told apart after one stage: who asks for them is warned
NOT_LEARNED = {*SIZES, *SIZES.values()}
HALFWAY = "halfway.safetensors"  # RUN's weights after half of its steps

TRAINING = TrainConfig(
    tuning="full",
    batch=32,
    warmup_fraction=0.03,
    weight_decay=0.05,
    sigma_px=6.0,
    mask="none",
    # A pixel's mean answer to an uncertain noun is half of the noun; the count's own error prefers
    # one answer or the other. Higher from the start, it prefers none.
    count_weight=0.12,
)


def tiny_config(words: list[str]) -> ModelConfig:
    """A small convolutional tower, a narrow decoder, and embedding rows for `words` alone."""
    ids = {piece for word in words for piece in bpe_ids(word)}
    clip = ClipConfig(
        embed_dim=128,
        quick_gelu=False,
        image_size_px=SCENE_SIDE_PX,
        image_layers=(1, 2, 3, 1),
        image_width=32,
        text_width=128,
        text_heads=4,
        text_layers=2,
        vocabulary=(*sorted(ids), 49406, 49407),  # [SOS] and [EOT]
    )
    return ModelConfig(
        clip=clip,
        width=128,
        heads=4,
        mlp_ratio=2.0,
        visual_prompts=0,
        context_tokens=0,
        readout="eot",
        dropout=0.0,
        drop_path=0.0,
        antialias=True,
        fine_attention=False,
        fine_features=True,
        text_gate=True,
        decoder_widths=(64, 48, 32),
    )


@dataclasses.dataclass(frozen=True)
class Question:
    """One scene with the prompts asked of it; a prompt for what is absent has no dots."""

    pixels: np.ndarray
    prompts: list[str]
    points_px: list[np.ndarray]


def ask(scene: Scene, nouns: Collection[str], rng: np.random.Generator) -> Question:
    """Choose prompts: mostly what is there, by its own name; what is not, the hard ones more often.

    A prompt that is as often absent as present teaches a network that is unsure to answer half.
    """
    true = list(scene.points_px)
    wanted = np.array([1.0 if noun_of(prompt) in nouns else OTHER_NAMES for prompt in true])
    true = _shuffled(true, wanted, rng)
    absent = _shuffled(list(scene.absent), np.linspace(2.0, 1.0, len(scene.absent)), rng)
    present = PROMPTS_PER_SCENE - int(rng.random() < ASK_ABSENT)
    chosen = true[:present]
    chosen += absent[: PROMPTS_PER_SCENE - len(chosen)]
    none = np.zeros((0, 2), np.float32)
    return Question(scene.pixels, chosen, [scene.points_px.get(p, none) for p in chosen])


def _shuffled(prompts: list[str], weights: np.ndarray, rng: np.random.Generator) -> list[str]:
    if not prompts:
        return []
    order = rng.choice(len(prompts), len(prompts), replace=False, p=weights / weights.sum())
    return [prompts[i] for i in order]


_catalogue: Catalogue | None = None


def _open_catalogue(material: Path | None) -> None:
    global _catalogue
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):  # the process that trains decides when to stop
        signal.signal(number, signal.SIG_IGN)
    _catalogue = Catalogue.from_material(material)


def _render(seed: int) -> Question:
    assert _catalogue is not None
    scene = render_scene(seed, _catalogue, SCENES)
    return ask(scene, _catalogue.nouns, np.random.default_rng([seed, 1]))


def make_batch(questions: list[Question], config: ModelConfig) -> Batch:
    """Stack scenes, their prompts and the densities that answer them."""
    prompts = sorted({p for question in questions for p in question.prompts})
    row_of = {prompt: row for row, prompt in enumerate(prompts)}
    image_of = [i for i, question in enumerate(questions) for _ in question.prompts]
    prompt_of = [row_of[p] for question in questions for p in question.prompts]
    target = torch.stack([target_of(p) for question in questions for p in question.points_px])
    pixels = np.stack([question.pixels for question in questions])
    return Batch(
        windows=torch.from_numpy(pixels).permute(0, 3, 1, 2),
        image_of=torch.tensor(image_of),
        prompt_of=torch.tensor(prompt_of),
        tokens=tokenize(prompts, config),
        target=target,
    )


def target_of(points_px: np.ndarray) -> torch.Tensor:
    """The density (192, 192) of a scene's dots."""
    points = torch.from_numpy(points_px) * (WindowConfig.side_px / SCENE_SIDE_PX)
    return window_targets([points], TARGET_SIDE_PX, TRAINING.sigma_px, once=False)[0]


def endless_batches(
    config: ModelConfig, material: Path | None, workers: int, first_scene: int
) -> Any:  # Callable[[int], Iterator[Batch]]
    def batches(step: int) -> Iterator[Batch]:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, _open_catalogue, (material,)) as pool:
            while True:
                first = first_scene + step * TRAINING.batch
                scenes = pool.map(_render, range(first, first + TRAINING.batch), chunksize=4)
                yield make_batch(list(scenes), config)
                step += 1

    return batches


def validation(config: ModelConfig, material: Path | None) -> Any:
    """Errors on scenes of held-out cut-outs, as the trainer's log wants them."""
    catalogue = Catalogue.from_material(material)
    scene_config = SceneConfig(side_px=SCENE_SIDE_PX)
    rng = np.random.default_rng(0)
    scenes = [render_scene(i, catalogue, scene_config, "test") for i in range(TEST_SCENES)]
    batches = [make_batch([ask(s, catalogue.nouns, rng) for s in scenes[i : i + 24]], config)
               for i in range(0, TEST_SCENES, 24)]  # fmt: skip

    def validate(model: ClipCount) -> dict[str, float]:
        truth, answer, image = [], [], []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for number, batch in enumerate(batches):
                features = model.encode_image(batch.windows.float() / 255).select(batch.image_of)
                text = model.encode_text(batch.tokens)[batch.prompt_of]
                density = model.decode(features, text, TARGET_SIDE_PX)
                scale = (WindowConfig.side_px / TARGET_SIDE_PX) ** 2 / DENSITY_SCALE
                answer.append(density.sum((1, 2)) * scale)
                truth.append(batch.target.sum((1, 2)) * scale)
                image.append(batch.image_of + 1000 * number)
        t, a, owner = torch.cat(truth), torch.cat(answer), torch.cat(image)
        there = t > 0.5
        most = {int(i): float(t[owner == i].max()) for i in owner.unique()}
        shares = [float(v) / most[int(i)] for v, i in zip(a[~there], owner[~there], strict=True)
                  if most[int(i)] > 0.5]  # fmt: skip
        errors = (a - t)[there]
        return {
            "val_mae": float(errors.abs().mean()),
            "val_rmse": float(errors.square().mean().sqrt()),
            "val_nmn": float(np.mean(shares)),
        }

    return validate


def save_weights(model: ClipCount, path: Path) -> None:
    checkpoint.save(model, model.config, path, {"name": "tiny", "licence": "MIT"})


def saver(trainer: Trainer, run: Path) -> SaveWeights:
    """Save weights, and the first ones that are saved after half of the steps once more."""

    def save(model: ClipCount, path: Path) -> None:
        save_weights(model, path)
        halfway = run / HALFWAY
        if trainer.step_number * 2 >= trainer.plan.steps and not halfway.exists():
            with atomic_write(halfway) as temporary:
                shutil.copyfile(path, temporary)

    return save


def start(words: list[str], init: Path | None, seed: int) -> ClipCount:
    """A network whose vocabulary holds `words`: new, or that of `init`."""
    torch.manual_seed(seed)
    words = [*words, GENERIC_PROMPT]
    if init is None:
        return ClipCount(tiny_config(words)).to(memory_format=torch.channels_last)
    state, metadata = checkpoint.load_state(init)
    config, state = with_words(metadata.config, state, words)
    clip = dataclasses.replace(config.clip, image_size_px=SCENE_SIDE_PX)
    model = ClipCount(dataclasses.replace(config, clip=clip))
    model.load_state_dict(state)
    return model.float().to(memory_format=torch.channels_last)


def main(
    run: Annotated[Path, typer.Option(help="Folder of the training.")] = Path("runs/tiny"),
    steps: Annotated[int, typer.Option(help="In all; fixed from the first start on.")] = STEPS,
    material: Annotated[Path | None, typer.Option(help="Folder of cut-outs.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that render.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the first weights, and of the scenes.")] = 0,
    init: Annotated[Path | None, typer.Option(help="Weights to go on from.")] = None,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = 1e-3,
    pack: Annotated[bool, typer.Option(help="Write RUN's weights into the package.")] = False,
) -> None:
    """Train the embedded model, or pack it."""
    if steps % STEPS_PER_EPOCH:
        raise typer.BadParameter(f"--steps {steps} is not a multiple of {STEPS_PER_EPOCH}")
    folder = RunFolder(run)
    if pack:
        pack_into_package(folder, material)
        return
    model = start(vocabulary(Catalogue.from_material(material)), init, seed)
    run.mkdir(parents=True, exist_ok=True)
    keep_config(
        folder,
        {
            "steps": steps,
            "scenes": steps * TRAINING.batch,
            "seed": seed,
            "learning_rate": learning_rate,
            "material": material is not None,
            "continued_from": None if init is None else checkpoint.digest(init),
            "scenes_drawn": dataclasses.asdict(SCENES),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        },
    )
    config = model.config
    training = dataclasses.replace(TRAINING, learning_rate=learning_rate)
    trainer = Trainer(model, training, StepPlan(STEPS_PER_EPOCH, steps // STEPS_PER_EPOCH), "bf16")
    console.notice(f"{trainer.trained_parameters / 1e6:.1f} M parameters, {steps} steps")
    try:
        fit(
            trainer,
            endless_batches(config, material, workers, seed * SCENES_PER_SEED),
            folder,
            saver(trainer, run),
            validation(config, material),
        )
    except InterruptedRunError as error:
        console.notice(f"{error}; the same command goes on")


def keep_config(folder: RunFolder, config: dict[str, Any]) -> None:
    """Write what the run was told, or see that it is told the same again.

    Raises typer.BadParameter where it is not: half of a run's scenes from one seed and half from
    another are neither's training.
    """
    if not folder.config.is_file():
        folder.save_config(config)
        return
    begun = json.loads(folder.config.read_text())
    changed = [name for name in config if name != "machine" and begun.get(name) != config[name]]
    if changed:
        told = ", ".join(f"{name} {begun.get(name)}" for name in changed)
        raise typer.BadParameter(f"{folder.path} was begun with {told}; name another --run")


def pack_into_package(folder: RunFolder, material: Path | None) -> None:
    """Store the weights in half precision, with what they are and how they were made.

    They are the mean of the run's middle and its end, which errs on new scenes as the end does, and
    less on what looks unlike scenes (arXiv:1803.05407).
    """
    if not folder.log.is_file():
        raise typer.BadParameter(f"{folder.path} holds no training; name it with --run")
    training, rows = json.loads(folder.config.read_text()), logged(folder.log)
    done = int(rows[-1]["step"]) if rows else 0
    if done < training["steps"]:
        raise typer.BadParameter(f"{folder.path} has done {done} of {training['steps']} steps")
    if training["material"] != (material is not None):
        raise typer.BadParameter(f"{folder.path}: --material must be as it was in training")
    training["hours"] = round(sum(float(row["seconds"]) for row in rows) / 3600, 2)
    last, metadata = checkpoint.load_state(folder.last)
    halfway, _ = checkpoint.load_state(folder.path / HALFWAY)
    taught = countable_phrases(Catalogue.from_material(material).nouns) - NOT_LEARNED
    config = dataclasses.replace(metadata.config, taught=tuple(sorted(taught)))
    state = {
        name: ((tensor.float() + halfway[name].float()) / 2).half()
        if tensor.is_floating_point()
        else tensor
        for name, tensor in last.items()
    }
    origin = {
        "name": "tiny",
        "licence": "MIT",
        "made_by": f"scripts/make_tiny.py of clipcount-cli {__version__}",
        "training": training,
    }
    checkpoint.save(state, config, ASSET, origin)
    console.show_line(ASSET)


def logged(log: Path) -> list[dict[str, str]]:
    """A run's finished epochs."""
    with log.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    typer.run(main)
