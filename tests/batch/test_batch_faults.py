"""What goes wrong during a batch: broken files, kills, signals, full disks, two runs, no memory."""

from __future__ import annotations

import copy
import errno
import os
import random
import signal
import sys
import threading
import time
import zipfile
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from photo_folders import batch, draw, draw_folder, fork_batch, small_counter
from PIL import Image

from clipcount_cli.batch.fixed_batch import FixedBatch
from clipcount_cli.batch.pipeline import Pipeline, _PipelineRun
from clipcount_cli.batch.plan import Job
from clipcount_cli.batch.results import ResultsFile, Targets
from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.packed import packed
from clipcount_cli.counting.windows import Origin
from clipcount_cli.errors import DeviceError
from clipcount_cli.interrupts import Interruption
from clipcount_cli.locks import exclusive

pytestmark = pytest.mark.slow

# More kills find rarer moments: CLIPCOUNT_TEST_KILLS=200 pytest tests/test_batch_faults.py
KILLS = int(os.environ.get("CLIPCOUNT_TEST_KILLS", "4"))
PROMPTS = ("--prompt", "apples", "--prompt", "figs")

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")


@pytest.fixture
def photos(tmp_path):
    return draw_folder(tmp_path / "photos", 8)


@pytest.fixture
def undisturbed(weights, photos, tmp_path):
    """The bytes that every run on `photos` must end with."""
    out = tmp_path / "undisturbed.csv"
    batch(weights, photos, *PROMPTS, "--csv", out)
    return out.read_bytes()


def test_each_broken_file_is_a_failed_row_and_the_run_goes_on(weights, tmp_path):
    photos = tmp_path / "photos"
    whole = draw(photos / "whole.jpg", 200, 200).read_bytes()
    png = bytearray(draw(photos / "flip.png", 200, 200).read_bytes())
    png[len(png) // 2] ^= 4
    zipped = BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.txt", "a")
    bomb = BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    broken = {
        "bomb.png": bomb.getvalue(),
        "cut.jpg": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "flip.png": bytes(png),
        "page.jpg": b"<html><body>404</body></html>",
        "text.jpg": b"not a picture",
        "zip.jpg": zipped.getvalue(),
    }
    for name, data in broken.items():
        (photos / name).write_bytes(data)
    (photos / "folder.jpg").mkdir()
    if sys.platform != "win32":
        (photos / "dangling.jpg").symlink_to(photos / "nowhere.jpg")

    result = batch(weights, photos, "--prompt", "apples", "--csv", tmp_path / "out.csv")

    rows = {row.image: row for row in Targets(tmp_path / "out.csv").read()}
    assert result.exit_code == 3
    assert {name for name, row in rows.items() if not row.failed} == {"whole.jpg"}
    assert set(broken) < set(rows)
    assert all(row.message for row in rows.values() if row.failed)
    assert "rows in " in result.stderr.splitlines()[-2]
    assert " failed, first: " in result.stderr.splitlines()[-2]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_what_may_not_be_read_is_a_failed_row(weights, photos, tmp_path):
    (photos / "3.png").chmod(0)
    draw(photos / "shut" / "1.png").parent.chmod(0)

    result = batch(weights, photos, "--csv", tmp_path / "out.csv")

    (photos / "shut").chmod(0o755)
    failed = [row.image for row in Targets(tmp_path / "out.csv").read() if row.failed]
    assert (result.exit_code, failed) == (3, ["3.png", "shut"])


def count_all(jobs, **settings):
    pipeline = Pipeline(small_counter(), **{"batch_windows": 4, "workers": 2, **settings})
    return pipeline.run(jobs, lambda: False)


def test_files_that_vanish_during_the_run_fail_alone(photos):
    def jobs():
        for number in (1, 2, 3):
            path = photos / f"{number}.png"
            if number == 2:
                path.unlink()
            yield Job(path.name, str(path), ("apples",))

    faults = [outcome.fault for outcome in count_all(jobs())]

    assert faults == ["", "2.png does not exist (check the spelling and the folder)", ""]


def test_only_so_many_images_are_held_at_once(photos):
    taken = 0

    def jobs():
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield Job("1.png", str(photos / "1.png"), ("apples",))

    ahead = [taken - done for done, _ in enumerate(count_all(jobs()))]

    assert len(ahead) == 100
    assert max(ahead) < 40


def test_a_panorama_is_counted_among_thumbnails(photos):
    draw(photos / "wide.png", 4000, 100)
    names = ["wide.png", *(f"{n}.png" for n in range(1, 9))]
    jobs = [Job(name, str(photos / name), ("apples", "figs")) for name in names]

    outcomes = list(count_all(jobs))

    assert [outcome.job.image for outcome in outcomes] == names
    assert outcomes[0].counts[0] > 20 * outcomes[1].counts[0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_window_counts_the_same_bit_for_bit_in_any_company(precision):
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = copy.deepcopy(small_counter().model).to(dtype)
    counter = Counter(packed(model), "small", "0" * 64, precision)
    network = FixedBatch(counter, 4)
    windows = np.random.default_rng(0).integers(0, 256, (3, 384, 384, 3), dtype=np.uint8)
    placed = [(window, Origin(0, 0)) for window in windows]
    together = network.encode(placed)
    alone = network.encode(placed[2:])
    mixed = [(together, 2), (together, 0), (alone, 0)]
    ones = [np.ones((2, 384), np.float32)] * 3
    in_company = network.decode(mixed, ["apples"] * 3, ones, True).densities
    by_itself = network.decode([(alone, 0)], ["apples"], ones[:1], True).densities

    assert np.array_equal(in_company[0], by_itself[0])
    assert np.array_equal(in_company[2], by_itself[0])
    assert not np.array_equal(in_company[1], by_itself[0])


class Cramped(Counter):
    """A GPU with memory for `most` windows."""

    most = 2

    def encode_windows(self, windows):
        if len(windows) > self.most:
            raise torch.cuda.OutOfMemoryError
        return super().encode_windows(windows)


def test_no_memory_on_the_gpu_halves_the_batch_and_goes_on(photos, capsys):
    counter = Cramped(small_counter().model, "small", "0" * 64, "fp32")
    jobs = [Job(f"{n}.png", str(photos / f"{n}.png"), ("apples",)) for n in range(1, 9)]

    outcomes = list(Pipeline(counter, batch_windows=8, workers=1).run(jobs, lambda: False))

    assert [outcome.fault for outcome in outcomes] == [""] * 8
    assert "continuing with 2 windows at a time" in capsys.readouterr().err


def test_resuming_compares_the_batch_size_that_memory_allowed(
    weights, photos, tmp_path, monkeypatch
):
    out, encode = tmp_path / "out.csv", Counter.encode_windows

    def encode_few(self, windows):
        if len(windows) > 2:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")
        return encode(self, windows)

    monkeypatch.setattr(Counter, "encode_windows", encode_few)
    words = (photos, "--prompt", "apples", "--csv", out)
    first = batch(weights, *words, "--batch-windows", "8", "--workers", "1")
    again = batch(weights, *words, "--batch-windows", "8", "--resume")
    resumed = batch(weights, *words, "--batch-windows", "2", "--resume")

    assert first.exit_code in (0, 3), first.output
    assert again.exit_code == 2
    assert "batch_windows" in again.stderr or "--batch-windows" in again.stderr
    assert resumed.exit_code == first.exit_code, resumed.output


def test_no_memory_for_a_single_window_is_an_error(photos):
    counter = Cramped(small_counter().model, "small", "0" * 64, "fp32")
    counter.most = 0

    with pytest.raises(DeviceError, match="does not hold one window"):
        list(Pipeline(counter, 8, 1).run([Job("1.png", str(photos / "1.png"), ("a",))], bool))


def test_a_panorama_is_counted_in_parts_where_a_gpu_has_little_memory():
    panorama = np.random.default_rng(0).integers(0, 256, (384, 1500, 3), dtype=np.uint8)
    counter = small_counter()
    cramped = Cramped(counter.model, "small", "0" * 64, "fp32")

    whole, parts = (c.count(panorama, ["apples", "figs"]) for c in (counter, cramped))

    assert [r.count for r in parts] == pytest.approx([r.count for r in whole], rel=1e-5)
    cramped.most = 0
    with pytest.raises(DeviceError, match="does not hold one window"):
        cramped.count(panorama, "apples")


@needs_fork
def test_killed_at_random_moments_a_run_ends_as_if_undisturbed(
    weights, photos, undisturbed, tmp_path
):
    out = tmp_path / "out.csv"
    chance = random.Random(0)
    words = (photos, *PROMPTS, "--csv", out, "--resume", "--workers", "1", "--batch-windows", "1")
    fixed = tmp_path / "fixed.csv"
    batch(weights, photos, *PROMPTS, "--csv", fixed, "--batch-windows", "1")

    for _ in range(KILLS):
        size = chance.randint(1, len(undisturbed))
        child = fork_batch(weights, *words)
        while child.running() and not (out.exists() and out.stat().st_size >= size):
            time.sleep(0.0005)
        child.kill(signal.SIGKILL)
        if chance.random() < 0.3:
            out.unlink(missing_ok=True)
    result = batch(weights, *words)

    assert result.exit_code == 0, result.output
    assert out.read_bytes() == fixed.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_order_and_says_how_to_go_on(
    weights, photos, undisturbed, tmp_path, monkeypatch, number
):
    out = tmp_path / "out.csv"
    words = (photos, *PROMPTS, "--csv", out, "--workers", "1")
    append = ResultsFile.append

    def append_and_interrupt(self, rows):
        append(self, rows)
        if rows[0].image == "2.png":
            signal.raise_signal(number)

    monkeypatch.setattr(ResultsFile, "append", append_and_interrupt)
    monkeypatch.setattr(_PipelineRun, "_room", lambda self: 2)
    interrupted = batch(weights, *words, "--batch-windows", "1")
    monkeypatch.undo()

    rows = Targets(out).read()
    assert interrupted.exit_code == 130, interrupted.output
    assert [row.image for row in rows[:4]] == ["1.png", "1.png", "2.png", "2.png"]
    assert f"interrupted: {len(rows)} of 16 rows" in interrupted.stderr
    assert "--resume" in interrupted.stderr.splitlines()[-1]


def test_handlers_are_put_back(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)

    interruption = Interruption(previous={signal.SIGTERM: signal.SIG_IGN})
    interruption.restore()
    found = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)

    assert found == signal.SIG_IGN


def test_a_second_run_on_the_same_csv_is_refused(weights, photos, tmp_path):
    out = tmp_path / "out.csv"

    with exclusive(out):
        result = batch(weights, photos, "--csv", out)

    assert result.exit_code == 2
    assert "another run is writing" in result.stderr
    assert not out.exists()


class Stdout(BytesIO):
    """A stdout that takes three pieces, then fails."""

    def __init__(self, code):
        super().__init__()
        self.error = OSError(code, os.strerror(code))
        self.left = 3

    def write(self, piece):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().write(piece)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.EPIPE, []),
        (
            errno.ENOSPC,
            ["error: no space left to write stdout", "hint: free some space, run again"],
        ),
    ],
)
def test_where_stdout_ends_the_run_ends_and_all_its_workers(
    weights, photos, monkeypatch, code, told
):
    stdout = SimpleNamespace(buffer=Stdout(code))
    monkeypatch.setattr("clipcount_cli.files.sys", SimpleNamespace(stdout=stdout))

    result = batch(weights, photos, "--prompt", "apples", "--csv", "-", "-q")

    workers = [thread for thread in threading.enumerate() if thread.name.startswith("worker")]
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if "warning" not in line] == told
    assert workers == []


def test_a_full_disk_stops_the_run_and_leaves_the_file_whole(
    weights, photos, undisturbed, tmp_path
):
    resource = pytest.importorskip("resource")  # not on Windows
    out = tmp_path / "out.csv"
    words = (photos, *PROMPTS, "--csv", out)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        full = batch(weights, *words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = out.read_bytes()

    resumed = batch(weights, *words, "--resume")

    assert full.exit_code == 1
    assert "out.csv" in full.stderr
    assert kept.endswith(b"\n")
    assert undisturbed.startswith(kept)
    assert resumed.exit_code == 0, resumed.output
    assert out.read_bytes() == undisturbed
