"""What Python users import: `load_counter` turns a weights name into a `Counter` ready to count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from clipcount_cli.counting import counter as core
from clipcount_cli.counting.counter import CountResult, Counts, Tiles
from clipcount_cli.counting.image_like import ImageLike
from clipcount_cli.counting.packed import packed
from clipcount_cli.counting.stacks import Page, Selection
from clipcount_cli.devices import dtype_of, pick_device, pick_precision, require_full_fp32
from clipcount_cli.weights import checkpoint
from clipcount_cli.weights.cache import ResolvedWeights, resolve, with_repair_hint

__all__ = ["CountResult", "Counter", "Counts", "load_counter"]


class Counter(core.Counter):
    """A loaded network that counts in one image, or in many at once."""

    def count_many(
        self,
        images: Iterable[ImageLike],
        prompts: str | Sequence[str],
        tiles: Tiles = 1,
        workers: int | None = None,
        page: Page | None = None,
        channel: int | None = None,
    ) -> Iterator[Counts]:
        """Count `prompts` in each of `images`, and yield what `count` returns, in their order.

        Images are taken when they are needed and read by `workers` threads (default: one per
        core) while the network counts others, as in `clipcount batch`. An image that cannot be
        counted yields empty `Counts` whose `error` is the reason, and a ClipCountWarning. Raises
        UsageError for an empty prompt, less than one tile, or one image instead of several.
        """
        from clipcount_cli.batch.many import count_many

        return count_many(self, images, prompts, tiles, workers, Selection(page, channel))


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
    return Counter(packed(model), chosen.name, metadata.sha256, precision)
