"""What counting returns: a number and a density map per prompt; notebooks display them.

Image -> count, after step 4: counter.py -> [results.py] -> heatmap.py
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from clipcount_cli.config import DENSITY_SCALE
from clipcount_cli.counting.notices import Notice
from clipcount_cli.counting.windows import Density, Pixels
from clipcount_cli.errors import ClipCountError, CountError

if TYPE_CHECKING:
    from clipcount_cli.counting.image_like import ImageLike
    from clipcount_cli.counting.regions import Regions


KEPT_PX, DISPLAYED_PX = 1600, 800  # longer sides of a result's image, and of it in a notebook


def kept_view(pixels: Pixels) -> Pixels:
    """The image (H, W, 3) that a result keeps to draw on: shrunk, so that many can be held."""
    return _fitted(pixels, KEPT_PX)


def _fitted(pixels: Pixels, longest_px: int) -> Pixels:
    image = Image.fromarray(pixels)
    if max(image.size) <= longest_px:
        return pixels
    image.thumbnail((longest_px, longest_px), Image.Resampling.BILINEAR)
    return np.asarray(image)


def finite(prompt: str, count: float) -> float:
    """`count`, or CountError if it is not a number, as when half precision overflows."""
    if not math.isfinite(count):
        raise CountError(
            f'the count of "{prompt}" is not a number: the network overflowed',
            hint="count with --precision fp32; if that fails too, the weights are damaged",
        )
    return count


@dataclass(frozen=True, eq=False)
class CountResult:
    """How many of `prompt` an image shows, and where."""

    prompt: str
    count: float
    density: Density = field(repr=False)  # (h, w) objects per pixel; its sum is `count`
    pixels: Pixels | None = field(default=None, repr=False)  # (H, W, 3) the image, or a smaller one

    @classmethod
    def of(cls, prompt: str, network_density: Density, pixels: Pixels | None = None) -> CountResult:
        """Scale the network's density (0 to 1) to objects per pixel.

        Raises CountError if the count is not a number.
        """
        density = network_density / np.float32(DENSITY_SCALE)
        count = finite(prompt, float(density.sum(dtype=np.float64)))
        return cls(prompt, count, density, pixels)

    def inside(self, regions: Regions) -> CountResult:
        """What of this result lies inside `regions`."""
        density = regions.inside(self.density)
        return replace(self, count=float(density.sum(dtype=np.float64)), density=density)

    def overlay(self, image: ImageLike | None = None) -> Image.Image:
        """The density drawn over `image`, at its size; by default over the counted image itself.

        Of that image at most 1,600 pixels of its longer side are kept. Raises ImageReadError if
        `image` cannot be read, ValueError if there is none.
        """
        from clipcount_cli.counting.heatmap import overlay
        from clipcount_cli.counting.image_like import decode

        pixels = self.pixels if image is None else decode(image).pixels
        if pixels is None:
            raise ValueError("this result does not keep its image: overlay(image) draws over one")
        return Image.fromarray(overlay(pixels, self.density * np.float32(DENSITY_SCALE)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CountResult):
            return NotImplemented
        return (self.prompt, self.count) == (other.prompt, other.count) and np.array_equal(
            self.density, other.density
        )

    def __hash__(self) -> int:
        return hash((self.prompt, self.count))

    def _repr_png_(self) -> bytes | None:
        return _panels_png([self])


@dataclass(frozen=True)
class Line:
    """The count of a prompt in a whole image, or in one of its regions."""

    prompt: str
    count: float
    region: str | None = None


class Counts(list[CountResult]):
    """The results of one image, in the order of its prompts."""

    def __init__(
        self,
        results: Iterable[CountResult],
        tiles: int = 1,
        notices: Iterable[Notice] = (),
        error: ClipCountError | None = None,
    ) -> None:
        """tiles: how many times 384 px the shorter side was seen at; notices: what may be wrong.

        error: why there are no results, from `count_many`.
        """
        super().__init__(results)
        self.tiles = tiles
        self.notices = tuple(notices)
        self.error = error

    def lines(self, regions: Regions | None = None) -> list[Line]:
        """A line per prompt, or per prompt and region."""
        if regions is None:
            return [Line(result.prompt, result.count) for result in self]
        return [
            Line(result.prompt, count, name)
            for result in self
            for name, count in zip(regions.names, regions.counts(result.density), strict=True)
        ]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td style='text-align: right'>{result.count:.1f}</td>"
            f"<td style='text-align: left'>{html.escape(result.prompt)}</td></tr>"
            for result in self
        )
        notes = "".join(f"<p>{html.escape(str(notice))}</p>" for notice in self.notices)
        png = _panels_png(self)
        data = base64.b64encode(png).decode() if png else ""
        picture = f"<img src='data:image/png;base64,{data}' style='max-width: 100%'>" if png else ""
        head = "<tr><th>count</th><th style='text-align: left'>prompt</th></tr>"
        failed = f"<p>{html.escape(str(self.error))}</p>" if self.error else ""
        table = f"<table>{head}{rows}</table>" if self else ""
        return f"{table}{failed}{notes}{picture}"


def _panels_png(results: list[CountResult]) -> bytes | None:
    """Heatmap panels as PNG, or None if the image of any result is not kept."""
    kept = [result.pixels for result in results]
    if not kept or kept[0] is None or any(pixels is None for pixels in kept):
        return None
    from clipcount_cli.counting.heatmap import panels

    pixels = _fitted(kept[0], DISPLAYED_PX)
    shown = [replace(result, density=_shrunk(result.density, pixels.shape)) for result in results]
    drawn = io.BytesIO()
    Image.fromarray(panels(pixels, shown)).save(drawn, "PNG", compress_level=6)
    return drawn.getvalue()


def _shrunk(density: Density, shape: tuple[int, ...]) -> Density:
    """A map no larger than the image (H, W, 3) below it, which `panels` would enlarge to it."""
    if density.shape[0] <= shape[0]:
        return density
    size = (shape[1], shape[0])
    return np.asarray(Image.fromarray(density).resize(size, Image.Resampling.BOX))
