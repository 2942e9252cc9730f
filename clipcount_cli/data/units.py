"""Positions in other units than pixels: fractions of the sides, and percent.

[units.py] <- checks.py
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_PERCENT = 100.0
_CHANCE = 1e-3  # that positions in pixels all lie within 0 to 100, below which it is a warning

Size = tuple[int, int]


def in_fractions(points_px: Mapping[Path, np.ndarray]) -> list[Path]:
    """The images all of whose points, (K, 2), lie in 0..1, which are fractions of their sides.

    One point alone may be the corner of an image; it counts if all images look so.
    """
    with_points = {path: points for path, points in points_px.items() if len(points)}
    alike = [path for path, points in with_points.items() if _all_fractions(points)]
    all_alike = len(alike) == len(with_points)
    return [path for path in alike if all_alike or len(with_points[path]) > 1]


def _all_fractions(points: np.ndarray) -> bool:
    inside = bool(((points >= 0) & (points <= 1)).all())
    return inside and bool((points != np.round(points)).any() or not points.any())


def look_like_percent(points_px: Mapping[Path, np.ndarray], sizes: Mapping[Path, Size]) -> bool:
    """Whether all points lie in 0..100, which would be a rare chance if they were pixels."""
    log_chance = 0.0
    for path, points in points_px.items():
        if not ((points >= 0) & (points <= _PERCENT)).all():
            return False
        share = math.prod(min(1.0, _PERCENT / side) for side in sizes[path])
        log_chance += len(points) * math.log(share)
    return log_chance < math.log(_CHANCE)
