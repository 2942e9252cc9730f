"""Processes that read: the same outcomes as with threads, whatever happens to the processes."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time

import pytest
from photo_folders import draw, small_counter
from PIL import Image
from pretend_cuda import needs_pretend_cuda, pretend_cuda
from small_models import SMALL, small_model

from clipcount_cli.batch import reading_processes
from clipcount_cli.batch.pipeline import Outcome, Pipeline
from clipcount_cli.batch.plan import Job
from clipcount_cli.batch.readers import Readers
from clipcount_cli.batch.reading_processes import ReadingProcesses
from clipcount_cli.batch.request import BatchRequest
from clipcount_cli.batch.run import default_pipeline
from clipcount_cli.config import WindowConfig
from clipcount_cli.counting.counter import Counter


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """What a folder may hold, and more of it than is held at a time."""
    monkeypatch.setattr("clipcount_cli.batch.readers.PROCESSES_FROM", 2)
    for number in range(20):
        draw(tmp_path / f"{number}.png", 64 + number, 48)
    draw(tmp_path / "wide.png", 400, 30)
    draw(tmp_path / "large.png", 900, 700)
    pages = [Image.new("L", (70, 50), shade) for shade in (0, 90, 200)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    found = [Job(p.name, str(p), ("red dots",)) for p in sorted(tmp_path.iterdir())]
    stack = str(tmp_path / "stack.tif")
    found += [
        Job("none.png", str(tmp_path / "none.png"), ("red dots",)),
        Job("said.png", "said.png", ("red dots",), fault="is not to be counted"),
        *(Job(f"stack.tif#{n}", stack, ("red dots",), page=n) for n in (1, 3)),
    ]
    return found + found[:4]


def pipeline(processes=True, **settings):
    settings = {"batch_windows": 2, "workers": 2, **settings}
    return Pipeline(small_counter(), reads_in_processes=processes, **settings)


def counted(jobs, **settings):
    return list(pipeline(**settings).run(jobs, lambda: False))


def test_processes_read_what_threads_read(jobs):
    from_threads = counted(jobs, processes=False)

    from_processes = counted(jobs)

    assert from_processes == from_threads
    assert [o.job for o in from_processes] == jobs
    assert sum(bool(o.fault) for o in from_processes) == 3
    assert any(o.notes[0] for o in from_processes if not o.fault)  # "first of 3 pages"
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_costs_no_image(jobs, capsys):
    expected = counted(jobs, processes=False)
    outcomes: list[Outcome] = []

    for outcome in pipeline().run(jobs, lambda: False):
        for child in multiprocessing.active_children():
            child.kill()
        outcomes.append(outcome)

    assert outcomes == expected
    assert capsys.readouterr().err.count("threads read from now on") == 1


def test_images_beyond_a_process_s_share_of_memory_are_read_by_threads(jobs, monkeypatch):
    expected = counted(jobs, processes=False)
    in_threads = []
    read_in_thread = Readers._read_in_thread
    monkeypatch.setattr(reading_processes, "DECODE_BUDGET_BYTES", 2 * 3_000_000)
    monkeypatch.setattr(reading_processes, "_LEAST_BUDGET_BYTES", 0)
    monkeypatch.setattr(
        Readers,
        "_read_in_thread",
        lambda self, image: (in_threads.append(image.job.image), read_in_thread(self, image)),
    )

    assert counted(jobs) == expected
    # What is very wide is read again: it would have to be sent in pieces.
    assert sorted(in_threads) == sorted([jobs[0].image, jobs[1].image, "large.png", "wide.png"])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, memory cannot be set aside")
def test_without_memory_to_share_threads_read(jobs, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    expected = counted(jobs, processes=False)
    monkeypatch.setattr("os.posix_fallocate", full)

    assert counted(jobs) == expected
    assert "No space left on device" in capsys.readouterr().err


def test_a_stopped_run_keeps_its_order_and_ends_its_processes(jobs):
    expected = counted(jobs, processes=False)
    outcomes: list[Outcome] = []

    for outcome in pipeline().run(jobs, lambda: len(outcomes) >= 5):
        outcomes.append(outcome)

    assert 5 <= len(outcomes) < len(jobs)
    assert outcomes == expected[: len(outcomes)]
    assert multiprocessing.active_children() == []


@needs_pretend_cuda
@pytest.mark.parametrize(("drawn", "tiles"), [(False, 1), (True, 1), (False, "auto")])
def test_batch_reads_in_processes_on_a_gpu_unless_it_draws_or_chooses_tiles(
    jobs, tmp_path, drawn, tiles
):
    request = BatchRequest(["x"], "-", tiles=tiles, heatmaps=tmp_path / "maps" if drawn else None)
    with pretend_cuda():
        counter = Counter(small_model(SMALL).to("cuda"), "small", "0" * 64, "fp32")
        outcomes = default_pipeline(request, counter).run(jobs[:8], lambda: False)
        started = [len(multiprocessing.active_children()) for _ in outcomes]

    assert (max(started) > 0) == (not drawn and tiles == 1)


def test_a_dead_process_takes_a_stuck_one_with_it():
    processes = ReadingProcesses(2, 1, 1, WindowConfig())
    processes.pool.submit(time.sleep, 600)
    idle = processes.pool.submit(os.getpid).result()
    started = multiprocessing.active_children()

    next(child for child in started if child.pid == idle).kill()
    processes.close()

    assert len(started) == 2
    assert multiprocessing.active_children() == []


def test_if_no_process_can_be_started_threads_read(jobs, monkeypatch, capsys):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    expected = counted(jobs[:6], processes=False)
    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", refuse)

    assert counted(jobs[:6]) == expected
    assert "threads read from now on" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_processes_run_no_script_hear_no_interrupt_load_no_torch_and_end_with_a_killed_run(
    jobs, tmp_path
):
    script = tmp_path / "script.py"
    script.write_text(f"""
import os, signal, sys
print("run", flush=True)
signal.signal(signal.SIGINT, lambda *_: None)
sys.path[:0] = {sys.path!r}
from clipcount_cli.batch.readers import Readers
from clipcount_cli.batch.reading_processes import ReadingProcesses
from clipcount_cli.batch.plan import Job
from clipcount_cli.config import WindowConfig

processes = ReadingProcesses(2, 4, 1, WindowConfig())
job = Job("a", {jobs[1].path!r}, ("dots",))
readings = [processes.pool.submit(processes.task(job, slot)) for slot in range(2)]
os.killpg(0, signal.SIGINT)  # as a terminal does, while they start
print("read", [reading.result().shape[:1] for reading in readings])
loaded = processes.pool.submit(eval, "'torch' in __import__('sys').modules").result()
print("with torch" if loaded else "without torch", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""")
    # Its output ends once nobody holds it open: neither the run nor its processes.
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, timeout=60, start_new_session=True
    )

    assert done.stdout == b"run\nread [(384,), (384,)]\nwithout torch\n"
    assert done.returncode == -9
