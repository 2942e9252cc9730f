"""RUN/: files that other programs hold open, that are lost, and that a killed process left."""

from __future__ import annotations

import csv
import errno
import json
import shlex
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_models import save_small
from small_training import draw_dots, run_train
from typer.testing import CliRunner

from clipcount_cli.cli import app
from clipcount_cli.training.run_folder import RunFolder, draw_curves
from clipcount_cli.version import __version__

pytestmark = pytest.mark.slow

SHORT = (
    *("--epochs", 2, "--batch", 8, "--device", "cpu", "--precision", "fp32"),
    *("--validate-every", 1),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of two epochs; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "draw_curves", lambda folder, rows: None)
        data = draw_dots(folder / "data", 12)
        weights = save_small(folder / "small.safetensors")
        result = run_train("--data", data, "--init", weights, "--out", folder / "run", *SHORT)
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def words(result) -> str:
    return " ".join(result.stderr.split())


def epochs_of(run: Path) -> list[str]:
    with (run / "log.csv").open(newline="") as file:
        return [row["epoch"] for row in csv.DictReader(file)]


@contextmanager
def held_open(*names: str):
    """Refuse to write, rename, replace or delete files of these names, as Windows does."""
    plain = {name: getattr(Path, name) for name in ("open", "replace", "unlink", "rename")}

    def refuse(path: Path) -> None:
        if path.name in names:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    def opened(path, mode="r", *args, **kwargs):
        if set(mode) & set("wax+"):
            refuse(path)
        return plain["open"](path, mode, *args, **kwargs)

    def moved(path, target):
        refuse(path)
        refuse(Path(target))
        return plain["replace"](path, target)

    def deleted(path, *args, **kwargs):
        refuse(path)
        return plain["unlink"](path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for name, instead in (("open", opened), ("replace", moved), ("unlink", deleted)):
            patch.setattr(Path, name, instead)
        yield


def test_log_that_is_held_open_does_not_end_a_training(data, weights, tmp_path):
    run = tmp_path / "run"

    with held_open("log.csv"):
        result = run_train("--data", data, "--init", weights, "--out", run, *SHORT)

    assert result.exit_code == 0, result.output
    assert words(result).count("training continues") == 1
    assert f"--resume {run}" in words(result)
    assert (run / "checkpoint.pt").is_file()
    assert not (run / "log.csv").exists()

    resumed = run_train("--resume", run)
    assert resumed.exit_code == 0, resumed.output
    assert epochs_of(run) == ["1", "2"]


def test_rows_are_written_once_the_log_is_free_again(data, weights, tmp_path, monkeypatch):
    run, plain = tmp_path / "run", RunFolder.update_log

    def update_log(folder, rows):
        with held_open("log.csv") if len(rows) == 1 else held_open():
            plain(folder, rows)

    monkeypatch.setattr(RunFolder, "update_log", update_log)
    result = run_train("--data", data, "--init", weights, "--out", run, *SHORT)

    assert result.exit_code == 0, result.output
    assert epochs_of(run) == ["1", "2"]
    assert "which only writes what is missing" not in words(result)


@pytest.mark.parametrize("held", ["log.csv", "best.safetensors", "config.json", "checkpoint.pt"])
def test_run_with_a_file_that_is_held_open_is_not_overwritten_by_halves(held, run, data, weights):
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    with held_open(held):
        result = run_train("--data", data, "--init", weights, "--out", run, *SHORT, "--overwrite")

    assert result.exit_code == 1
    assert f"cannot write {run / held}: Permission denied" in words(result)
    assert "another program" in words(result)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize("held", ["best.safetensors", "last.safetensors"])
def test_weights_that_are_held_open_stop_a_run_that_can_be_resumed(
    held, data, weights, tmp_path, monkeypatch
):
    run, plain = tmp_path / "run", RunFolder.save_state
    saved = []

    def save_state(folder, state):
        plain(folder, state)
        saved.append(state["step"])

    monkeypatch.setattr(RunFolder, "save_state", save_state)
    with held_open(held):
        stopped = run_train("--data", data, "--init", weights, "--out", run, *SHORT)
    assert stopped.exit_code == 1
    assert f"cannot write {run / held}" in words(stopped)
    assert f"--resume {run}" in words(stopped)
    if held == "best.safetensors":
        resumed = run_train("--resume", run)
        assert resumed.exit_code == 0, resumed.output
        assert epochs_of(run) == ["1", "2"]


@pytest.mark.parametrize("lost", ["checkpoint.pt", "last.safetensors"])
def test_run_that_lost_what_it_continues_from_is_refused_as_it_is(lost, run):
    (run / lost).unlink()
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    result = run_train("--resume", run)

    assert result.exit_code == 2
    assert f"cannot be resumed where it stopped: it has no {lost}" in words(result)
    kept = "best" if lost == "last.safetensors" else "last"
    assert f"--init {run / kept}.safetensors" in words(result)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_run_can_be_resumed_from_its_first_step_on(data, weights, tmp_path, monkeypatch):
    run = tmp_path / "run"

    def fail(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("clipcount_cli.training.step.Trainer.step", fail)
        run_train("--data", data, "--init", weights, "--out", run, *SHORT)
    assert (run / "checkpoint.pt").is_file()

    resumed = run_train("--resume", run)

    assert resumed.exit_code == 0, resumed.output
    assert epochs_of(run) == ["1", "2"]


def test_finished_run_is_already_complete(run):
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    result = run_train("--resume", run)

    assert result.exit_code == 0
    assert result.stdout == f"{run / 'best.safetensors'}\n"
    assert "already complete" in words(result)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_more_epochs_of_a_finished_run_are_a_new_run_from_its_weights(run):
    result = run_train("--resume", run, "--epochs", 5)

    assert result.exit_code == 2
    assert "--epochs 5 (was 2)" in words(result)
    assert f"--init {run / 'last.safetensors'}" in words(result)


def test_what_a_killed_process_left_is_removed(run):
    (run / ".tmp-k7x_.safetensors").write_bytes(b"half a file")
    (run / "notes.txt").write_text("mine")
    (run / "log.csv").write_text("")  # so that the run is not complete

    assert run_train("--resume", run).exit_code == 0

    assert not list(run.glob(".tmp-*"))
    assert (run / "notes.txt").exists()


def test_every_validation_is_a_line_and_the_end_names_the_best(data, weights, tmp_path):
    run = tmp_path / "run"

    result = run_train("--data", data, "--init", weights, "--out", run, *SHORT)

    lines = [line for line in result.stderr.splitlines() if line.startswith("epoch ")]
    assert [line.partition(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert all("loss" in line and "MAE" in line and "best" in line for line in lines)
    best, command = result.stderr.splitlines()[-2:]
    assert best.startswith("best epoch ")
    assert best.endswith(f", {run / 'best.safetensors'}")
    assert command == f"to count with it: clipcount count IMAGE 'blue dots' --weights {run}"
    quiet = run_train("--data", data, "--init", weights, "--out", tmp_path / "q", *SHORT, "-q")
    assert quiet.stderr == ""


def test_the_command_to_count_with_repeats_tiles_and_takes_no_folder_for_installed_weights(
    data, weights, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    result = run_train("--data", data, "--init", weights, "--out", "tiny", *SHORT, "--tiles", 2)

    command = shlex.split(result.stderr.splitlines()[-1].partition(": ")[2])
    assert command[2:4] == ["IMAGE", "blue dots"]
    assert command[4:] == ["--weights", str(Path("tiny/best.safetensors")), "--tiles", "2"]


def test_config_holds_versions_command_and_date_of_each_start(run):
    started = json.loads((run / "config.json").read_text())
    (run / "log.csv").write_text("")  # so that the run is not complete
    run_train("--resume", run)

    resumed = json.loads((run / "config.json").read_text())

    assert started["versions"]["clipcount-cli"] == __version__
    assert {"python", "torch", "open_clip", "numpy"} <= set(started["versions"])
    assert started["command"].startswith("clipcount")
    assert started["date"][:2] == "20"
    assert resumed["date"] == started["date"]
    assert [set(each) for each in resumed["resumed"]] == [{"date", "command", "versions"}]


def test_run_folder_stands_for_its_best_weights(run, data):
    from clipcount_cli.weights import cache

    resolved = cache.resolve(str(run))
    again = run_train("--data", data, "--init", run, "--out", run.parent / "again", *SHORT)

    assert (resolved.path, resolved.name) == (run / "best.safetensors", "run")
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(
    "command",
    [("count", "a.jpg", "dots", "--weights"), ("download-weights", "--info"), ("train", "--init")],
    ids=lambda command: command[0],
)
def test_run_that_was_never_validated_offers_its_last_weights(command, data, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    save_small(run / "last.safetensors")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.jpg")
    words = [str(tmp_path / word) if word == "a.jpg" else word for word in (*command, str(run))]

    told = CliRunner().invoke(app, words + (["--data", str(data)] if "train" in command else []))

    assert told.exit_code == 1
    assert f"error: {run} has no best.safetensors, as no validation" in told.stderr
    assert f"hint: use {run / 'last.safetensors'}, or continue with `clipcount" in told.stderr


def panels(rows, path: Path) -> int:
    """How many panels the curves of these epochs have, by their width."""
    draw_curves(rows, path)
    pixels = np.asarray(Image.open(path).convert("L"))
    assert pixels.min() < 128
    return round(pixels.shape[1] / 440)


def test_curves_have_a_panel_for_each_kind_of_figure_and_no_other(tmp_path):
    losses = [{"epoch": e, "loss": 1 / e, "density": 0.5 / e} for e in (1.0, 2.0)]
    errors = [{**row, "val_mae": 3.0, "val_rmse": 4.0} for row in losses]
    absent = [{**row, "val_nmn": 0.5} for row in errors]

    assert [panels(rows, tmp_path / "c.png") for rows in (losses, errors, absent)] == [1, 2, 3]
