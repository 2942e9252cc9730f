"""What every measurement stands on: a clock that waits for the device, and the machine's peak."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

MATRIX_SIDE = 4096
PEAK_REPEATS = 5


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


def measure_peak(
    device: torch.device,
    dtype: torch.dtype,
    side: int = MATRIX_SIDE,
    repeats: int = PEAK_REPEATS,
) -> float:
    """Floating-point operations a second of a large matrix product: the best of several."""
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    best = min(seconds(lambda: matrix @ matrix, device) for _ in range(repeats))
    return float(2 * side**3 / best)
