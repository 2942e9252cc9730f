"""Where things lie in a rendered scene: heaps, rows, rings, loose scatters; (K, 2) centres.

How many, how large and how crowded follows the images of FSC-147 (4808).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scenes.brush import Floats

COUNT_QUANTILES = (
    (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0),
    (7, 9, 14, 27, 58, 117, 178, 413, 700),
)
# At 384 px, by count (the middle of a row of the table): 10 %, 50 % and 90 % of object sizes.
SIZE_COUNTS = (3, 10, 21, 42, 85, 190, 400)
SIZE_LOW_PX = (32, 29, 25, 23, 18, 15, 7)
SIZE_MIDDLE_PX = (80, 72, 63, 52, 38, 29, 15)
SIZE_HIGH_PX = (125, 115, 101, 86, 60, 44, 26)
SIZE_SIDE_PX = 384
MIN_SIZE_PX = 12  # at 384 px; smaller things cannot be named
CROWDING = (0.28, 0.78, 1.58)  # nearest neighbour over size: 5 %, 50 %, 95 %


@dataclass(frozen=True)
class Layout:
    """Centres (K, 2) as (x, y) in pixels, in painting order, and what to multiply the size by."""

    centres_px: Floats
    scales: Floats
    size_px: float


def draw_count(rng: np.random.Generator) -> int:
    """Draw the number of objects in an image."""
    quantiles, counts = COUNT_QUANTILES
    return round(float(np.exp(np.interp(rng.random(), quantiles, np.log(counts)))))


def draw_size(count: int, side_px: int, rng: np.random.Generator) -> float:
    """Draw the size (square root of the box) in pixels, for this many objects."""
    at = np.log(count)
    low, middle, high = (
        float(np.exp(np.interp(at, np.log(SIZE_COUNTS), np.log(sizes))))
        for sizes in (SIZE_LOW_PX, SIZE_MIDDLE_PX, SIZE_HIGH_PX)
    )
    z = float(np.clip(rng.standard_normal(), -2, 2)) / 1.28
    spread = high / middle if z > 0 else middle / low
    return max(float(middle * spread**z * side_px / SIZE_SIDE_PX), smallest_size(side_px))


def smallest_size(side_px: int) -> float:
    """The size in pixels below which a thing cannot be named."""
    return MIN_SIZE_PX * side_px / SIZE_SIDE_PX


def _lattice(count: int, spacing: float, rng: np.random.Generator, loose: float) -> Floats:
    """At least `count` points around 0 that keep about `spacing` apart."""
    hexagonal = rng.random() < 0.6
    thinning = rng.uniform(0, 0.5) if loose > 0 else 0.0
    reach = int(np.sqrt(count / (1 - thinning)) * 0.75) + 3
    steps = np.arange(-reach, reach + 1, dtype=np.float32)
    x, y = np.meshgrid(steps, steps)
    if hexagonal:
        x, y = x + 0.5 * (np.arange(len(steps)) % 2)[:, None], y * np.sqrt(3) / 2
    points = np.stack([x.ravel(), y.ravel()], 1) * (spacing * np.sqrt(1 - thinning) * 1.05)
    points = points + rng.standard_normal(points.shape) * (spacing * loose)
    keep = rng.random(len(points)) >= thinning
    points = points[keep] if keep.sum() >= count else points
    angle = rng.uniform(0, np.pi) if loose > 0.05 or rng.random() < 0.4 else rng.normal(0, 0.06)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(points @ turn, np.float32)


def _nearest(points: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Keep the `count` points that form one heap, round, square or ragged."""
    shape = rng.random()
    scaled = points / np.array([1, rng.uniform(0.6, 1.0)], np.float32)
    if shape < 0.4:
        order = np.hypot(scaled[:, 0], scaled[:, 1])
    elif shape < 0.8:
        order = np.abs(points).max(1)
    else:
        order = np.hypot(scaled[:, 0], scaled[:, 1]) * rng.uniform(0.6, 1.4, len(points))
    return points[np.argsort(order, kind="stable")[:count]]


def _ring(count: int, size_px: float, side_px: int, rng: np.random.Generator) -> Floats:
    radius = min(
        max(count * size_px * rng.uniform(0.9, 1.3) / (2 * np.pi), size_px), side_px * 0.45
    )
    turn = np.arange(count) / count * 2 * np.pi + rng.uniform(0, 6)
    wobble = radius * (1 + rng.normal(0, 0.03, count))
    return np.stack([np.cos(turn) * wobble, np.sin(turn) * wobble], 1).astype(np.float32)


def lay_out(
    count: int,
    size_px: float,
    side_px: int,
    rng: np.random.Generator,
    *,
    overlap: float = 0.28,
    filled: float = 0.12,
) -> Layout:
    """Place `count` things of about `size_px` on a square ground.

    overlap: the least distance of neighbours over their size; sizes shrink if they must.
    filled: the chance that one heap covers everything from border to border.
    """
    low, middle, high = CROWDING
    z = float(np.clip(rng.standard_normal(), -2, 2)) / 1.645
    spacing = size_px * max(
        middle * ((high / middle) ** z if z > 0 else (middle / low) ** z), overlap
    )
    spacing *= 1.12  # jitter brings the nearest neighbour nearer
    roomy = side_px * rng.uniform(0.92, 1.06) / np.sqrt(count)
    lonely = spacing**2 * count < side_px**2 / 6  # a small heap on an empty ground: seen less often
    if rng.random() < filled and count >= 9:
        size_px, spacing = roomy * rng.uniform(0.95, max(1.05, 0.8 / overlap)), roomy
    elif spacing > roomy:
        size_px = min(size_px, max(size_px * roomy / spacing, roomy * 1.4))
        spacing = roomy
    elif rng.random() < (0.65 if lonely else 0.45):  # spread over the whole ground
        spacing = spacing + (roomy - spacing) * rng.uniform(0.3, 1.0)
    if count < 30 and rng.random() < 0.03:
        points = _ring(count, size_px, side_px, rng)
    else:
        loose = float(rng.choice([0.0, 0.04, 0.15, 0.25, 0.35]))
        points = _nearest(_lattice(count, spacing, rng, loose), count, rng)
    reach = np.abs(points).max(0) if count > 1 else np.zeros(2)
    slack = np.maximum(side_px / 2 - reach - size_px * 0.4, 0)
    points = points + side_px / 2 + rng.uniform(-1, 1, 2) * slack
    scales = np.exp(rng.standard_normal(count) * rng.choice([0.02, 0.06, 0.15]))
    points = points[rng.permutation(count)]
    return Layout(points.astype(np.float32), scales.astype(np.float32), float(size_px))


def park(count: int, size_px: float, side_px: int, rng: np.random.Generator) -> Layout:
    """Line up long upright things side by side, in pairs of rows with aisles: a car park."""
    cells = count / rng.uniform(0.6, 1.0)  # some bays are empty
    bay = np.array([rng.uniform(0.75, 1.0), rng.uniform(1.55, 1.75)])  # over the size
    aisle = float(rng.choice([0.0, rng.uniform(0.3, 2.0)]))
    deep = bay[1] + aisle / 2
    size_px = float(min(size_px, side_px * rng.uniform(0.8, 1.1) / np.sqrt(cells * bay[0] * deep)))
    columns = max(1, round(min(side_px / (bay[0] * size_px), cells)))
    rows = int(np.ceil(cells / columns))
    place = np.arange(columns * rows)
    across, down = place % columns - (columns - 1) / 2, place // columns
    x = across * bay[0] * size_px + rng.normal(0, 0.03, len(place)) * size_px
    y = (down * bay[1] + (down // 2) * aisle) * size_px
    y = y - y.mean() + rng.normal(0, 0.06, len(place)) * size_px
    chosen = np.sort(rng.permutation(len(place))[:count])
    slack = max(side_px / 2 - np.abs(y).max() - size_px, 0) * rng.uniform(-1, 1)
    centres = np.stack([x, y + slack], 1)[chosen] + side_px / 2
    return Layout(centres.astype(np.float32), np.ones(count, np.float32), size_px)


def in_perspective(layout: Layout, side_px: int, rng: np.random.Generator) -> Layout:
    """Tilt the ground: what lies further up is smaller, closer together and painted first."""
    far = rng.uniform(0.45, 0.8)
    depth = np.clip(layout.centres_px[:, 1] / side_px, -0.2, 1.2)
    scale = far + (1 - far) * depth
    centre = side_px / 2
    x = centre + (layout.centres_px[:, 0] - centre) * scale
    y = side_px * (far * depth + (1 - far) * depth**2 / 2) / (far + (1 - far) / 2)
    order = np.argsort(y, kind="stable")
    centres = np.stack([x, y], 1)[order].astype(np.float32)
    return Layout(centres, (layout.scales * scale)[order].astype(np.float32), layout.size_px)
