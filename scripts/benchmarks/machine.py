"""What every measurement stands on: a clock that waits for the device, and the machine's peak."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F

MATRIX_SIDES = {"cpu": (1024, 2048)}  # large enough to reach the peak, small enough for caches
MATRIX_SIDES_ELSEWHERE = (8192,)
PEAK_REPEATS = 10


def finish(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """How long `call` takes, until the device has finished it."""
    finish(device)
    started = time.perf_counter()
    call()
    finish(device)
    return time.perf_counter() - started


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product: the best of several."""
    sides = MATRIX_SIDES.get(device.type, MATRIX_SIDES_ELSEWHERE)
    return max(_product_flops(side, device, dtype) for side in sides)


def _product_flops(side: int, device: torch.device, dtype: torch.dtype) -> float:
    matrix = torch.randn(side, side, device=device).to(dtype)
    product = partial(F.linear, matrix, matrix)  # the faster of two ways to write it on a CPU
    best = min(seconds(product, device) for _ in range(PEAK_REPEATS))
    return float(2 * side**3 / best)
