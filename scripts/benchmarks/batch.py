"""`python scripts/benchmark.py batch`: the cost of a folder beyond its network and its decoding.

Three questions, each on images drawn for it: how much of the bare network's speed is left when
images are read, packed and written as well; how much faster a folder of large JPEGs goes than a
plain loop; and whether memory grows with the number of images.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from clipcount_cli import console
from clipcount_cli.api import Counter, load_counter
from clipcount_cli.batch.plan import make_plan
from clipcount_cli.batch.request import BatchRequest
from clipcount_cli.batch.run import default_pipeline
from clipcount_cli.commands.options import DeviceOption, Precision, PrecisionOption, WeightsOption
from clipcount_cli.counting.images import read_image
from clipcount_cli.counting.windows import cut_windows, resize_shorter_side, window_origins

PROMPT = "apples"
WINDOWED_PX = (576, 384)  # three windows
LARGE_PX = (4000, 3000)
SMALL_PX = (48, 32)


def batch_speed(
    weights: WeightsOption = "tiny",
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    windowed: Annotated[int, typer.Option(help="Small images for the network.")] = 60,
    large: Annotated[int, typer.Option(help="12-megapixel JPEGs.")] = 24,
    repeats: Annotated[
        int, typer.Option(help="Number of repetitions, of which the best is printed.")
    ] = 3,
    many: Annotated[int, typer.Option(help="Tiny images for memory; 0 leaves it out.")] = 20_000,
) -> None:
    """Measure `batch` against the bare network and a plain loop, and its peak memory."""
    counter = load_counter(weights, device, precision.value)
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        few = draw_photos(Path(folder) / "windowed", windowed, WINDOWED_PX)
        rows += compare_with_network(counter, few, repeats)
        big = draw_photos(Path(folder) / "large", large, LARGE_PX)
        rows += compare_with_loop(counter, big, repeats)
        if many:
            rows += compare_memory(Path(folder), weights, many)
    title = f"{counter.label}, {counter.device}, {counter.precision}"
    console.show_table(("what", "measured"), rows, title)


def draw_photos(folder: Path, number: int, size_px: tuple[int, int]) -> Path:
    """JPEGs with as much detail as photos: smooth shapes under faint noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for place in range(number):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size_px, Image.Resampling.BICUBIC))
        noise = rng.integers(-6, 7, (*smooth.shape[:2], 1), dtype=np.int16)
        pixels = np.clip(smooth + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{place}.jpg", quality=90)
    return folder


def best_time(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """The least seconds of wall clock, and of all cores together."""
    walls, cores = [], []
    for _ in range(repeats):
        wall, core = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cores.append(time.process_time() - core)
    return min(walls), min(cores)


def count_folder(counter: Counter, folder: Path) -> None:
    """All that `batch` does but for writing rows."""
    request = BatchRequest([str(folder)], "-", prompts=[PROMPT])
    plan = make_plan(request.sources, request.prompts)
    for outcome in default_pipeline(request, counter).run(plan.jobs, lambda: False):
        assert not outcome.fault, outcome.fault


def compare_with_network(counter: Counter, folder: Path, repeats: int) -> list[tuple[str, str]]:
    """Windows per second: the network on windows in memory, and `batch` from files."""
    windows = np.concatenate([windows_of(counter, path) for path in sorted(folder.iterdir())])
    at_once = default_pipeline(BatchRequest([], "-"), counter).batch_windows
    text = counter.encode_prompts([PROMPT])

    def bare() -> None:
        for start in range(0, len(windows), at_once):
            batch = windows[start : start + at_once]
            features = counter.encode_windows(batch)
            counter.densities(features, text.expand(len(batch), -1)).numpy(force=True)

    bare()
    network = best_time(bare, repeats)
    folder_s = best_time(lambda: count_folder(counter, folder), repeats)
    return [
        ("bare network", speed(len(windows), network, "windows")),
        ("batch, same windows", speed(len(windows), folder_s, "windows")),
        (
            "batch / bare network",
            f"{network[0] / folder_s[0]:.2f} ({network[1] / folder_s[1]:.2f})",
        ),
    ]


def windows_of(counter: Counter, path: Path) -> np.ndarray:
    """The windows that the network sees of one image."""
    pixels = resize_shorter_side(read_image(path).pixels, counter.windows.side_px)
    height_px, width_px = pixels.shape[:2]
    origins = window_origins(height_px, width_px, counter.windows)
    return cut_windows(pixels, origins, counter.windows)


def compare_with_loop(counter: Counter, folder: Path, repeats: int) -> list[tuple[str, str]]:
    """Large JPEGs per second: one after the other, and `batch`."""
    paths = sorted(folder.iterdir())

    def loop() -> None:
        for path in paths:
            counter.count(path, PROMPT)

    plain = best_time(loop, repeats)
    folder_s = best_time(lambda: count_folder(counter, folder), repeats)
    return [
        ("plain loop, 12 megapixels", speed(len(paths), plain, "images")),
        ("batch, 12 megapixels", speed(len(paths), folder_s, "images")),
        ("batch / plain loop", f"{plain[0] / folder_s[0]:.2f} ({plain[1] / folder_s[1]:.2f})"),
    ]


def speed(things: int, seconds: tuple[float, float], unit: str) -> str:
    """The speed by wall clock, and per core."""
    return f"{things / seconds[0]:.1f} {unit}/s ({things / seconds[1]:.1f} per core)"


def compare_memory(folder: Path, weights: str | None, many: int) -> list[tuple[str, str]]:
    """Peak memory of the whole command over a tenth of the images, and over all."""
    originals = sorted(draw_photos(folder / "originals", 20, SMALL_PX).iterdir())
    peaks = []
    for number in (many // 10, many):
        inside = folder / f"many{number}"
        inside.mkdir()
        for place, original in zip(range(number), itertools.cycle(originals)):
            os.link(original, inside / f"{place}.jpg")
        peaks.append(peak_mb(inside, weights))
    return [
        (f"peak memory, {many // 10:,} images", f"{peaks[0]:.0f} MB"),
        (f"peak memory, {many:,} images", f"{peaks[1]:.0f} MB"),
        ("growth", f"{100 * (peaks[1] / peaks[0] - 1):+.1f} %"),
    ]


def peak_mb(folder: Path, weights: str | None) -> float:
    """Run `clipcount batch` on a folder in a process of its own; its largest resident size."""
    command = [sys.executable, "-m", "clipcount_cli", "batch", str(folder), "--prompt", PROMPT]
    command += ["--csv", str(folder.with_suffix(".csv")), "--weights", str(weights), "-q"]
    with subprocess.Popen(command) as child:
        _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, f"batch ended with status {status}"
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 1e6
