"""What Python users import: `load_counter` turns a weights name into a `Counter` ready to count."""

from __future__ import annotations

from pathlib import Path

import torch

from clipcount_cli.counting.counter import Counter, CountResult
from clipcount_cli.devices import dtype_of, pick_device, pick_precision, require_full_fp32
from clipcount_cli.weights import checkpoint
from clipcount_cli.weights.cache import ResolvedWeights, resolve, with_repair_hint

__all__ = ["CountResult", "Counter", "load_counter"]


def load_counter(
    weights: str | Path | ResolvedWeights | None = None,
    device: str | torch.device = "auto",
    precision: str = "auto",
) -> Counter:
    """Load `weights` (a name or file; None: clip-count if it is installed, else tiny).

    device: auto, cpu, cuda, cuda:N or mps; precision: auto, fp32, bf16 or fp16. Raises WeightsError
    if the weights are missing or damaged, DeviceError if this machine lacks the device or
    precision, UsageError if no machine has it.
    """
    chosen = weights if isinstance(weights, ResolvedWeights) else resolve(weights)
    place = pick_device(str(device))
    precision = pick_precision(precision, place)
    require_full_fp32(precision)
    with with_repair_hint(chosen.path):
        model, metadata = checkpoint.load(chosen.path, place, dtype_of(precision))
    return Counter(model, chosen.name, metadata.sha256, precision)
