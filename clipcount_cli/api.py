"""What Python users import: `load_counter` turns a weights name into a `Counter` ready to count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from clipcount_cli import distributed
from clipcount_cli.counting import counter as core
from clipcount_cli.counting.counter import CountResult
from clipcount_cli.counting.images import as_pixels
from clipcount_cli.devices import check_device
from clipcount_cli.errors import DeviceError
from clipcount_cli.weights import checkpoint
from clipcount_cli.weights.cache import ResolvedWeights, resolve

__all__ = ["CountResult", "Counter", "load_counter"]

ImageLike: TypeAlias = str | Path | Image.Image | NDArray[np.uint8]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Counter(core.Counter):
    """A loaded network that counts in a path, a PIL image or an (H, W, 3) uint8 array."""

    def count(
        self, image: ImageLike, prompts: str | Sequence[str], tiles: int = 1
    ) -> list[CountResult]:
        """Count each of `prompts` in one photograph, in the order asked.

        `tiles`: the shorter side is seen at so many times 384 px, for small objects. Raises
        ImageReadError where the image cannot be read.
        """
        return super().count(as_pixels(image), prompts, tiles)


def load_counter(
    weights: str | Path | ResolvedWeights | None = None,
    device: str | torch.device = "auto",
    precision: str = "auto",
) -> Counter:
    """Load `weights` (a name, a file; None: clip-count where installed, else tiny) to count with.

    device: auto, cpu, cuda, cuda:N or mps; precision: auto, fp32, bf16 or fp16. Raises WeightsError
    where the weights are missing or damaged, DeviceError where the machine lacks what is asked,
    UsageError where no machine has it.
    """
    chosen = weights if isinstance(weights, ResolvedWeights) else resolve(weights)
    place = pick_device(str(device))
    precision = pick_precision(precision, place)
    if place.type == "cuda" and precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False  # torch's default rounds convolutions to 10 bits
    model = checkpoint.load(chosen.path, place, DTYPES[precision])[0]
    return Counter(model, chosen.name, checkpoint.digest(chosen.path), precision)


def pick_device(device: str) -> torch.device:
    """The device that a name stands for.

    Under torchrun `auto` and `cuda` are each process's own GPU. Raises DeviceError where this
    machine lacks it, UsageError where no machine has it.
    """
    if device in ("auto", "cuda") and torch.cuda.is_available():
        own = distributed.local_rank() % torch.cuda.device_count()
        return torch.device("cuda", own) if distributed.world_size() > 1 else torch.device("cuda")
    if device == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    place = torch.device(check_device(device))
    available = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if (place.index or 0) >= available.get(place.type, 0):
        raise DeviceError(f"this machine has no {device}", hint="use --device cpu")
    return place


def pick_precision(precision: str, device: torch.device) -> str:
    """Settle `auto`, and refuse what would run a hundred times slower than fp32."""
    if precision == "auto":
        return "bf16" if _multiplies_bf16(device) else "fp32"
    if precision not in DTYPES:
        raise DeviceError(f'there is no precision "{precision}"', hint="use fp32, bf16 or fp16")
    if precision == "fp16" and device.type == "cpu":
        raise DeviceError("a CPU does not multiply in fp16", hint="use --precision bf16 or fp32")
    return precision


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
