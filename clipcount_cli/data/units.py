"""Positions in other units than pixels: fractions of the sides, and percent.

[units.py] <- checks.py
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from clipcount_cli.data.samples import Source

_PERCENT = 100.0
_SLACK = 0.02  # how far rounding, or an object at the edge, may carry a fraction beyond 0 and 1
_CHANCE = 1e-3  # that positions in pixels all lie within 0 to 100, below which it is a warning

Size = tuple[int, int]


def in_fractions(points_px: Mapping[Source, np.ndarray]) -> list[Source]:
    """The images all of whose points, (K, 2), lie in 0..1, which are fractions of their sides.

    Several points between the pixels of a corner are enough: no two objects lie in one pixel. One
    point alone may be the corner of an image; it counts if all images look so.
    """
    with_points = {path: points for path, points in points_px.items() if len(points)}
    alike = [path for path, points in with_points.items() if _all_within(points, 1.0)]
    alike = [path for path in alike if _uneven(with_points[path]) or not with_points[path].any()]
    if len(alike) == len(with_points):
        return alike
    return [path for path, points in with_points.items() if _uneven(points) > 1]


def _all_within(points: np.ndarray, limit: float) -> bool:
    return bool(((points >= -_SLACK * limit) & (points <= (1 + _SLACK) * limit)).all())


def _uneven(points: np.ndarray) -> int:
    """How many points lie in 0..1, but not on the grid of pixels."""
    inside = ((points >= 0) & (points <= 1)).all(axis=1)
    return int((inside & (points != np.round(points)).any(axis=1)).sum())


def look_like_percent(points_px: Mapping[Source, np.ndarray], sizes: Mapping[Source, Size]) -> bool:
    """Whether all points lie in 0..100, which would be a rare chance if they were pixels."""
    log_chance = 0.0
    for path, points in points_px.items():
        if not _all_within(points, _PERCENT):
            return False
        share = math.prod(min(1.0, _PERCENT / side) for side in sizes[path])
        log_chance += len(points) * math.log(share)
    return log_chance < math.log(_CHANCE)
