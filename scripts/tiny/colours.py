"""Colours of samples: which words name one, which a picture lacks, and how matches are taught."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scenes.nouns import ANY, MATERIALS, SIZES
from torch import Tensor
from torch.nn import functional as F

from clipcount_cli.counting.colours import CELL_PX, MATCH_SCALE, inputs_of_keys
from clipcount_cli.counting.compact import CompactClipCount
from clipcount_cli.counting.prompts import tokenize

NO_COLOUR = ""  # what dots of a grey picture have
GREYISH = ("white", "black", "brown")  # what may be said of grey things
GREY_SPREAD = 14  # of a grey pixel's channels, at most
# Degrees of hue within which a pixel may be called so; wide, as nobody agrees on the borders
HUES = {
    "red": (335, 25), "orange": (5, 55), "yellow": (35, 75), "green": (60, 185),
    "blue": (165, 275), "purple": (235, 335), "pink": (280, 25),
}  # fmt: skip
SATURATED, BRIGHT = 0.2, 0.15  # of pixels whose hue is seen
RARE = 0.002  # share of a picture's cells that is nothing
TEACHING_STEPS, RIDGE = 800, 1e-2
# Describing words that scenes do not use: what they look like
LIKE_COLOURS = {
    "violet": ("purple",), "golden": ("yellow", "orange"), "maroon": ("red", "brown"),
    "turquoise": ("blue", "green"), "beige": ("white", "brown", "yellow"),
    "grey": ("white", "black"), "gray": ("white", "black"),
}  # fmt: skip
COLOURLESS = (*MATERIALS, "bright", "dark", "pale", "ripe", "shiny", "tiny", "huge")
POSITIVE_WEIGHT = 3.0  # one colour is right, nine are wrong


def is_grey(pixels: np.ndarray) -> bool:
    """Whether (S, S, 3) uint8 shows no colour at all."""
    cells = pixels[::4, ::4].astype(np.int16)
    return bool(np.percentile(np.ptp(cells, axis=2), 99.5) <= GREY_SPREAD)


def missing(pixels: np.ndarray) -> list[str]:
    """The colours that no part of a picture could be said to have."""
    cells = pixels.reshape(len(pixels) // 4, 4, -1, 4, 3).mean(axis=(1, 3)) / 255
    high, low = cells.max(axis=2), cells.min(axis=2)
    spread = np.maximum(high - low, 1e-6)
    red, green, blue = np.moveaxis(cells, 2, 0)
    sectors = [(green - blue) / spread, 2 + (blue - red) / spread, 4 + (red - green) / spread]
    hue = 60 * np.choose(cells.argmax(axis=2), sectors) % 360
    seen = (high - low > SATURATED * high) & (high > BRIGHT)
    shares = {}
    for name, (start, end) in HUES.items():
        inside = (hue >= start) & (hue <= end) if start < end else (hue >= start) | (hue <= end)
        shares[name] = float((inside & seen).mean())
    return [name for name, share in shares.items() if share < RARE]


def colour_labels(
    colours: dict[str, np.ndarray], image: int, most: int, rng: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    """(image, row, column, colour) of some dots; colour -1: of a grey picture."""
    labels = []
    for name, points in colours.items():
        number = ANY.index(name) if name else -1
        chosen = points[rng.permutation(len(points))[:most]]
        labels += [(image, int(y) // CELL_PX, int(x) // CELL_PX, number) for x, y in chosen]
    return labels


def match_logits(keys: Tensor, queries: Tensor, labels: Tensor) -> Tensor:
    """How well the dots of labels (L, 4) match queries (10, K): (L, 10); keys: (B, K, H, H)."""
    image, row, column, _ = labels.unbind(1)
    around = F.avg_pool2d(keys.float(), 3, stride=1, padding=1, count_include_pad=False)
    return around[image, :, row, column] @ queries.float().T / MATCH_SCALE


class ColourLoss:
    """How badly dots match the right word for their colour, and no other."""

    def __init__(self, device: torch.device) -> None:
        of_grey = [word not in GREYISH for word in ANY]
        # what is known of a grey picture's dots, and of dots with a colour
        self.known = torch.tensor([of_grey, [True] * len(ANY)], device=device)
        self.numbers = torch.arange(len(ANY), device=device)

    def __call__(self, logits: Tensor, colour: Tensor) -> Tensor:
        """The loss (L,) of matches (L, 10) with the words of ANY; colour: (L,), -1 for grey."""
        right = colour[:, None] == self.numbers  # (L, 10)
        wrong = torch.where(right, POSITIVE_WEIGHT * F.softplus(-logits), F.softplus(logits))
        return (wrong * self.known[(colour >= 0).long()]).mean(dim=1)


def cell_colours(pixels: Tensor, labels: Tensor) -> Tensor:
    """What the key of each label is computed of, blurred as `match_logits` blurs keys: (L, 6)."""
    image, row, column, _ = labels.unbind(1)
    cells = inputs_of_keys(pixels)
    around = F.avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)
    return around[image, :, row, column]


def teach_colours(model: CompactClipCount, seen_as: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Teach keys and queries of the words in ANY alone, which a whole network learns too slowly.

    seen_as: windows (B, 3, S, S) uint8 and the labels (L, 4) of their dots, in parts.
    Queries are first learned as ten vectors; the layer that computes them from text follows by
    least squares.
    """
    match, colours = model.colour_match, torch.cat([labels for _, labels in seen_as])[:, 3]
    seen = torch.cat([cell_colours(w.float() / 127.5 - 1, labels) for w, labels in seen_as])
    queries = torch.nn.Parameter(0.1 * torch.randn(len(ANY), match.query.out_features))
    loss = ColourLoss(colours.device)
    optimizer = torch.optim.AdamW([*match.key.parameters(), queries], 1e-2, weight_decay=0.1)
    for _ in range(TEACHING_STEPS):
        optimizer.zero_grad()
        keys = match.key(seen.T[None, :, :, None])[0, :, :, 0].T  # (L, K)
        loss(keys @ queries.T / MATCH_SCALE, colours).mean().backward()
        optimizer.step()
    with torch.no_grad():
        match.query.weight.copy_(_text_to(queries.detach(), model))


def _text_to(queries: Tensor, model: CompactClipCount) -> Tensor:
    """The weight of a linear layer from text vectors to the queries (10, K) of ANY: (K, C)."""
    looks = {word: (word,) for word in ANY} | LIKE_COLOURS
    wanted = {w: queries[[ANY.index(c) for c in own]].mean(dim=0) for w, own in looks.items()}
    wanted |= {f"{size} {colour}": wanted[colour] for size in _sizes() for colour in ANY}
    wanted |= {word: torch.zeros_like(queries[0]) for word in (*_sizes(), *COLOURLESS)}
    vectors = model.clip.text(tokenize(list(wanted), model.config))
    square = vectors.T @ vectors + RIDGE * torch.eye(vectors.shape[1])
    return torch.linalg.solve(square, vectors.T @ torch.stack(list(wanted.values()))).T


def _sizes() -> list[str]:
    return [*SIZES, *SIZES.values()]
