"""One photograph, from its file to counts and pictures: what `clipcount count` does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipcount_cli import console
from clipcount_cli.api import Counter
from clipcount_cli.counting.counter import CountResult
from clipcount_cli.counting.images import Photo, read_image, write_image
from clipcount_cli.errors import ImageReadError
from clipcount_cli.files import atomic_write


def read(image: str) -> Photo:
    """Read a file, or stdin where `image` is `-`; say how many pages were left unread."""
    if image != "-":
        photo = read_image(Path(image))
    elif sys.stdin is None:
        raise ImageReadError("stdin is closed", hint="pipe a photograph into it, or name a file")
    else:
        photo = read_image(sys.stdin.buffer, "stdin")
    if photo.pages > 1:
        console.notice(f"{image} has {photo.pages} pages: only the first is counted")
    return photo


def count(counter: Counter, photo: Photo, prompts: Sequence[str], tiles: int) -> list[CountResult]:
    """Count each prompt, and say what of it these weights cannot read."""
    for hidden in filter(None, map(counter.unread_part, dict.fromkeys(prompts))):
        console.warn(hidden)
    return counter.count(photo.pixels, prompts, tiles)


def write_pictures(
    counter: Counter,
    photo: Photo,
    results: Sequence[CountResult],
    heatmap: Path | None,
    density: Path | None,
    similarity: Path | None,
) -> None:
    """Write what was asked for: raw density maps, overlays, similarity maps."""
    from clipcount_cli.counting.heatmap import panels, similarity_panels

    if density is not None:
        with atomic_write(density) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack([result.density for result in results]))
    if heatmap is not None:
        write_image(heatmap, panels(photo.pixels, results))
    if similarity is not None:
        maps = [counter.similarity(photo.pixels, result.prompt) for result in results]
        write_image(similarity, similarity_panels(photo.pixels, results, maps))


def as_json(
    counter: Counter, image: str, photo: Photo, results: Sequence[CountResult]
) -> dict[str, Any]:
    """The object that `--json` prints; counts unrounded, width and height upright."""
    height, width = photo.pixels.shape[:2]
    return {
        "image": image,
        "width": width,
        "height": height,
        "weights": counter.label,
        "device": str(counter.device),
        "precision": counter.precision,
        "results": [{"prompt": result.prompt, "count": result.count} for result in results],
    }
