"""One batch by several processes: the same file as by one, whoever dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch.distributed as dist
from photo_folders import (
    arguments,
    batch,
    draw,
    draw_folder,
    fork_batch,
    small_counter,
)

from clipcount_cli.batch import processes as sharing
from clipcount_cli.batch.pipeline import Pipeline
from clipcount_cli.batch.plan import Job
from clipcount_cli.batch.processes import Team
from clipcount_cli.batch.results import Targets

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks its processes")


@pytest.fixture
def photos(tmp_path):
    folder = draw_folder(tmp_path / "photos", 24)
    draw(folder / "7 wide.png", 1200, 64)
    (folder / "8 broken.jpg").write_bytes(b"text")
    return folder


@pytest.fixture
def whole(weights, photos, tmp_path):
    """The file that one process writes."""
    batch(weights, photos, "--prompt", "apples", "--csv", tmp_path / "whole.csv")
    return (tmp_path / "whole.csv").read_bytes()


def expect_late_ones(_rank):
    """Let the first process, which hosts the store, wait for those that a busy machine delays."""
    sharing.SHUTDOWN_TIMEOUT_S = 60.0


def launch(weights, processes, *words, before=expect_late_ones):
    """Start processes as torchrun would; the first one hosts the store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    return [
        fork_batch(
            weights,
            *words,
            environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            before=lambda rank=rank: before(rank),
        )
        for rank in range(processes)
    ]


@needs_fork
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_leave_the_file_of_one(weights, photos, whole, tmp_path, processes):
    out = tmp_path / "out.csv"

    children = launch(weights, processes, photos, "--prompt", "apples", "--csv", out)

    assert [child.wait() for child in children] == [3, *[0] * (processes - 1)]
    assert out.read_bytes() == whole


@needs_fork
def test_a_dead_worker_ends_the_run_and_any_number_goes_on(weights, photos, whole, tmp_path):
    out = tmp_path / "out.csv"
    words = (photos, "--prompt", "apples", "--csv", out)

    def disturb(rank):
        sharing.SILENCE_TIMEOUT_S = 0.2
        sharing.SHUTDOWN_TIMEOUT_S = 0.0  # the dead one never leaves
        if rank == 0:
            let_others_take(3)
        else:
            shake(lambda: os.kill(os.getpid(), signal.SIGKILL))

    first, second = launch(weights, 2, *words, before=disturb)
    dead = second.wait()
    first.kill(signal.SIGTERM)  # as torchrun does
    kept = len(Targets(out).read())
    children = launch(weights, 3, *words, "--resume")

    assert (dead, first.wait()) == (-signal.SIGKILL, 130)
    assert 0 < kept < 26
    assert [child.wait() for child in children] == [3, 0, 0]
    assert out.read_bytes() == whole


def let_others_take(images):
    """Keep this process from taking images before others, however late, have taken some."""
    claims = Team._claims

    def patient(self, stop):
        while self.store.add("claimed", 0) < images:
            yield None
        yield from claims(self, stop)

    Team._claims = patient


def shake(strike):
    """Call `strike` when this process is to give away its third outcome."""
    steps = Pipeline.steps

    def numbered(self, jobs, stop):
        given = 0
        for outcome in steps(self, jobs, stop):
            given += outcome is not None
            if given == 3:
                strike()
            yield outcome

    Pipeline.steps = numbered


def test_a_process_that_leaves_early_stops_nobody(photos):
    store = dist.HashStore()
    jobs = [Job(f"{n}.png", str(photos / f"{n}.png"), ("apples",)) for n in range(1, 25)]
    pipeline = Pipeline(small_counter(), batch_windows=2, workers=1)
    deserter = Team(store, 1, 2)
    lead = Team(store, 0, 2).lead(pipeline, jobs, lambda: False)
    first = next(lead)
    claims = deserter._claims(lambda: False)
    taken = [next(claims) for _ in range(2)]
    deserter.leave()

    outcomes = [first, *lead]

    counted = [outcome.job.image for outcome in outcomes]
    assert counted == [job.image for job in jobs if job not in taken]


def test_no_process_hoards_the_last_images(photos):
    store = dist.HashStore()
    jobs = [Job(f"{n}.png", str(photos / f"{n}.png"), ("apples",)) for n in range(1, 25)]
    teams = [Team(store, rank, 4) for rank in range(4)]
    teams[0]._publish(jobs)

    claims = [team._claims(lambda: False) for team in teams]
    taken = [sum(next(claim, None) is not None for _ in range(30)) for claim in claims]

    assert max(taken) <= 4 + 24 // 4
    assert min(taken) >= 3


def test_outcomes_are_the_same_when_shared(photos):
    store = dist.HashStore()
    jobs = [Job(f"{n}.png", str(photos / f"{n}.png"), ("apples",)) for n in range(1, 25)]

    counters = iter([small_counter() for _ in range(4)])  # seeded one after the other

    def make_pipeline():
        return Pipeline(next(counters), batch_windows=4, workers=1)

    def assist(rank):
        team = Team(store, rank, 3)
        team.assist(make_pipeline, lambda: False)
        team.leave()

    others = [threading.Thread(target=assist, args=(rank,)) for rank in (1, 2)]
    for other in others:
        other.start()
    shared = list(Team(store, 0, 3).lead(make_pipeline(), jobs, lambda: False))
    for other in others:
        other.join()

    assert shared == list(make_pipeline().run(jobs, lambda: False))


def test_torchrun_itself_runs_a_batch(weights, photos, whole, tmp_path):
    out = tmp_path / "out.csv"
    (photos / "8 broken.jpg").unlink()
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    words = arguments(weights, photos, "--prompt", "apples", "--csv", out)

    done = subprocess.run(
        [*command, "-m", "clipcount_cli", *words], cwd=ROOT, capture_output=True, timeout=300
    )

    assert done.returncode == 0, done.stderr.decode()
    without = b"".join(line for line in whole.splitlines(True) if b"broken" not in line)
    assert out.read_bytes() == without
