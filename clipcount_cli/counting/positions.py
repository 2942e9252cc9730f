"""Where the objects are: a density map becomes as many positions as it counts.

Beside the path image -> count: counter.py -> [positions.py]

The network spreads each object over a spot whose width depends on how it was trained, not on the
object. So the density is taken apart spot by spot: the densest place, and around it the nearest
density that makes up one object.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipcount_cli.counting.windows import Density

CELL_PX = 4  # positions are found among cells of this side, far below the distance of neighbours
BLUR_CELLS = 1  # bridges the gaps of one spot, keeps two apart
REACH_CELLS = 6  # density further away belongs to another object

Masses = NDArray[np.float64]  # (rows, columns) objects per cell


def image_positions(density: Density, width_px: int, height_px: int) -> NDArray[np.float32]:
    """Positions (K, 2) as `positions` finds them, in pixels of the image behind the map."""
    height, width = density.shape
    scale = np.array([width_px / width, height_px / height], dtype=np.float32)
    return positions(density) * scale


def positions(density: Density) -> NDArray[np.float32]:
    """Positions (K, 2) as (x, y) in pixels of the map, surest first; K is the rounded count.

    density: (h, w) objects per pixel, as in `CountResult.density`.
    """
    from scipy.ndimage import gaussian_filter  # 0.1 s: paid only when positions are wanted

    mass = _cells(density)
    blurred = gaussian_filter(mass, BLUR_CELLS, mode="constant")
    found = []
    for _ in range(round(float(density.sum(dtype=np.float64)))):
        densest = np.unravel_index(int(blurred.argmax()), blurred.shape)
        around = _window(densest, 2 * REACH_CELLS, mass.shape)
        taken = _nearest_object(mass[around], densest, around)
        found.append(_centroid(taken, around))
        mass[around] -= taken
        blurred[around] -= gaussian_filter(taken, BLUR_CELLS, mode="constant")
    cells = np.array(found, dtype=np.float64).reshape(-1, 2)
    last = np.array(density.shape[::-1]) - 1e-3
    return np.minimum((cells + 0.5) * CELL_PX, last).astype(np.float32)


def _cells(density: Density) -> Masses:
    """Sum (h, w) over square cells; those at the right and lower border may be cut."""
    height, width = density.shape
    padded = np.pad(density.astype(np.float64), ((0, -height % CELL_PX), (0, -width % CELL_PX)))
    rows, columns = padded.shape[0] // CELL_PX, padded.shape[1] // CELL_PX
    return np.asarray(padded.reshape(rows, CELL_PX, columns, CELL_PX).sum(axis=(1, 3)))


def _window(centre: tuple[np.intp, ...], reach: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(max(0, int(c) - reach), min(length, int(c) + reach + 1))
        for c, length in zip(centre, shape, strict=True)
    )


def _nearest_object(mass: Masses, centre: tuple[np.intp, ...], around: tuple[slice, ...]) -> Masses:
    """Of the masses nearest to `centre` take so much of each that they make up one object."""
    y, x = (int(c) - part.start for c, part in zip(centre, around, strict=True))
    rows, columns = np.ogrid[: mass.shape[0], : mass.shape[1]]
    distance = np.hypot(rows - y, columns - x).ravel()
    order = np.argsort(distance, kind="stable")
    order = order[distance[order] <= REACH_CELLS]
    nearest = mass.ravel()[order]
    before = np.cumsum(nearest) - nearest
    taken = np.zeros(mass.size)
    taken[order] = np.minimum(nearest, np.clip(1 - before, 0, None))
    return taken.reshape(mass.shape)


def _centroid(mass: Masses, around: tuple[slice, ...]) -> tuple[float, float]:
    rows, columns = np.ogrid[: mass.shape[0], : mass.shape[1]]
    total = mass.sum()
    y, x = float((mass * rows).sum() / total), float((mass * columns).sum() / total)
    return x + around[1].start, y + around[0].start
