"""`clipcount train` from the outside: what RUN holds, what is refused, what is said."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import SMALL, save_small
from small_training import draw_dots, run_train
from typer.testing import CliRunner

from clipcount_cli.cli import app
from clipcount_cli.config import RECIPES, ModelConfig, Recipe, TrainConfig
from clipcount_cli.console import ProgressBar
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.training.run import TrainRequest
from clipcount_cli.training.start import choose_trained, model_config
from clipcount_cli.weights import checkpoint

pytestmark = pytest.mark.slow

SHORT = ("--epochs", 2, "--batch", 4, "--device", "cpu", "--precision", "fp32")


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_weights_that_count_a_log_and_curves(data, weights, tmp_path):
    run = tmp_path / "run"

    result = run_train(
        "--data", data, "--init", weights, "--out", run, *SHORT, "--validate-every", 1
    )

    assert result.exit_code == 0, result.output
    assert result.stdout == f"{run / 'best.safetensors'}\n"
    assert {p.name for p in run.iterdir()} == {
        *("config.json", "log.csv", "curves.png", "checkpoint.pt"),
        *("best.safetensors", "last.safetensors"),
    }
    assert [row["epoch"] for row in rows_of(run)] == ["1", "2"]
    assert all(float(row["val_mae"]) >= 0 for row in rows_of(run))
    photo = next((data / "images").iterdir())
    counted = CliRunner().invoke(
        app, ["count", str(photo), "red dots", "--weights", str(run / "best.safetensors")]
    )
    assert counted.stdout.endswith("\tred dots\n")


@pytest.mark.parametrize("tiles", [1, 2])
def test_best_weights_are_those_for_which_eval_prints_the_smallest_error(
    data, weights, tmp_path, tiles
):
    run = tmp_path / "run"
    run_train(
        *("--data", data, "--init", weights, "--out", run, *SHORT, "--validate-every", 1),
        *("--learning-rate", 0.01, "--ema-decay", 0, "--tiles", tiles),
    )

    evaluated = CliRunner().invoke(
        app,
        [
            *("eval", "--data", str(data), "--split", "val", "--json", "--precision", "fp32"),
            *("--device", "cpu", "--weights", str(run / "best.safetensors"), "--prompt-check"),
            *("--tiles", str(tiles)),
        ],
    )

    best = min(rows_of(run), key=lambda row: float(row["val_mae"]))
    printed = json.loads(evaluated.stdout)
    assert printed["mae"] == pytest.approx(float(best["val_mae"]), rel=1e-5)
    assert printed["nmn"] == pytest.approx(float(best["val_nmn"]), rel=1e-5)


def test_two_stages_of_the_paper_first_the_contrast_then_the_density(data, weights, tmp_path):
    run = tmp_path / "run"

    run_train(
        *("--data", data, "--init", weights, "--out", run, "--recipe", "released", *SHORT),
        *("--contrast-epochs", 1),
    )

    first, second = rows_of(run)
    assert (first["contrast"] != "", first["density"]) == (True, "")
    assert (second["density"] != "", second["contrast"]) == (True, "")


@pytest.mark.parametrize(
    "ablation",
    [
        ("--interaction", "naive"),
        ("--interaction", "add"),
        ("--tuning", "frozen"),
        ("--tuning", "full"),
        ("--contrast", "patches"),
        ("--contrast", "none"),
    ],
)
def test_each_ablation_trains_from_clip_and_its_weights_load(ablation, data, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPCOUNT_HOME", str(tmp_path))
    state, metadata = checkpoint.load_state(save_small(tmp_path / "small.safetensors"))
    clip = {name: tensor for name, tensor in state.items() if name.startswith("clip.")}
    checkpoint.save(clip, metadata.config, tmp_path / "clip.safetensors", {}, holds="clip")
    run = tmp_path / "run"

    result = run_train(
        *("--data", data, "--out", run, "--recipe", "paper", "--epochs", 2, "--contrast-epochs", 1),
        *("--device", "cpu", "--heads", 2, "--prompted-layers", 1, *ablation),
    )

    assert result.exit_code == 0, result.output
    model, _ = checkpoint.load(run / "best.safetensors")
    config = json.loads((run / "config.json").read_text())
    assert config["train"][ablation[0][2:]] == ablation[1]
    clip_moved = not torch.equal(model.clip.visual.conv1.weight, clip["clip.visual.conv1.weight"])
    assert clip_moved == (ablation[1] == "full")
    assert f"{config['trained_parameters']:,} of" in result.stderr


def test_the_paper_trains_what_is_alive_of_16_million_parameters_beside_clip():
    config = RECIPES[Recipe.paper]
    model = checkpoint.empty_model(model_config(ModelConfig(), config))
    choose_trained(model, config)

    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    queries_and_keys = 2 * 2 * (512 * 512 + 512)  # one key makes them idle
    unused_convolution = 512 * 512 * 9 + 512
    assert trained + queries_and_keys + unused_convolution == pytest.approx(16.4e6, rel=0.01)


def test_words_of_the_photographs_are_taught(data, tmp_path):
    start = save_small(tmp_path / "start.safetensors", taught=("apples",))

    run_train(
        "--data", data, "--init", start, "--out", tmp_path / "run", *SHORT, "--tuning", "full"
    )

    config = checkpoint.load_state(tmp_path / "run/best.safetensors")[1].config
    assert config.taught == ("apples", "blue", "dots", "red")


def test_words_that_a_frozen_text_tower_cannot_learn_are_told(data, tmp_path):
    start = save_small(tmp_path / "start.safetensors", taught=("dots",))

    told = run_train(
        "--data", data, "--init", start, "--out", tmp_path / "run", *SHORT, "--tuning", "frozen"
    )

    config = checkpoint.load_state(tmp_path / "run/best.safetensors")[1].config
    assert "will all mean the same to it: blue, red" in " ".join(told.stderr.split())
    assert config.taught == ("dots",)


def test_photographs_of_one_class_teach_nothing_about_absent_ones(weights, tmp_path):
    folder = draw_dots(tmp_path / "data", 12)
    text = (folder / "points.csv").read_text()
    (folder / "points.csv").write_text(
        text.replace("red dots", "dots").replace("blue dots", "dots")
    )

    told = run_train("--data", folder, "--init", weights, "--out", tmp_path / "run", *SHORT)

    assert (
        "the training images have only one class, so the model may forget to count near 0 where "
        "objects are absent: add images of another class, or without objects, to prevent it\n"
    ) in told.stderr


def test_photographs_without_objects_teach_what_another_class_would(weights, tmp_path):
    folder = draw_dots(tmp_path / "data", 12)
    rows = (folder / "points.csv").read_text().replace("red dots", "dots")
    kept = [row for row in rows.splitlines() if "blue" not in row]
    without = [f"{number}.png,dots,," for number in range(1, 12, 2)]
    (folder / "points.csv").write_text("\n".join([*kept, *without, ""]))

    told = run_train("--data", folder, "--init", weights, "--out", tmp_path / "run", *SHORT)

    assert told.exit_code == 0, told.output
    assert "only one class" not in told.stderr


def test_words_a_small_vocabulary_lacks_get_rows_of_their_own(data, weights, tmp_path):
    run = tmp_path / "run"
    run_train("--data", data, "--init", weights, "--out", run, *SHORT, "--tuning", "full")

    model, metadata = checkpoint.load(run / "best.safetensors")

    table = model.clip.token_embedding.weight
    assert len(metadata.config.clip.vocabulary) > len(SMALL.clip.vocabulary)
    assert len(table) == len(metadata.config.clip.vocabulary) + 1
    assert not torch.equal(table[0], table[-1])


def test_distinct_prompts_are_encoded_once_a_step_and_the_context_learns(
    data, weights, tmp_path, monkeypatch
):
    encoded: list[int] = []
    plain = ClipCount.encode_text
    monkeypatch.setattr(
        ClipCount,
        "encode_text",
        lambda self, tokens: encoded.append(len(tokens)) or plain(self, tokens),
    )
    run = tmp_path / "run"
    run_train("--data", data, "--init", weights, "--out", run, *SHORT, "--batch", 8)

    assert max(encoded) == 2  # "red dots" and "blue dots", asked of eight photographs
    before, after = (checkpoint.load(path)[0] for path in (weights, run / "last.safetensors"))
    assert not torch.equal(before.context, after.context)
    assert torch.equal(
        before.clip.token_embedding.weight[:4], after.clip.token_embedding.weight[:4]
    )


def test_a_change_of_readout_is_said(data, weights, tmp_path):
    said = run_train("--data", data, "--init", weights, "--out", tmp_path / "run", *SHORT).stderr

    assert "readout released, this training uses eot" in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--context-tokens", 4), "misshapen: context"),
        (("--mosaic-prob", 0.9, "--augment-prob", 0.9), "add up to"),
        (("--learning-rate", 0), "--learning-rate must be above 0"),
        (("--init", "clip"), "download-weights clip"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    options, told, data, weights, tmp_path, monkeypatch
):
    monkeypatch.setenv("CLIPCOUNT_HOME", str(tmp_path / "empty"))

    result = run_train("--data", data, "--init", weights, "--out", tmp_path / "run", *options)

    assert result.exit_code in (1, 2)
    assert told in result.stderr
    assert not (tmp_path / "run" / "log.csv").exists()


def test_every_unreadable_photograph_is_named_before_the_first_step(data, weights, tmp_path):
    photographs = sorted((data / "images").iterdir())
    for photograph in photographs[:2]:  # their headers are whole, their pixels are not
        photograph.write_bytes(photograph.read_bytes()[:-2000])

    result = run_train("--data", data, "--init", weights, "--out", tmp_path / "run")

    assert result.exit_code == 1
    assert all(photograph.name in result.stderr for photograph in photographs[:2])
    assert not (tmp_path / "run" / "log.csv").exists()


def test_a_run_that_exists_is_refused_unless_overwritten(data, weights, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.csv").write_text("an earlier one")

    refused = run_train("--data", data, "--init", weights, "--out", run, *SHORT)
    replaced = run_train("--data", data, "--init", weights, "--out", run, *SHORT, "--overwrite")

    assert (refused.exit_code, replaced.exit_code) == (2, 0)
    assert "--resume" in refused.stderr
    assert len(rows_of(run)) == 2


def test_a_run_that_cannot_be_written_is_told_before_the_first_step(data, weights, tmp_path):
    (tmp_path / "file").write_text("")

    result = run_train("--data", data, "--init", weights, "--out", tmp_path / "file" / "run")

    assert result.exit_code == 1
    assert "cannot write" in result.stderr


def test_a_disk_that_is_too_small_is_told_before_the_first_step(
    data, weights, tmp_path, monkeypatch
):
    full = shutil._ntuple_diskusage(100, 99, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: full)

    result = run_train("--data", data, "--init", weights, "--out", tmp_path / "run", *SHORT)

    assert result.exit_code == 1
    assert "left, and this training writes" in result.stderr


def test_a_loss_that_is_no_number_stops_and_names_the_batch_and_its_photographs(
    data, weights, tmp_path
):
    run = tmp_path / "run"

    result = run_train(
        *("--data", data, "--init", weights, "--out", run, *SHORT),
        *("--learning-rate", 1e35, "--grad-clip", 0, "--warmup-fraction", 0),
    )

    assert result.exit_code == 1
    assert "not a finite number at epoch" in result.stderr
    assert ".png" in result.stderr
    assert (run / "checkpoint.pt").exists()


def test_photographs_beyond_the_memory_limit_are_mapped_and_stay_the_same(data, weights, tmp_path):
    for name, limit in (("memory", 8), ("mapped", 0)):
        run_train(
            *("--data", data, "--init", weights, "--out", tmp_path / name, *SHORT),
            *("--cache-gb", limit),
        )

    states = [
        checkpoint.load_state(tmp_path / name / "last.safetensors")[0]
        for name in ("memory", "mapped")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_prompt_longer_than_the_context_is_told(data, weights, tmp_path):
    long = "red " * 90 + "dots"
    points = data / "points.csv"
    points.write_text(points.read_text().replace("red dots", long))

    result = run_train("--data", data, "--init", weights, "--out", tmp_path / "run", *SHORT)

    assert result.exit_code == 0
    assert "only the first" in result.stderr


def test_images_that_are_much_shrunk_for_training_are_named(data, weights, tmp_path):
    large = data / "images" / "0.png"
    with Image.open(large) as image:
        image.resize((20 * image.width, 20 * image.height)).save(large)
    points = (data / "points.csv").read_text().splitlines()
    rows = [row for row in points if not row.startswith(f"{large.name},")]
    (data / "points.csv").write_text("\n".join([*rows, f"{large.name},red dots,50,50", ""]))

    result = run_train("--data", data, "--init", weights, "--out", tmp_path / "run", *SHORT)

    assert f"shrunk 5x, try --tiles 2 (1 image): {large.name}" in result.stderr


def test_every_hyper_parameter_has_an_option():
    shown = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "300"}).stdout

    for name in TrainConfig.__dataclass_fields__:
        option = name.replace("_", "-")
        assert f"--{option}" in shown or f"--[no-]{option}" in shown
    assert TrainRequest().hyper_parameters == {}


def test_portrait_and_tiny_photographs_train_too(tmp_path, weights):
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    for number, size in enumerate([(3, 2), (40, 90), (300, 20), (1, 1)]):
        pixels = np.zeros((*size, 3), np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    places = ("1,2", "30,20", "10,200", ",")
    dots = "".join(f"{number}.png,dots,{place}\n" for number, place in enumerate(places))
    (tmp_path / "data" / "points.csv").write_text("image,prompt,x,y\n" + dots)
    splits = "".join(f"{n}.png,{s}\n" for n, s in enumerate(["train", "train", "train", "val"]))
    (tmp_path / "data" / "split.csv").write_text("image,split\n" + splits)

    result = run_train(
        "--data", tmp_path / "data", "--init", weights, "--out", tmp_path / "r", *SHORT
    )

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("precision", "ema_decay"), [("bf16", 0.9), ("bf16", 0), ("fp32", 0.9)])
def test_validation_counts_as_eval_does_in_half_precision_and_with_averaged_weights(
    precision, ema_decay, data, weights, tmp_path
):
    run = tmp_path / "run"
    result = run_train(
        *("--data", data, "--init", weights, "--out", run, *SHORT, "--validate-every", 1),
        *("--precision", precision, "--learning-rate", 0.01, "--ema-decay", ema_decay),
    )
    assert result.exit_code == 0, result.output

    evaluated = CliRunner().invoke(
        app,
        [
            *("eval", "--data", str(data), "--split", "val", "--json", "--precision", precision),
            *("--device", "cpu", "--weights", str(run), "--prompt-check"),
        ],
    )

    best = min(rows_of(run), key=lambda row: float(row["val_mae"]))
    printed = json.loads(evaluated.stdout)
    assert printed["mae"] == pytest.approx(float(best["val_mae"]), rel=1e-5)
    assert printed["rmse"] == pytest.approx(float(best["val_rmse"]), rel=1e-5)


def test_the_bar_names_the_epoch_of_each_step(data, weights, tmp_path, monkeypatch):
    notes = []
    advance = ProgressBar.advance
    monkeypatch.setattr(
        ProgressBar, "advance", lambda bar, n=1, note=None: (notes.append(note), advance(bar, n))
    )

    run_train("--data", data, "--init", weights, "--out", tmp_path / "run", *SHORT)

    epochs = [int(note.split()[1].rstrip(",")) for note in notes if note and "loss" in note]
    assert epochs == sorted(epochs)
    assert set(epochs) == {1, 2}


def test_learning_rate_of_the_log_falls_by_the_schedule(data, weights, tmp_path):
    run = tmp_path / "run"

    run_train(
        *("--data", data, "--init", weights, "--out", run, *SHORT, "--epochs", 4),
        *("--schedule", "step", "--step-epochs", 2, "--warmup-fraction", 0),
        *("--learning-rate", 0.001, "--step-factor", 0.5),
    )

    rates = [float(row["learning_rate"]) for row in rows_of(run)]
    assert rates == pytest.approx([0.001, 0.001, 0.0005, 0.0005])
