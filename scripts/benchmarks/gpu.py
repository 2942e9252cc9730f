"""The measurements of scripts/gpu_check.py: the machine, the network, `batch` and training.

Each function takes a device and sizes, and returns rows of what it found beside the goal.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.batch import draw_photos
from benchmarks.machine import finish, measure_peak, seconds
from benchmarks.network import flops_of
from benchmarks.stand_ins import random_model
from benchmarks.train import (
    EPOCHS,
    TRAIN_IMAGES,
    VALIDATE_EVERY,
    make_trainer,
    measure_steps,
    measure_validation,
)
from clipcount_cli.batch.pipeline import Pipeline
from clipcount_cli.batch.plan import Job
from clipcount_cli.config import ClipConfig, ModelConfig, Recipe
from clipcount_cli.counting.counter import Counter
from clipcount_cli.devices import dtype_of, require_full_fp32
from clipcount_cli.errors import quantity

PROMPT = "red apples"
PEAK_SHARE_GOAL, IMAGES_PER_S_GOAL, MINUTES_GOAL = 0.45, 1500, 10


@dataclass(frozen=True)
class Row:
    """One thing that was measured."""

    what: str
    measured: str
    goal: str = ""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    precisions: tuple[str, ...] = ("bf16", "fp16")
    windows: tuple[int, ...] = (8, 64, 256)
    images: int = 3000
    image_px: tuple[int, int] = (640, 480)
    workers: int = 16
    batch: int = 32
    steps: int = 30
    validated: int = 256
    repeats: int = 10
    copied_bytes: int = 1 << 30


FULL = Sizes()
_SMALL_CLIP = ClipConfig(
    embed_dim=16, image_size_px=64, image_layers=1, image_width=64, text_width=16, text_heads=2,
    text_layers=1,
)  # fmt: skip
TINY = Sizes(
    ModelConfig(clip=_SMALL_CLIP, width=16, heads=2, visual_prompts=2, prompted_layers=1,
                decoder_widths=(8, 8)),
    ("fp32",), (1, 2), 4, (96, 64), 2, 2, 1, 1, 1, 1 << 20,
)  # fmt: skip


def measure_machine(device: torch.device, sizes: Sizes) -> list[Row]:
    """Matrix products and copies: what everything else is held against."""
    rows = [
        Row(
            f"matrix products, {name}", f"{measure_peak(device, dtype_of(name)) / 1e12:.1f} TFLOP/s"
        )
        for name in ("fp32", *(n for n in sizes.precisions if n != "fp32"))
    ]
    host = torch.empty(sizes.copied_bytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
    there = torch.empty_like(host, device=device)
    copies: dict[str, Callable[[], object]] = {
        "to the device": lambda: there.copy_(host, non_blocking=True),
        "to the host": lambda: host.copy_(there, non_blocking=True),
        "on the device": lambda: there.clone(),
    }
    for name, copy in copies.items():
        best = min(seconds(copy, device) for _ in range(1 + sizes.repeats))
        rows.append(Row(f"copy {name}", f"{sizes.copied_bytes / best / 1e9:.1f} GB/s"))
    return rows


def measure_network(device: torch.device, sizes: Sizes) -> list[Row]:
    """Windows per second and share of the peak, for each precision and batch."""
    rows = []
    for precision in sizes.precisions:
        counter = make_counter(device, sizes, precision)
        peak = measure_peak(device, dtype_of(precision))
        for number in sizes.windows:
            windows = make_windows(number, device)
            took = fastest(lambda c=counter, w=windows: count_windows(c, w), device, sizes)
            share = flops_of(counter, make_windows(1, torch.device("cpu")).numpy(), [PROMPT])
            share *= number / took / peak
            rows.append(
                Row(
                    f"network, {precision}, {quantity(number, 'window')}",
                    f"{number / took:.0f} windows/s, {share:.0%} of the peak",
                    f"{PEAK_SHARE_GOAL:.0%}" if number == max(sizes.windows) else "",
                )
            )
    return rows


def measure_compiled(device: torch.device, sizes: Sizes) -> list[Row]:
    """The same through CUDA graphs and `torch.compile`, to see what would be won."""
    number = sorted(sizes.windows)[len(sizes.windows) // 2]
    counter = make_counter(device, sizes, sizes.precisions[0])
    windows = make_windows(number, device)
    eager = fastest(lambda: count_windows(counter, windows), device, sizes)
    rows = [Row(f"eager, {number} windows", f"{number / eager:.0f} windows/s")]
    if device.type == "cuda":
        replay = captured(lambda: count_windows(counter, windows))
        took = fastest(replay, device, sizes)
        rows.append(Row(f"CUDA graph, {number} windows", f"{number / took:.0f} windows/s"))
    backend = "inductor" if device.type == "cuda" else "eager"
    compiled = torch.compile(lambda w: count_windows(counter, w), backend=backend)
    took = fastest(lambda: compiled(windows), device, sizes)
    rows.append(Row(f"torch.compile, {number} windows", f"{number / took:.0f} windows/s"))
    return rows


def measure_batch(device: torch.device, sizes: Sizes) -> list[Row]:
    """Images per second from JPEG files to counts."""
    counter = make_counter(device, sizes, sizes.precisions[0])
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_photos(Path(folder) / "images", min(sizes.images, 200), sizes.image_px)
        files = sorted(drawn.iterdir())
        paths = [files[n % len(files)] for n in range(sizes.images)]
        jobs = [Job(f"{n}", str(path), (PROMPT,)) for n, path in enumerate(paths)]
        rows = []
        for what, drawing, processes in (
            ("batch, counts alone", False, True),
            ("batch, read by threads", False, False),
            ("batch, densities copied back", True, False),
        ):
            pipeline = Pipeline(
                counter,
                64 if device.type == "cuda" else 2,
                sizes.workers,
                on_result=(lambda *_: None) if drawing else None,
                reads_in_processes=processes,
            )
            list(pipeline.run(jobs[: len(files)], lambda: False))  # warm up
            started = time.perf_counter()
            faults = [o.fault for o in pipeline.run(jobs, lambda: False) if o.fault]
            took = time.perf_counter() - started
            assert not faults, faults[0]
            goal = f"{IMAGES_PER_S_GOAL} images/s" if processes else ""
            rows.append(Row(what, f"{len(jobs) / took:.0f} images/s", goal))
    return rows


def measure_training(device: torch.device, sizes: Sizes) -> list[Row]:
    """Images per second of recipe `paper`, and what its epochs on FSC-147 would take."""
    rows = []
    for precision in sizes.precisions:
        require_full_fp32(precision)
        trainer, sampler = make_trainer(Recipe.paper, sizes.batch, device, precision, sizes.model)
        step_s, waited_s = measure_steps(trainer, sampler, sizes.steps)
        validation_s = measure_validation(trainer, precision, sizes.validated)
        epochs_s = EPOCHS * TRAIN_IMAGES / sizes.batch * step_s
        total_s = epochs_s + EPOCHS // VALIDATE_EVERY * validation_s
        rows += [
            Row(f"training, {precision}", f"{sizes.batch / step_s:.0f} images/s"),
            Row(f"training, {precision}: waiting for data", f"{waited_s / step_s:.0%}"),
            Row(f"training, {precision}: a validation", f"{validation_s:.0f} s"),
            Row(
                f"training, {precision}: {EPOCHS} epochs of FSC-147",
                f"{total_s / 60:.1f} min",
                f"{MINUTES_GOAL} min",
            ),
        ]
    return rows


def make_counter(device: torch.device, sizes: Sizes, precision: str) -> Counter:
    """A counter with random weights, filled in place."""
    require_full_fp32(precision)
    model = random_model(sizes.model).to(device, dtype_of(precision))
    return Counter(model.requires_grad_(False), "random", "0" * 64, precision)


def make_windows(number: int, device: torch.device) -> Tensor:
    """Noise (B, 384, 384, 3) uint8."""
    side = Counter.windows.side_px
    noise = np.random.default_rng(0).integers(0, 256, (number, side, side, 3)).astype(np.uint8)
    return torch.from_numpy(noise).to(device)


@torch.inference_mode()
def count_windows(counter: Counter, windows: Tensor) -> Tensor:
    """What the network does for a batch with one prompt, whose text is known."""
    text = counter.encode_prompts([PROMPT]).expand(len(windows), -1)
    return counter.densities(counter.encode_windows(windows), text).sum(dim=(1, 2))


def captured(call: Callable[[], object]) -> Callable[[], None]:
    """The launches of `call` as one CUDA graph."""
    side_stream = torch.cuda.Stream()
    with torch.cuda.stream(side_stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side_stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def fastest(call: Callable[[], object], device: torch.device, sizes: Sizes) -> float:
    """Seconds of the fastest of several calls, after two that warm up."""
    for _ in range(2):
        call()
    finish(device)
    return min(seconds(call, device) for _ in range(sizes.repeats))
