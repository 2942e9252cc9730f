"""Two processes at half the batch follow one process at the whole batch."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import pytest
from small_training import run_train

pytestmark = pytest.mark.slow


def test_two_processes_follow_one_over_20_steps(data, weights, tmp_path):
    options = (
        *("train", "--data", data, "--init", weights, "--device", "cpu", "--precision", "fp32"),
        *("--epochs", 20, "--batch", 8, "--validate-every", 20, "--learning-rate", 0.001),
        *("--dropout", 0, "--drop-path", 0, "--mosaic-prob", 0.2),
    )  # eight photographs, so an epoch is a step
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    two = subprocess.Popen(
        [
            *(*launcher, "--master-port", "0", "--standalone", "-m", "clipcount_cli"),
            *(str(option) for option in (*options, "--out", tmp_path / "two")),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    one = run_train(*options[1:], "--out", tmp_path / "one")
    printed, told = two.communicate()

    assert (one.exit_code, two.returncode) == (0, 0), one.output + told
    assert printed == f"{tmp_path / 'two' / 'best.safetensors'}\n"
    assert json.loads((tmp_path / "two" / "config.json").read_text())["world_size"] == 2
    losses = []
    for name in ("one", "two"):
        with (tmp_path / name / "log.csv").open(newline="") as file:
            losses.append([float(row["loss"]) for row in csv.DictReader(file)])
    assert len(losses[0]) == 20
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
