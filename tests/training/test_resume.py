"""A training goes on exactly where it stopped, however it was stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_models import save_small
from small_training import draw_dots, run_train

from clipcount_cli.evaluation import evaluate as evaluation
from clipcount_cli.training import run as train
from clipcount_cli.training import run_folder as run_folder
from clipcount_cli.training.step import Trainer
from clipcount_cli.weights import checkpoint

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
OPTIONS = (
    *("--epochs", 3, "--batch", 4, "--device", "cpu", "--precision", "fp32"),  # 2 steps an epoch
    *("--validate-every", 1, "--save-minutes", 0, "--tuning", "full"),
)
KILLED = """
import os, signal, sys
from clipcount_cli.training.step import Trainer

plain, deadly = Trainer.step, int(sys.argv.pop(1))

def step(self, batch):
    if self.step_number == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, batch)

Trainer.step = step
from clipcount_cli.cli import main
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    return draw_dots(folder / "data", 12)


@pytest.fixture(scope="module")
def weights(folder: Path) -> Path:
    return save_small(folder / "small.safetensors")


@pytest.fixture(scope="module")
def undisturbed(data: Path, weights: Path, folder: Path) -> Path:
    run = folder / "undisturbed"
    assert run_train("--data", data, "--init", weights, "--out", run, *OPTIONS).exit_code == 0
    return run


def assert_same(run: Path, other: Path) -> None:
    """Weights bit for bit, and every figure of the log but the times."""
    for name in ("last.safetensors", "best.safetensors"):
        one, two = (checkpoint.load_state(each / name)[0] for each in (run, other))
        assert all(torch.equal(one[tensor], two[tensor]) for tensor in one)
    logs = [(each / "log.csv").read_text().splitlines() for each in (run, other)]
    untimed = [[line.split(",")[:12] for line in log] for log in logs]
    assert untimed[0] == untimed[1]


def test_a_run_killed_within_or_between_epochs_ends_in_the_same_weights(
    data, weights, undisturbed, tmp_path
):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    runs = {step: tmp_path / f"killed at {step}" for step in (3, 4)}  # the 2nd epoch has 2 and 3
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", KILLED, str(step), "train", "--data", str(data)),
                *("--init", str(weights), "--out", str(run), *(str(o) for o in OPTIONS)),
            ],
            env=environment,
        )
        for step, run in runs.items()
    ]

    assert [process.wait() for process in processes] == [-signal.SIGKILL] * 2
    for run in runs.values():
        result = run_train("--resume", run, "--device", "cpu")
        assert result.exit_code == 0, result.output
        assert_same(run, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves_with_130(
    number, data, weights, undisturbed, tmp_path, monkeypatch
):
    run, plain = tmp_path / "stopped", Trainer.step

    def step(self, batch):
        if self.step_number == 2:
            signal.raise_signal(number)
        return plain(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        stopped = run_train("--data", data, "--init", weights, "--out", run, *OPTIONS)
    resumed = run_train("--resume", run, "--device", "cpu")

    assert stopped.exit_code == 130
    assert f"--resume {run}" in stopped.stderr
    assert resumed.exit_code == 0, resumed.output
    assert_same(run, undisturbed)


def test_a_signal_during_validation_does_not_wait_for_its_end(
    data, weights, undisturbed, tmp_path, monkeypatch
):
    run, plain = tmp_path / "stopped", evaluation.evaluate

    def evaluate(*arguments, **options):
        signal.raise_signal(signal.SIGTERM)
        return plain(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("clipcount_cli.training.validation.evaluate", evaluate)
        stopped = run_train("--data", data, "--init", weights, "--out", run, *OPTIONS)

    assert stopped.exit_code == 130
    assert len((run / "log.csv").read_text().splitlines()) == 1
    assert run_train("--resume", run, "--device", "cpu").exit_code == 0
    assert_same(run, undisturbed)


def test_a_finished_run_resumes_to_itself(undisturbed):
    before = (undisturbed / "last.safetensors").read_bytes()

    result = run_train("--resume", undisturbed, "--device", "cpu")

    assert result.exit_code == 0, result.output
    assert (undisturbed / "last.safetensors").read_bytes() == before


def test_resuming_with_other_options_names_each_difference(undisturbed):
    result = run_train(
        *("--resume", undisturbed, "--epochs", 3, "--learning-rate", 0.5, "--recipe", "paper"),
        *("--precision", "bf16"),
    )

    assert result.exit_code == 2
    told = result.stderr
    assert "--learning-rate 0.5 (was 0.0001)" in told
    assert "--recipe paper (was default)" in told
    assert "--precision bf16 (was fp32)" in told
    assert "--epochs" not in told


def test_resuming_on_changed_data_is_refused(undisturbed, data):
    points = data / "points.csv"
    before = points.read_text()
    points.write_text(before + "0.png,red dots,5,5\n")

    result = run_train("--resume", undisturbed)

    points.write_text(before)
    assert result.exit_code == 1
    assert "is not what it was" in result.stderr


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="lists mapped files")
def test_resuming_closes_the_weights_that_it_will_replace(undisturbed, tmp_path, monkeypatch):
    run = shutil.copytree(undisturbed, tmp_path / "run")
    (run / "log.csv").write_text((run / "log.csv").read_text().splitlines()[0])
    mapped = []

    def look(folder, *_, **__):
        mapped.append(str(folder.last) in Path("/proc/self/maps").read_text())
        return folder

    monkeypatch.setattr(train, "_run", look)

    assert run_train("--resume", run).exit_code == 0
    assert mapped == [False]


def test_a_run_goes_on_where_its_data_have_moved_to(undisturbed, weights, tmp_path):
    data, run, plain = draw_dots(tmp_path / "data", 12), tmp_path / "run", Trainer.step

    def step(self, batch):
        if self.step_number == 2:
            signal.raise_signal(signal.SIGTERM)
        return plain(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        run_train("--data", data, "--init", weights, "--out", run, *OPTIONS)
    moved = data.rename(tmp_path / "moved")

    lost = run_train("--resume", run)
    resumed = run_train("--resume", run, "--data", moved)
    again = run_train("--resume", run)

    assert lost.exit_code == 1
    assert "give its new place with --data" in lost.stderr
    assert resumed.exit_code == 0, resumed.output
    assert_same(run, undisturbed)
    assert again.exit_code == 0, again.output  # it remembers the new place


def test_resuming_on_other_data_is_refused(undisturbed, tmp_path):
    other = draw_dots(tmp_path / "other", 12, seed=1)

    result = run_train("--resume", undisturbed, "--data", other)

    assert result.exit_code == 1
    assert "is not what it was" in result.stderr


@pytest.mark.parametrize(("options", "asked"), [((), "cpu"), (("--device", "cuda"), "cuda")])
def test_a_run_goes_on_on_the_kind_of_device_it_began_on(options, asked, undisturbed, monkeypatch):
    picked = []
    monkeypatch.setattr(train, "pick_device", lambda name: picked.append(name) or CPU)

    result = run_train("--resume", undisturbed, *options)

    assert result.exit_code == 0, result.output
    assert picked == [asked]
    assert "bit for bit" not in result.stderr


def test_another_device_or_number_of_processes_is_said(undisturbed, tmp_path):
    run = shutil.copytree(undisturbed, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    assert (config["device"], config["world_size"]) == ("cpu", 1)
    (run / "config.json").write_text(json.dumps({**config, "device": "cuda", "world_size": 2}))

    told = run_train("--resume", run, "--device", "cpu").stderr

    words = " ".join(told.split())
    assert "was on cuda (processes: 2) and continues on cpu (processes: 1)" in words
    assert "bit for bit" in words


def test_a_run_in_half_precision_does_not_go_on_on_a_cpu(undisturbed, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "precision": "fp16"}))

    result = run_train("--resume", run)

    assert result.exit_code == 1
    assert "trains in fp16, which a CPU does not multiply in" in " ".join(result.stderr.split())


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path):
    result = run_train("--resume", tmp_path)

    assert result.exit_code == 2
    assert "holds no training to resume" in result.stderr


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(
    data, weights, tmp_path, monkeypatch
):
    run, saved = tmp_path / "run", []

    def save(state, path):
        saved.append(path)
        if len(saved) == 3:
            Path(path).write_bytes(b"half a checkpoint")
            raise RuntimeError("PytorchStreamWriter failed writing file")
        torch_save(state, path)

    torch_save = torch.save
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        stopped = run_train("--data", data, "--init", weights, "--out", run, *OPTIONS)

    assert stopped.exit_code == 1
    assert "cannot write" in stopped.stderr
    assert f"--resume {run}" in stopped.stderr
    assert run_train("--resume", run, "--device", "cpu").exit_code == 0
