"""Dots become the density map that training aims at.

A dot is spread by a Gaussian that keeps its sum within the window, so that the map's sum is
`DENSITY_SCALE` times the number of dots.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from clipcount_cli.config import DENSITY_SCALE, WindowConfig
from clipcount_cli.devices import upload

CPU = torch.device("cpu")
_TRUNCATE = 4.0  # sigmas; scipy's default, as the authors' maps have it


def density_target(
    points_px: Tensor, side_px: int, sigma_px: float = 1.0, once: bool = True
) -> Tensor:
    """Spread dots (K, 2), as (x, y) in a window's pixels, to a density (side, side), times 60.

    Equals scipy's `gaussian_filter(..., truncate=4, mode="reflect")` of the dotted pixels.
    once: two dots in one pixel count once, as in the authors' maps.
    Dots outside the window are left out.
    """
    return density_targets([points_px], side_px, sigma_px, once, points_px.device)[0]


def density_targets(
    points_px: Sequence[Tensor],
    side_px: int,
    sigma_px: float = 1.0,
    once: bool = True,
    device: torch.device = CPU,
) -> Tensor:
    """The target of each window's dots: (P, side, side), made on `device`.

    All dots are set in one operation, and spread by a product along each side.
    """
    flat = upload(_places(points_px, side_px), device)
    dots = torch.zeros(len(points_px) * side_px * side_px, device=device)
    dots.index_add_(0, flat, torch.ones(len(flat), device=device))
    if once:
        dots.clamp_(max=1)
    spread = _spread(side_px, sigma_px, device)
    across = dots.view(-1, side_px) @ spread  # (P * side, side)
    return spread.T @ across.view(-1, side_px, side_px) * DENSITY_SCALE


def _places(points_px: Sequence[Tensor], side_px: int) -> Tensor:
    """Where the dots that lie in their window are in (P, side, side), flattened: (K,) int64."""
    points = torch.cat(list(points_px))
    pixels = points.long()
    inside = ((points >= 0) & (pixels < side_px)).all(dim=1)
    lengths = torch.tensor([len(each) for each in points_px])
    window = torch.arange(len(points_px)).repeat_interleave(lengths).to(points.device)
    return ((window * side_px + pixels[:, 1]) * side_px + pixels[:, 0])[inside]


def window_targets(
    points_px: Sequence[Tensor],
    side_px: int,
    sigma_px: float = 1.0,
    once: bool = True,
    device: torch.device = CPU,
) -> Tensor:
    """The target (P, side, side) of dots in windows of 384 px, seen at another side.

    Densities stay as high as at 384 px, so that a mean over a window's pixels stays the same.
    """
    share = side_px / WindowConfig.side_px
    smaller = [points * share for points in points_px]
    return density_targets(smaller, side_px, sigma_px * share, once, device) * share**2


@functools.lru_cache(maxsize=8)
def _spread(side_px: int, sigma_px: float, device: torch.device) -> Tensor:
    """Row i: what a dot at pixel i becomes in one dimension, mirrored at the borders: sum 1."""
    radius = int(_TRUNCATE * sigma_px + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    weights = weights / weights.sum()
    centres = torch.arange(side_px)[:, None]
    reached = (centres + offsets.long()) % (2 * side_px)  # reflection repeats every two sides
    reached = torch.where(reached < side_px, reached, 2 * side_px - 1 - reached)
    rows = torch.zeros(side_px, side_px, dtype=torch.float64)
    return rows.scatter_add(1, reached, weights.expand(side_px, -1)).float().to(device)
