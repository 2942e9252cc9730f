"""What Python users import: `load_counter` turns a weights name into a `Counter` ready to count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from clipcount_cli.counting import counter as core
from clipcount_cli.counting.counter import CountResult
from clipcount_cli.counting.images import as_pixels
from clipcount_cli.devices import dtype_of, pick_device, pick_precision
from clipcount_cli.weights import checkpoint
from clipcount_cli.weights.cache import ResolvedWeights, resolve

__all__ = ["CountResult", "Counter", "load_counter"]

ImageLike: TypeAlias = str | Path | Image.Image | NDArray[np.uint8]


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
    model = checkpoint.load(chosen.path, place, dtype_of(precision))[0]
    return Counter(model, chosen.name, checkpoint.digest(chosen.path), precision)
