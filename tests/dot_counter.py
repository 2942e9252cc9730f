"""A counter that sees every dark dot of at least a certain size, and nothing else: no weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import center_of_mass, label

from clipcount_cli.config import DENSITY_SCALE
from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.prompts import bpe_ids

REACH_PX = 12  # of one object's density
DARK = 110
_DISTANCE = np.hypot(*np.mgrid[-REACH_PX : REACH_PX + 1, -REACH_PX : REACH_PX + 1])
_BELL = np.exp(-((_DISTANCE / 4) ** 2) / 2)
SPOT = (DENSITY_SCALE * _BELL / _BELL.sum()).astype(np.float32)


class DotCounter(Counter):
    """Counts dots of at least `smallest_px`; `shares` says which part of them a prompt gets.

    describing: words that are left out of a prompt to find its noun.
    """

    def __init__(
        self,
        smallest_px: float = 10.0,
        taught: tuple[str, ...] = ("dots", "objects"),
        describing: str = "",
        **shares: float,
    ) -> None:
        self.smallest_px = smallest_px
        self.shares = {"dots": 1.0, "objects": 1.0, **shares}
        self.name, self.sha256, self.precision = "dotty", "0" * 64, "fp32"
        self.device = torch.device("cpu")
        config = SimpleNamespace(taught=taught, bank=(), readout="eot", template="{}")
        config.context_tokens = 0
        config.attribute_ids = tuple(bpe_ids(describing))
        config.clip = SimpleNamespace(compact=False, vocabulary=(), context_length=77)
        self.model: Any = SimpleNamespace(config=config)
        self.windows_seen = 0

    def encode_prompts(self, prompts: Any) -> torch.Tensor:
        return torch.tensor([[self.shares.get(prompt, 0.0)] for prompt in prompts])

    def encode_windows(self, windows: Any) -> Any:
        self.windows_seen += len(windows)
        return np.stack([self._spots(window) for window in np.asarray(windows)])

    def densities(self, features: Any, text: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(features) * text[:, :, None]

    def _spots(self, window: np.ndarray) -> np.ndarray:
        dark = window.mean(axis=2) < DARK
        dark &= window.any(axis=2)  # black lies beyond the image
        labels, _ = label(dark)
        areas = np.bincount(labels.ravel())[1:]
        large = np.flatnonzero(areas >= np.pi / 4 * self.smallest_px**2) + 1
        spots = np.zeros([side + 2 * REACH_PX for side in dark.shape], np.float32)
        for y, x in center_of_mass(dark, labels, large.tolist()):
            spots[int(y) : int(y) + len(SPOT), int(x) : int(x) + len(SPOT)] += SPOT
        return spots[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX]


def draw_dots(
    width: int, height: int, pitch_px: int, size_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """Dark dots on a light ground -> pixels (H, W, 3) uint8, and their centres (K, 2) as (x, y)."""
    image = Image.new("RGB", (width, height), (205, 200, 190))
    drawing = ImageDraw.Draw(image)
    centres = [
        (x, y)
        for y in range(pitch_px // 2, height, pitch_px)
        for x in range(pitch_px // 2, width, pitch_px)
    ]
    for x, y in centres:
        r = size_px / 2
        drawing.ellipse((x - r, y - r, x + r, y + r), fill=(60, 50, 40))
    return np.asarray(image), np.array(centres, dtype=np.float32)
