"""Folders of drawn photographs, a small network, and `clipcount batch`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from small_models import SMALL, SMALL_CLIP, save_small, small_model
from typer.testing import CliRunner, Result

from clipcount_cli.cli import app
from clipcount_cli.counting.counter import Counter

QUICK = dataclasses.replace(
    SMALL,
    clip=dataclasses.replace(
        SMALL_CLIP, image_size_px=32, image_layers=1, vocabulary=tuple(range(320, 900))
    ),
    visual_prompts=0,
)


def small_counter() -> Counter:
    return Counter(small_model(QUICK), "small", "0" * 64, "fp32")


def save_weights(path: Path) -> Path:
    return save_small(path, QUICK)


def draw(path: Path, width: int = 96, height: int = 64, seed: int = 0) -> Path:
    """Save noise as a photograph: every seed has its own count."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    pixels = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    Image.fromarray(pixels).save(path)
    return path


def draw_folder(folder: Path, count: int = 5) -> Path:
    for number in range(1, count + 1):
        draw(folder / f"{number}.png", seed=number)
    return folder


def arguments(weights: Path, *words: object) -> list[str]:
    fixed = ("--weights", weights, "--device", "cpu", "--precision", "fp32")
    return [str(word) for word in ("batch", *words, *fixed)]


def batch(weights: Path, *words: object, **settings: object) -> Result:
    """Run `clipcount batch` in this process."""
    return CliRunner().invoke(app, arguments(weights, *words), **settings)


class Child:
    """A forked process: a real one to kill, without four seconds of imports."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def running(self) -> bool:
        if self.code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is None

    def kill(self, number: int) -> None:
        if self.running():
            os.kill(self.pid, number)
            self.wait()

    def wait(self) -> int:
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code


def fork_batch(
    weights: Path,
    *words: object,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], object] = lambda: None,
) -> Child:
    """Run `clipcount batch` in a forked process, after `before`."""
    pid = os.fork()
    if pid:
        return Child(pid)
    code = 99
    try:
        # A fork has none of the threads that its parent's network ran on, and would wait for them.
        torch.set_num_threads(1)
        os.environ.update(environment or {})
        before()
        code = batch(weights, *words).exit_code
    finally:
        os._exit(code)
