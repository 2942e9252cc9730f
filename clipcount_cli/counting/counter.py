"""Pixels and prompts become counts: runs windows and model, a bounded batch at a time.

Image -> count, step 4 of 5: images.py -> windows.py -> model.py -> [counter.py] -> heatmap.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from clipcount_cli.config import DENSITY_SCALE, WindowConfig
from clipcount_cli.counting.compact import CompactClipCount
from clipcount_cli.counting.images import ImageLike, as_pixels
from clipcount_cli.counting.model import ClipCount, PatchFeatures, resize, similarity
from clipcount_cli.counting.prompts import ENDS, prompt_length, tokenize, unread_part
from clipcount_cli.counting.windows import (
    Density,
    DensityMosaic,
    Pixels,
    cut_windows,
    join_densities,
    resize_shorter_side,
    window_origins,
)
from clipcount_cli.devices import free_memory, is_out_of_memory, upload
from clipcount_cli.errors import DeviceError, UsageError

FAMILIAR = 0.62  # similarity to a known noun; below it, a prompt is a word of another kind
WINDOWS_AT_ONCE = 8  # bounds the memory of a panorama
TEXTS_AT_ONCE = 16  # prompts per call of the text tower, except on a CPU
MAX_TEXTS = 4096  # embeddings that are kept: 8 MB


@dataclass(frozen=True)
class CountResult:
    """How many of `prompt` a photograph shows, and where."""

    prompt: str
    count: float
    density: Density  # (h, w) objects a pixel at the 384-px scale; its sum is `count`

    @classmethod
    def of(cls, prompt: str, network_density: Density) -> CountResult:
        """Scale the network's density (0 to 1) to objects a pixel."""
        density = network_density / np.float32(DENSITY_SCALE)
        return cls(prompt, float(density.sum(dtype=np.float64)), density)


class Counter:
    """A loaded network that counts: the core behind `clipcount count` and `load_counter`."""

    windows = WindowConfig()

    def __init__(self, model: ClipCount, name: str, sha256: str, precision: str) -> None:
        self.model = model.eval()
        self.name = name
        self.sha256 = sha256
        self.precision = precision
        self.device = model.patch_proj.weight.device
        self._texts: dict[str, Tensor] = {}

    @property
    def label(self) -> str:
        """What a row of results says about its weights: name and the digest's first digits."""
        return f"{self.name}@{self.sha256[:8]}"

    def count(
        self, image: ImageLike, prompts: str | Sequence[str], tiles: int = 1
    ) -> list[CountResult]:
        """Count each of `prompts` in one image, in the order given.

        image: a path, a PIL image, or an (H, W, 3) uint8 RGB array; tiles: the shorter side is
        resized to this many times 384 px, for small objects. Raises ImageReadError if the image
        cannot be read, UsageError for an empty prompt or less than one tile.
        """
        asked = [prompts] if isinstance(prompts, str) else list(prompts)
        if not all(prompt.strip() for prompt in asked):
            raise UsageError("a prompt is empty", hint='name what to count, like "red apples"')
        if tiles < 1:
            raise UsageError(f"there are no {tiles} tiles", hint="1 sees the image as it is")
        if not asked:
            return []
        pixels = resize_shorter_side(as_pixels(image), tiles * self.windows.side_px)
        height, width = pixels.shape[:2]
        text = self.encode_prompts(asked)  # (P, C)
        maps = [DensityMosaic(height, width, self.windows) for _ in asked]
        origins = window_origins(height, width, self.windows)
        for start in range(0, len(origins), WINDOWS_AT_ONCE):
            batch = cut_windows(pixels, origins[start : start + WINDOWS_AT_ONCE], self.windows)
            for found, mosaic in zip(self._ask(batch, text), maps, strict=True):
                for density in found:
                    mosaic.add(density)
        return [
            CountResult.of(prompt, mosaic.whole) for prompt, mosaic in zip(asked, maps, strict=True)
        ]

    def _ask(self, windows: Pixels, text: Tensor) -> list[NDArray[np.float32]]:
        """Windows (B, 384, 384, 3) -> densities (B, 384, 384) for each text; by halves if need be.

        Raises DeviceError where a GPU's memory does not hold a single window.
        """
        try:
            features = self.encode_windows(windows)
            repeated = (embedding.expand(len(windows), -1) for embedding in text)
            return [self.densities(features, rows).numpy(force=True) for rows in repeated]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(windows) == 1:
                raise does_not_fit(self.device) from error
        free_memory(self.device)  # out here the failed call's tensors are free
        halves = (self._ask(half, text) for half in np.array_split(windows, 2))
        return [np.concatenate(both) for both in zip(*halves, strict=True)]

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings (P, C), each distinct prompt computed once and kept for a while."""
        texts = {prompt: self._texts.get(prompt) for prompt in prompts}
        missing = [prompt for prompt, text in texts.items() if text is None]
        fresh = dict(zip(missing, self._encode_texts(missing), strict=True))
        if len(self._texts) > MAX_TEXTS:
            self._texts = {}  # starting over is simpler than tracking use, and encoding is cheap
        self._texts.update(fresh)
        texts |= fresh
        return torch.stack([cast(Tensor, texts[prompt]) for prompt in prompts])

    def _encode_texts(self, prompts: list[str]) -> Iterator[Tensor]:
        """Encode in calls of one shape, so that an embedding never depends on its company.

        On a CPU that is one prompt and its own length; elsewhere a call costs the same for many.
        """
        config, together = self.model.config, 1 if self.device.type == "cpu" else TEXTS_AT_ONCE
        for start in range(0, len(prompts), together):
            part = prompts[start : start + together]
            tokens = tokenize([*part, *part[-1:] * (together - len(part))], config)
            if together > 1:
                tokens = F.pad(tokens, (0, prompt_length(config) + ENDS - tokens.shape[1]))
            yield from self.model.encode_text(upload(tokens, self.device))[: len(part)]

    @torch.inference_mode()
    def encode_windows(self, windows: NDArray[np.uint8] | Tensor) -> PatchFeatures:
        """Windows (B, 384, 384, 3) uint8 -> the features that all prompts share."""
        pixels = torch.as_tensor(windows)
        pixels = upload(pixels, self.device).permute(0, 3, 1, 2)
        return self.model.encode_image(pixels.float() / 255)

    @torch.inference_mode()
    def densities(self, features: PatchFeatures, text: Tensor) -> Tensor:
        """Features and text (B, C), row by row -> network densities (B, 384, 384) float32."""
        return self.model.decode(features, text)

    @torch.inference_mode()
    def similarity(self, image: Pixels, prompt: str) -> NDArray[np.float32]:
        """Patch-text similarity of the contrastive head over the photograph, (h, w), -1 to 1."""
        pixels = resize_shorter_side(image, self.windows.side_px)
        height, width = pixels.shape[:2]
        text = self.encode_prompts([prompt])
        maps: list[Density] = []
        for origin in window_origins(height, width, self.windows):
            features = self.encode_windows(cut_windows(pixels, [origin], self.windows))
            grid = similarity(features, text).float()[:, None]
            maps.append(resize(grid, self.windows.side_px)[0, 0].numpy(force=True))
        return join_densities(maps, height, width, self.windows)

    def unread_part(self, prompt: str) -> str | None:
        """What these weights cannot see of `prompt`, in a sentence, or None."""
        hidden = unread_part(prompt, self.model.config)
        if hidden or not isinstance(self.model, CompactClipCount):
            return hidden
        if self.model.familiarity(self.encode_prompts([prompt])[0]) >= FAMILIAR:
            return None
        return f'"{prompt}" is unlike every noun that these weights know: the count may be wrong'


def does_not_fit(device: torch.device) -> DeviceError:
    """The error for a device on which not even one window can be counted."""
    hint = "close other programs" if device.type == "cpu" else "free it, or use --device cpu"
    return DeviceError(f"the memory of {device} does not hold one window", hint)
