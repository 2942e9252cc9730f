"""What training minimizes: errors of the density, and of the similarity of patch and prompt.

[losses.py] -> step.py. Every function returns one value per pair (image, prompt), so that processes
which share a batch can average over all of its pairs rather than over their own. `P` pairs, `N`
patches, `C` channels, `S` side of a density in pixels. Computed in float32 under autocast, too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipcount_cli.config import DENSITY_SCALE, DensityLoss, WindowConfig

_GUARD = 1e-5  # added to both sums, so that a window without objects has a finite loss


def density_loss(
    predicted: Tensor, target: Tensor, kept: Tensor | None = None, measure: DensityLoss = "mse"
) -> Tensor:
    """Error of each density, averaged over its pixels: predicted, target (P, S, S) -> (P,).

    kept: (P, S, S) bool, the pixels that count; None: all of them.
    """
    if measure == "bce":
        error = _cross_entropy(predicted.float(), target)
    else:
        error = (predicted - target).square()
    if kept is None:
        return error.mean(dim=(1, 2))
    return (error * kept).sum(dim=(1, 2)) / kept.sum(dim=(1, 2)).clamp(min=1)


def _cross_entropy(predicted: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy per pixel; least where `predicted` is `target`, which is cut at 1.

    Its gradient does not vanish where the sigmoid does: a network that has learned to predict
    nothing can still recover, which it cannot with the squared error.
    """
    target = target.clamp(max=1.0)
    something = predicted.clamp(min=1e-30).log()
    nothing = torch.log1p(-predicted.clamp(max=1 - 1e-7))
    return -(target * something + (1 - target) * nothing)


def count_loss(predicted: Tensor, target: Tensor, cells: int = 4) -> Tensor:
    """Error of the count in each of `cells` x `cells` cells, relative to what is there: (P,).

    The square root of the truth is the scale: 3 too many of 9 weigh like 10 too many of 100.
    """
    scale = (WindowConfig.side_px / predicted.shape[-1] / cells) ** 2 / DENSITY_SCALE
    pixels = (predicted.shape[-1]) ** 2 * scale  # a mean over a cell x pixels = objects in it
    error = (predicted - target)[:, None]
    if error.device.type == "mps" and error.shape[-1] % cells:  # which MPS cannot pool
        error = error.cpu()
    pooled = F.adaptive_avg_pool2d(error, cells).to(predicted.device)
    off = pooled.flatten(1) * pixels
    truth = target.mean(dim=(1, 2)) * pixels
    return off.abs().mean(dim=1) / (truth + 1 / cells**2).sqrt()


def occupied_patches(target: Tensor, grid_side: int, above: float = 0.0) -> Tensor:
    """Which patches hold an object: target (P, S, S) -> (P, N) bool, N = `grid_side` squared.

    As the authors do: nearest resize to 16 px per patch (14 x 14 for 224 px), then the maximum.
    """
    side_px = 16 * grid_side
    resized = F.interpolate(target[:, None], size=(side_px, side_px), mode="nearest")
    return F.max_pool2d(resized, 16).flatten(1) > above


def patch_text_loss(
    patches: Tensor, text: Tensor, occupied: Tensor, tau: float = 0.07, normalize: bool = False
) -> Tensor:
    """Pull occupied patches towards the prompt (arXiv:2305.07304, "patch-text contrastive loss").

    patches: (P, N, C); text: (P, C); occupied: (P, N) bool, True where an object lies.
    normalize: divide each pair's loss by its number of occupied patches.
    Returns (P,), >= 0. Raises ValueError if `tau` is not positive.
    """
    odds = _likeness(patches, text[:, None], tau).exp()
    positive = (odds * occupied).sum(dim=1) + _GUARD
    negative = (odds * ~occupied).sum(dim=1) + _GUARD
    loss = -torch.log(positive / (positive + negative))
    return loss / occupied.sum(dim=1).clamp(min=1) if normalize else loss


def negative_text_loss(
    patches: Tensor, text: Tensor, occupied: Tensor, image_of: Tensor, tau: float = 0.07
) -> Tensor:
    """Make an occupied patch prefer its own prompt to the others of its image: (P,).

    patches: (P, N, C); text: (P, C); occupied: (P, N) bool; image_of: (P,), each pair's image.
    A prompt is negative where its own objects do not lie: absent ones everywhere, and "beads" not
    where "red beads" are.
    """
    with torch.autocast(patches.device.type, enabled=False):  # it would multiply in half precision
        directions = F.normalize(text.float(), dim=-1)  # (P, C)
        likeness = F.normalize(patches.float(), dim=-1) @ directions.T / tau  # (P, N, P)
    same_image = image_of[:, None] == image_of[None, :]  # (P, P)
    negative = same_image[:, None, :] & ~occupied.T[None, :, :]  # (P, N, P)
    own = likeness.diagonal(dim1=0, dim2=2).T  # (P, N)
    others = likeness.masked_fill(~negative, -torch.inf)
    every = torch.cat([own[..., None], others], dim=-1)
    loss = every.logsumexp(dim=-1) - own  # (P, N): -log(own / (own + negatives))
    return (loss * occupied).sum(dim=1) / occupied.sum(dim=1).clamp(min=1)


def _likeness(patches: Tensor, text: Tensor, tau: float) -> Tensor:
    if tau <= 0:
        raise ValueError(f"tau must be positive, not {tau}")
    return F.cosine_similarity(patches.float(), text.float(), dim=-1) / tau
