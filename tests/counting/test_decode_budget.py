"""Decoders take turns for memory, and large images are decoded without copies to spare."""

from __future__ import annotations

import io
import subprocess
import sys
import threading

import numpy as np
import pytest
from image_files import png16
from PIL import Image

from clipcount_cli.counting import images
from clipcount_cli.counting.decode_budget import DecodeBudget
from clipcount_cli.counting.images import read_image


def test_no_more_is_taken_at_a_time_than_the_limit():
    budget = DecodeBudget(100)
    peaks: list[int] = []
    barrier = threading.Barrier(6)

    def decode() -> None:
        barrier.wait()
        for _ in range(50):
            with budget.taken(40):
                peaks.append(budget.used_bytes)

    threads = [threading.Thread(target=decode) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(peaks) == 300
    assert max(peaks) <= 80
    assert budget.used_bytes == 0


def test_an_image_above_the_limit_is_decoded_alone():
    budget = DecodeBudget(100)
    alone = threading.Event()

    def decode_large() -> None:
        with budget.taken(1000):
            alone.set()

    large = threading.Thread(target=decode_large)
    with budget.taken(1):
        large.start()
        started_beside_another = alone.is_set()
    large.join(10)

    assert alone.is_set()
    assert not started_beside_another


def test_a_failed_decoding_gives_its_share_back():
    budget = DecodeBudget(100)

    with pytest.raises(ValueError, match="torn"), budget.taken(60):
        raise ValueError("torn")

    assert budget.used_bytes == 0


def test_reading_takes_its_estimate_from_the_budget(monkeypatch):
    taken: list[int] = []

    class Recorder(DecodeBudget):
        def taken(self, estimated_bytes: int):
            taken.append(estimated_bytes)
            return super().taken(estimated_bytes)

    monkeypatch.setattr(images, "decode_budget", Recorder(1 << 20))
    stream = io.BytesIO()
    Image.new("RGB", (300, 200)).save(stream, "JPEG")

    read_image(stream)

    assert taken[0] >= 300 * 200 * (4 + 3)  # as Pillow holds it, and as it is returned


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("form", ["JPEG", "16-bit PNG"])
def test_the_estimate_bounds_the_memory_that_decoding_takes(tmp_path, form):
    path = tmp_path / "large"
    side = 2400
    if form == "JPEG":
        Image.new("RGB", (side, side), "red").save(path, "JPEG")
    else:
        samples = np.zeros((side, side, 3), np.uint16)
        path.write_bytes(png16(samples, 2).getvalue())
    script = f"""
import re
from pathlib import Path
from clipcount_cli.counting.images import read_image
from clipcount_cli.counting.pillow_frames import PillowFrames

def peak_bytes():
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

read_image(Path({str(tmp_path / "small")!r}))  # what is imported for it is not counted
with open({str(path)!r}, "rb") as stream:
    estimate = PillowFrames(stream).decode_bytes
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = peak_bytes()
pixels = read_image(Path({str(path)!r})).pixels
grown = peak_bytes() - before
assert estimate / 2 < grown < 1.1 * estimate, (grown, estimate)
"""
    Image.new("RGB", (8, 8)).save(tmp_path / "small", "PNG")

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
