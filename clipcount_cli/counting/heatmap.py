"""Draw a density over its image: where the network sees the objects, and how clearly.

Image -> count, step 5 of 5: images.py -> windows.py -> model.py -> counter.py -> [heatmap.py]

The scale is fixed, 0 to 1 as the network gives it. Divided by its own maximum, an image without
the object would look full of it. Colours follow the square root, since one object spread over its
pixels is seldom denser than 0.3.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clipcount_cli.config import DENSITY_SCALE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clipcount_cli.counting.counter import CountResult

_OPAQUE_FROM = 0.4  # level from which the image shows through least; below, in proportion
_OPACITY = 0.85
_LEVELS = 256

_STRIP, _INK, _QUIET_INK = (24, 24, 27), (255, 255, 255), (190, 190, 196)  # around the image
_MIN_PANEL_PX = 360  # in width; a narrower image gets dark margins
_MAX_LINES = 4  # of a prompt
_PAGE_ASPECT = 4 / 3  # several panels fill roughly this shape


@dataclass(frozen=True)
class _Measure:
    """What a heatmap shows, and how its values from 0 to 1 become colours."""

    name: str
    colours: str  # of matplotlib
    colour_range: tuple[float, float]  # without their dark ends
    exponent: float  # colours follow this power of the value
    ticks: tuple[float, ...]


_DENSITY = _Measure("density", "turbo", (0.1, 0.92), 0.5, (0.0, 0.05, 0.25, 0.5, 1.0))
_SIMILARITY = _Measure("similarity", "plasma", (0.15, 1.0), 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))


def overlay(pixels: NDArray[np.uint8], density: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour (H, W, 3) uint8 RGB by (h, w) density in 0..1, stretched to the same size.

    Where the density is zero, the image is unchanged to the bit.
    """
    return _overlay(pixels, density, _DENSITY)


def colour_ramp(levels: int) -> NDArray[np.uint8]:
    """The colours of `levels` equal steps of the square root of density: (levels, 4) RGBA."""
    colours = np.frombuffer(_palette(_DENSITY), np.uint8).reshape(-1, 3)
    level = np.linspace(0, 1, levels)
    chosen = colours[np.rint(level * (_LEVELS - 1)).astype(int)]
    return np.column_stack([chosen, np.rint(_opacity(level))]).astype(np.uint8)


def _overlay(
    pixels: NDArray[np.uint8], values: NDArray[np.float32], measure: _Measure
) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    bounded = np.nan_to_num(np.clip(values, 0, 1)) ** measure.exponent
    levels = Image.fromarray((bounded * (_LEVELS - 1) + 0.5).astype(np.uint8))
    levels = levels.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(_coloured(Image.fromarray(pixels), levels, measure))


def panels(pixels: NDArray[np.uint8], results: Sequence[CountResult]) -> NDArray[np.uint8]:
    """Draw a panel per result: count and prompt, the image under its density, a colour bar.

    pixels: (H, W, 3) uint8 RGB -> (H', W', 3) uint8, the panels side by side or below one another.
    An image smaller than its density map is enlarged by a whole number.
    """
    maps = [result.density * np.float32(DENSITY_SCALE) for result in results]
    return _page(pixels, results, maps, _DENSITY)


def similarity_panels(
    pixels: NDArray[np.uint8], results: Sequence[CountResult], maps: Sequence[NDArray[np.float32]]
) -> NDArray[np.uint8]:
    """Draw as `panels` does, but each prompt's patch-text similarity (h, w), -1 to 1.

    Nothing is drawn where it is negative: those patches are unlike the prompt.
    """
    return _page(pixels, results, maps, _SIMILARITY)


def _page(
    pixels: NDArray[np.uint8],
    results: Sequence[CountResult],
    maps: Sequence[NDArray[np.float32]],
    measure: _Measure,
) -> NDArray[np.uint8]:
    photo = _enlarged(pixels, maps[0].shape)
    width, height = max(photo.shape[1], _MIN_PANEL_PX), photo.shape[0]
    style = _Style.of(width, height)
    headers = [_header(_title(result, measure), result.prompt, width, style) for result in results]
    header_height = max(header.height for header in headers)
    footer = _colour_bar(measure, width, style)
    panel_height = header_height + height + footer.height
    columns = _columns(len(results), width, panel_height)
    rows, gap = math.ceil(len(results) / columns), style.gap
    size = (columns * (width + gap) - gap, rows * (panel_height + gap) - gap)
    page = Image.new("RGB", size, _STRIP)
    for index, (header, values) in enumerate(zip(headers, maps, strict=True)):
        left, top = (index % columns) * (width + gap), (index // columns) * (panel_height + gap)
        page.paste(header, (left, top + (header_height - header.height) // 2))
        shown = Image.fromarray(_overlay(photo, values, measure))
        page.paste(shown, (left + (width - shown.width) // 2, top + header_height))
        page.paste(footer, (left, top + header_height + height))
    return np.asarray(page)


@dataclass(frozen=True)
class _Style:
    """Sizes in pixels; all follow the size of the panel."""

    font: int

    @classmethod
    def of(cls, width: int, photo_height: int) -> _Style:
        wanted = 0.035 * math.sqrt(width * photo_height)
        return cls(font=round(min(max(wanted, 16), width / 16)))

    @property
    def gap(self) -> int:
        return round(self.font * 0.6)

    @property
    def line(self) -> int:
        return round(self.font * 1.3)


def _title(result: CountResult, measure: _Measure) -> str:
    """The words before the prompt: a similarity has no count to show."""
    return f"{result.count:.1f}" if measure is _DENSITY else "similarity to"


def _header(title: str, prompt: str, width: int, style: _Style) -> Image.Image:
    """The title, large, and beside it the prompt in as many lines as it takes."""
    title_size = round(style.font * (1.5 if title[0].isdigit() else 1))
    title_font, font = _font(title_size, bold=True), _font(style.font)
    prompt_left = round(2 * style.gap + title_font.getlength(title))
    lines = _wrapped(prompt, font, width - prompt_left - style.gap)
    height = max(round(style.font * 1.5 * 1.3), style.line * len(lines)) + 2 * style.gap
    header = Image.new("RGB", (width, height), _STRIP)
    draw = ImageDraw.Draw(header)
    draw.text((style.gap, height / 2), title, _INK, title_font, anchor="lm")
    top = height / 2 - style.line * (len(lines) - 1) / 2
    for index, line in enumerate(lines):
        draw.text((prompt_left, top + index * style.line), line, _INK, font, anchor="lm")
    return header


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break `text` into lines of at most `width` px, within a word if need be."""
    readable = text.encode("utf-8", "replace").decode()  # undecodable bytes have no glyph
    lines, line = [], ""
    for word in readable.split():
        for piece in _pieces(word, font, width):
            longer = f"{line} {piece}" if line else piece
            if font.getlength(longer) <= width:
                line = longer
                continue
            lines.append(line)
            line = piece
            if len(lines) == _MAX_LINES:
                return [*lines[:-1], _shortened(lines[-1], font, width)]
    return [*lines, line]


def _pieces(word: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    if font.getlength(word) <= width:
        return [word]
    fitting = max(1, int(len(word) * width / font.getlength(word) * 0.9))
    return [word[start : start + fitting] for start in range(0, len(word), fitting)]


def _shortened(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line + "…"


def _colour_bar(measure: _Measure, width: int, style: _Style) -> Image.Image:
    """What the colours mean: the measure from 0 to 1, drawn on the strip as on the image."""
    font = _font(max(11, round(style.font * 0.7)))
    thickness = max(8, round(style.font * 0.6))
    half_label = round(font.getlength("0.25") / 2)
    left, length = (
        style.gap + half_label,
        min(width, 24 * style.font) - 2 * (style.gap + half_label),
    )
    bottom = style.gap + thickness
    text_top = bottom + max(6, style.gap // 2)
    height = text_top + round(font.size * 1.2) + style.gap
    bar = Image.new("RGB", (width, height), _STRIP)
    levels = np.linspace(0, _LEVELS - 1, length).round().astype(np.uint8)
    ramp = Image.fromarray(np.broadcast_to(levels, (thickness, length)).copy())
    bar.paste(_coloured(Image.new("RGB", ramp.size, _STRIP), ramp, measure), (left, style.gap))
    draw = ImageDraw.Draw(bar)
    line = max(1, style.font // 20)
    draw.rectangle(
        (left - line, style.gap - line, left + length - 1 + line, bottom - 1 + line),
        outline=_QUIET_INK,
        width=line,
    )
    for tick in measure.ticks:
        x = left + tick**measure.exponent * (length - 1)
        draw.line((x, bottom, x, (bottom + text_top) // 2), _QUIET_INK, line)
        draw.text((x, text_top), f"{tick:g}", _QUIET_INK, font, anchor="mt")
    beside = left + length + half_label + style.gap
    if beside + font.getlength(measure.name) < width:
        draw.text((beside, style.gap + thickness / 2), measure.name, _QUIET_INK, font, anchor="lm")
    return bar


def _coloured(photo: Image.Image, levels: Image.Image, measure: _Measure) -> Image.Image:
    """Lay the colour of each 8-bit level over `photo`, the more opaque the higher it is."""
    colours = levels.copy()
    colours.putpalette(_palette(measure))
    opacity = _opacity(np.linspace(0, 1, _LEVELS))
    mask = levels.point([round(value) for value in opacity])
    return Image.composite(colours.convert("RGB"), photo, mask)


def _opacity(level: NDArray[np.float64]) -> NDArray[np.float64]:
    """How opaque a colour lies over the photo, 0 to 255."""
    return np.minimum(level / _OPAQUE_FROM, 1) * _OPACITY * 255


@functools.cache
def _palette(measure: _Measure) -> bytes:
    from matplotlib import colormaps  # 0.2 s: paid only when a heatmap is drawn

    colours = colormaps[measure.colours](np.linspace(*measure.colour_range, _LEVELS), bytes=True)[
        :, :3
    ]
    return bytes(np.ascontiguousarray(colours, np.uint8))


@functools.cache
def _font(size_px: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib  # brings DejaVu, which has Latin, Greek, Cyrillic, Arabic and many symbols

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size_px)


def _enlarged(pixels: NDArray[np.uint8], least: tuple[int, ...]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    factor = max(1, math.ceil(max(least[0] / height, least[1] / width)))
    if factor == 1:
        return pixels
    size = (width * factor, height * factor)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _columns(count: int, width: int, height: int) -> int:
    def distance(columns: int) -> float:
        aspect = columns * width / (math.ceil(count / columns) * height)
        return abs(math.log(aspect / _PAGE_ASPECT))

    return min(range(1, count + 1), key=distance)
