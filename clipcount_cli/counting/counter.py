"""Pixels and prompts become counts: runs windows and model, a bounded batch at a time.

Image -> count, step 4 of 5: images.py -> windows.py -> model.py -> [counter.py] -> heatmap.py
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from clipcount_cli.config import DENSITY_SCALE, EOT, GENERIC_PROMPT, WindowConfig
from clipcount_cli.counting.colours import without_attributes
from clipcount_cli.counting.compact import CompactClipCount
from clipcount_cli.counting.image_like import ImageLike, decode
from clipcount_cli.counting.images import DecodedImage
from clipcount_cli.counting.model import ClipCount, PatchFeatures, resize, similarity
from clipcount_cli.counting.notices import Notice
from clipcount_cli.counting.plausibility import (
    chosen_notice,
    generic_prompt,
    more_tiles,
    name_notice,
    size_notice,
)
from clipcount_cli.counting.prompts import (
    ENDS,
    bpe_ids,
    prompt_length,
    refuse_empty,
    text_of,
    tokenize,
    unread_part,
)
from clipcount_cli.counting.results import CountResult, Counts, kept_view
from clipcount_cli.counting.scale import Comparison, choose_tiles, compare_sizes, most_tiles
from clipcount_cli.counting.stacks import Page, Selection
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
from clipcount_cli.errors import ClipCountWarning, DeviceError, UsageError, in_python

__all__ = ["CountResult", "Counter", "Counts", "Tiles", "checked", "does_not_fit"]

Tiles: TypeAlias = int | Literal["auto"]
FAMILIAR = 0.6  # similarity to a known noun; below it, a prompt is a word of another kind
WINDOWS_AT_ONCE = 8  # bounds the memory of a panorama
TEXTS_AT_ONCE = 16  # prompts per call of the text tower, except on a CPU
MAX_TEXTS = 4096  # embeddings that are kept: 8 MB


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
        """How results name the weights: their name and the first digits of the digest."""
        return f"{self.name}@{self.sha256[:8]}"

    def count(
        self,
        image: ImageLike,
        prompts: str | Sequence[str],
        tiles: Tiles = 1,
        page: Page | None = None,
        channel: int | None = None,
    ) -> Counts:
        """Count each of `prompts` in one image, in the order given.

        image: a path, the bytes of an image file, a binary file, a PIL image, an (H, W, 3) uint8
        RGB array, or a (3, H, W) or (H, W, 3) tensor; tiles: the shorter side is resized to this
        many times 384 px, for small objects, or "auto"; page, channel: which ones of an image file
        that holds several, from 1, or page="max", the brightest sample of all pages. What may make
        a count wrong is a ClipCountWarning. Raises ImageReadError if the image cannot be read,
        UsageError for an empty prompt or less than one tile, CountError if the network does not
        return a number.
        """
        decoded = decode(image, Selection(page, channel))
        counts = self.count_image(decoded.pixels, prompts, tiles)
        unread = self.unread_parts([result.prompt for result in counts])
        for remark in (*unread, *decoded.notices, *counts.notices):
            warnings.warn(in_python(str(remark)), ClipCountWarning, stacklevel=2)
        return counts

    def count_image(self, pixels: Pixels, prompts: str | Sequence[str], tiles: Tiles = 1) -> Counts:
        """Count in (H, W, 3) uint8 RGB, and note what may make a count wrong."""
        asked = checked(prompts, tiles)
        chosen, size_notice = self.settle_tiles(DecodedImage(pixels), tiles, asked)
        results = self.count_pixels(pixels, [*asked, *self.references(asked)], chosen)
        count_of = {result.prompt: result.count for result in results}
        shorter_px = min(pixels.shape[:2])
        named = (self.name_notice(prompt, count_of, shorter_px, chosen) for prompt in asked)
        notices = filter(None, (size_notice, *named))
        return Counts(results[: len(asked)], chosen, dict.fromkeys(notices))

    def count_pixels(
        self, pixels: Pixels, prompts: str | Sequence[str], tiles: int = 1
    ) -> list[CountResult]:
        """Count in (H, W, 3) uint8 RGB, and nothing else."""
        asked = checked(prompts, tiles)
        seen = resize_shorter_side(pixels, tiles * self.windows.side_px)
        densities = self.map_densities(seen, asked) if asked else []
        view = kept_view(pixels)
        return [
            CountResult.of(prompt, density, view)
            for prompt, density in zip(asked, densities, strict=True)
        ]

    def map_densities(self, pixels: Pixels, prompts: Sequence[str]) -> list[Density]:
        """The network's density (h, w), 0 to 1, for each prompt in pixels that are not resized."""
        height, width = pixels.shape[:2]
        text = self.encode_prompts(prompts)  # (P, C)
        maps = [DensityMosaic(height, width, self.windows) for _ in prompts]
        origins = window_origins(height, width, self.windows)
        for start in range(0, len(origins), WINDOWS_AT_ONCE):
            batch = cut_windows(pixels, origins[start : start + WINDOWS_AT_ONCE], self.windows)
            for found, mosaic in zip(self._see_windows(batch, text), maps, strict=True):
                for density in found:
                    mosaic.add(density)
        return [mosaic.whole for mosaic in maps]

    def settle_tiles(
        self, photo: DecodedImage, tiles: Tiles, prompts: Sequence[str]
    ) -> tuple[int, Notice | None]:
        """The number that `tiles` stands for in an image, and what to know about it."""
        if tiles == "auto":
            chosen = self.choose_tiles(photo.pixels, prompts)
            return chosen, chosen_notice(chosen)
        return tiles, size_notice(min(photo.size), tiles, self.windows.side_px)

    def choose_tiles(self, pixels: Pixels, prompts: Sequence[str]) -> int:
        """What `--tiles auto` stands for in this image, (H, W, 3), and for these prompts."""
        limit = most_tiles(pixels, self.windows.side_px)
        return choose_tiles(self.compare_sizes(pixels, prompts), limit)

    def compare_sizes(self, pixels: Pixels, prompts: Sequence[str]) -> Iterator[Comparison]:
        """Samples of an image (H, W, 3) seen at one size and at twice that size: see scale.py."""
        generic = generic_prompt(self.model.config)
        text = self.encode_prompts([*prompts, *([] if generic is None else [generic])])

        def see(windows: Pixels) -> list[NDArray[np.float32]]:
            starts = range(0, len(windows), WINDOWS_AT_ONCE)
            parts = [self._see_windows(windows[i : i + WINDOWS_AT_ONCE], text) for i in starts]
            joined = (np.concatenate(part) for part in zip(*parts, strict=True))
            seen = [(density / DENSITY_SCALE).astype(np.float32) for density in joined]
            named = functools.reduce(np.maximum, seen[: len(prompts)])
            return [named, *seen[len(prompts) :]]

        return compare_sizes(pixels, see, self.windows)

    def _see_windows(self, windows: Pixels, text: Tensor) -> list[NDArray[np.float32]]:
        """Windows (B, 384, 384, 3) -> densities (B, 384, 384) for each text; by halves if need be.

        Raises DeviceError if a GPU's memory does not hold a single window.
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
        halves = (self._see_windows(half, text) for half in np.array_split(windows, 2))
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
        """Encode in calls of one shape, so that an embedding does not depend on other prompts.

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
        """Patch-text similarity of the contrastive head over the image, (h, w), -1 to 1."""
        pixels = resize_shorter_side(image, self.windows.side_px)
        height, width = pixels.shape[:2]
        text = self.encode_prompts([prompt])
        maps: list[Density] = []
        for origin in window_origins(height, width, self.windows):
            features = self.encode_windows(cut_windows(pixels, [origin], self.windows))
            grid = similarity(features, self.model.contrast_text(text)).float()[:, None]
            maps.append(resize(grid, self.windows.side_px)[0, 0].numpy(force=True))
        return join_densities(maps, height, width, self.windows)

    def unread_part(self, prompt: str) -> str | None:
        """What these weights cannot see of `prompt`, in a sentence, or None."""
        hidden = unread_part(prompt, self.model.config)
        if hidden or not isinstance(self.model, CompactClipCount):
            return hidden
        if prompt.lower() in self.model.config.taught:
            return None
        text, generic = self.model.contrast_text(self.encode_prompts([prompt, GENERIC_PROMPT]))
        if max(self.model.familiarity(text), float(text @ generic)) >= FAMILIAR:
            return None
        return f'"{prompt}" is unlike every noun that these weights know: the count may be wrong'

    def unread_parts(self, prompts: Sequence[str]) -> list[str]:
        """What these weights cannot read of any of `prompts`, one sentence per prompt."""
        return [*filter(None, map(self.unread_part, dict.fromkeys(prompts)))]

    def size_notice(self, pixels: Pixels, tiles: int) -> Notice | None:
        """Note if an image (H, W, 3) seen with `tiles` was shrunk so far that objects vanish."""
        return size_notice(min(pixels.shape[:2]), tiles, self.windows.side_px)

    def references(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """The prompts to count beside `prompts`, to judge their counts: see `name_notice`."""
        generic = generic_prompt(self.model.config)
        if generic is None or not prompts:
            return ()
        wanted = dict.fromkeys((generic, *map(self.undescribed, prompts)))
        return tuple(prompt for prompt in wanted if prompt not in prompts)

    def undescribed(self, prompt: str) -> str:
        """A prompt without the words that describe its noun, if these weights know such words."""
        attribute_ids = self.model.config.attribute_ids
        return _undescribed(prompt, attribute_ids) if attribute_ids else prompt

    def name_notice(
        self, prompt: str, count_of: Mapping[str, float], shorter_px: int, tiles: int
    ) -> Notice | None:
        """Note if few of the objects that the generic prompt finds are counted as `prompt`.

        None if enough are counted as its noun alone: candies may be there, but no "white candies".
        count_of: the counts of `prompt` and of its `references`; shorter_px: the image's shorter
        side, which is seen with `tiles`.
        """
        generic = generic_prompt(self.model.config)
        if generic is None:
            return None
        named = max(count_of[prompt], count_of[self.undescribed(prompt)])
        larger = more_tiles(shorter_px, tiles, self.windows.side_px)
        return name_notice(self.name, prompt, named, count_of[generic], larger)


@functools.lru_cache(MAX_TEXTS)
def _undescribed(prompt: str, attribute_ids: tuple[int, ...]) -> str:
    ids = [*bpe_ids(prompt), EOT]
    noun = without_attributes(torch.tensor([ids]), torch.tensor(attribute_ids))[0].tolist()
    return prompt if noun == ids else text_of(noun[: noun.index(EOT)])


def does_not_fit(device: torch.device) -> DeviceError:
    """The error for a device on which not even one window can be counted."""
    hint = "close other programs" if device.type == "cpu" else "free it, or use --device cpu"
    return DeviceError(f"the memory of {device} does not hold one window", hint)


def checked(prompts: str | Sequence[str], tiles: Tiles) -> list[str]:
    """The prompts as a list; raises UsageError for an empty one, or no number of tiles."""
    if not isinstance(prompts, Iterable):
        raise UsageError(
            f"{prompts!r} is not a prompt", hint='name what to count, like "red apples"'
        )
    asked = [prompts] if isinstance(prompts, str) else list(prompts)
    if wrong := [prompt for prompt in asked if not isinstance(prompt, str)]:
        raise UsageError(
            f"{wrong[0]!r} is not a prompt", hint='name what to count, like "red apples"'
        )
    refuse_empty(asked, hint='name what to count, like "red apples"')
    if tiles != "auto" and not (isinstance(tiles, int) and tiles >= 1):
        raise UsageError(
            f"cannot count with {tiles!r} tiles", hint='give a number from 1, or "auto"'
        )
    return asked
