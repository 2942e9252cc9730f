"""Windows for training, made in batches on the device: affine, mosaic, colour, blur, noise.

views.py -> [augment.py]. `render` takes what views.py drew and the pixels it names; equal plans
give equal windows, whatever else is in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clipcount_cli.counting.windows import Pixels
from clipcount_cli.training.views import QUARTERS, SEAM_PX, Border, Colour, View, WindowPlan

_BLUR_TAPS = (7, 9)  # of the Gaussian blur along x and y
_LUMA = (0.299, 0.587, 0.114)


def render(
    plans: Sequence[WindowPlan],
    photos: Sequence[Sequence[Pixels]],
    side_px: int,
    device: torch.device,
) -> Tensor:
    """Make the windows (B, 3, side, side), 0 to 1; photos: for each plan, one a view."""
    windows = torch.empty(len(plans), 3, side_px, side_px, device=device)
    cut = [_cut(plan, of) for plan, of in zip(plans, photos, strict=True)]
    mosaics = [i for i, plan in enumerate(plans) if len(plan.views) > 1]
    single = [i for i, plan in enumerate(plans) if len(plan.views) == 1]
    still = [i for i in single if not plans[i].views[0].moves]
    moved = [i for i in single if plans[i].views[0].moves]
    if still:
        windows[still] = _stack([cut[i][0] for i in still], device)
    if moved:
        views = [plans[i].views[0] for i in moved]
        windows[moved] = move(views, [cut[i][0] for i in moved], side_px, device)
    if mosaics:
        windows[mosaics] = _mosaics(
            [plans[i] for i in mosaics], [cut[i] for i in mosaics], side_px, device
        )
    changed = [i for i, plan in enumerate(plans) if plan.colour is not None]
    if changed:
        colours = [colour for plan in plans if (colour := plan.colour) is not None]
        windows[changed] = recolour(windows[changed], colours)
    return windows


def move(
    views: Sequence[View],
    sources: Sequence[Pixels],
    side_px: int,
    device: torch.device,
    origins_px: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """Sample each view's window (V, 3, side, side), bilinear; origins: (x, y) of its corner."""
    stack = _stack(sources, device)  # (V, 3, H, W)
    height, width = stack.shape[2:]
    corners = origins_px or [(0, 0)] * len(views)
    steps = torch.arange(side_px, device=device) + 0.5
    grids = []
    for view, source, (left, top) in zip(views, sources, corners, strict=True):
        back = np.linalg.inv(view.matrix)
        back[:2, 2] -= view.source.x, view.source.y
        a = torch.tensor(back, dtype=torch.float32, device=device)
        x, y = (steps + left)[None, :], (steps + top)[:, None]
        column = _folded(a[0, 0] * x + a[0, 1] * y + a[0, 2], source.shape[1], view.border)
        row = _folded(a[1, 0] * x + a[1, 1] * y + a[1, 2], source.shape[0], view.border)
        grids.append(torch.stack([column / width, row / height], dim=-1) * 2 - 1)
    return F.grid_sample(stack, torch.stack(grids), align_corners=False)


def recolour(windows: Tensor, colours: Sequence[Colour]) -> Tensor:
    """Noise, then brightness, contrast, saturation and hue, then blur; (B, 3, S, S), 0 to 1."""
    device = windows.device
    noise = torch.empty_like(windows)
    for window, colour in zip(noise, colours, strict=True):
        chance = torch.Generator(device).manual_seed(colour.noise_seed)
        window.normal_(0.0, colour.noise, generator=chance)
    noisy = (windows + noise).clamp_(0, 1)
    matrices = torch.stack([_colour_matrix(colour) for colour in colours]).to(device)  # (B, 3, 3)
    contrast = torch.tensor([c.contrast for c in colours], device=device)
    luma = torch.tensor(_LUMA, device=device)
    mean = (noisy.mean(dim=(2, 3)) * luma).sum(dim=1)  # (B,)
    brightness = torch.tensor([c.brightness for c in colours], device=device)
    # Contrast pulls towards the mean grey, which saturation and hue leave alone.
    offset = (1 - contrast) * brightness * mean
    shaded = torch.einsum("bij,bjhw->bihw", matrices, noisy) + offset[:, None, None, None]
    return _blurred(shaded.clamp_(0, 1), [c.blur_px for c in colours])


def _mosaics(
    plans: Sequence[WindowPlan],
    sources: Sequence[Sequence[Pixels]],
    side_px: int,
    device: torch.device,
) -> Tensor:
    """Each part is sampled up to the seam's far edge, and fades out across the seam."""
    half, reach = side_px // 2, SEAM_PX[1]
    part_px = half + reach
    starts = [(column * (half - reach), row * (half - reach)) for row, column in QUARTERS]
    views = [view for plan in plans for view in plan.views]
    flat = [source for each in sources for source in each]
    parts = move(views, flat, part_px, device, starts * len(plans))
    parts = parts.reshape(len(plans), len(QUARTERS), *parts.shape[1:])  # (B, 4, 3, part, part)
    seams = torch.tensor([[plan.seam_px] for plan in plans], device=device)
    steps = torch.arange(side_px, device=device) + 0.5
    fading = ((half + seams - steps) / (2 * seams)).clamp(0, 1)  # (B, S): the first half's share
    windows = torch.zeros(len(plans), 3, side_px, side_px, device=device)
    for number, (row, column) in enumerate(QUARTERS):
        x, y = starts[number]
        down = (fading if row == 0 else 1 - fading)[:, y : y + part_px]
        across = (fading if column == 0 else 1 - fading)[:, x : x + part_px]
        share = down[:, None, :, None] * across[:, None, None, :]
        windows[:, :, y : y + part_px, x : x + part_px] += parts[:, number] * share
    return windows


def _cut(plan: WindowPlan, photos: Sequence[Pixels]) -> list[Pixels]:
    """What each view of `plan` takes from its photograph."""
    boxes = [view.source for view in plan.views]
    return [
        photo[box.y : box.y + box.height, box.x : box.x + box.width]
        for box, photo in zip(boxes, photos, strict=True)
    ]


def _stack(sources: Sequence[Pixels], device: torch.device) -> Tensor:
    """Sources as one float tensor (V, 3, H, W), 0 to 1; smaller ones have black right and below."""
    height, width = (max(source.shape[axis] for source in sources) for axis in (0, 1))
    stack = np.zeros((len(sources), height, width, 3), np.uint8)
    for place, source in zip(stack, sources, strict=True):
        place[: source.shape[0], : source.shape[1]] = source
    tensor = torch.from_numpy(stack).to(device).permute(0, 3, 1, 2)
    return tensor.float() / 255


def _folded(position: Tensor, length: int, border: Border) -> Tensor:
    """Positions beyond 0 to `length` brought back to where the border takes its pixels from."""
    if border == "black":
        return position
    if border == "symmetric":
        position = length - (length - position % (2 * length)).abs()
    elif border == "reflect":
        last = max(length - 1, 1)
        position = last - (last - (position - 0.5) % (2 * last)).abs() + 0.5
    elif border == "wrap":
        position = position % length
    return position.clamp(0.5, length - 0.5)


def _colour_matrix(colour: Colour) -> Tensor:
    """Brightness, contrast, saturation and a turn of the hue around grey, as one (3, 3)."""
    luma = torch.tensor(_LUMA).expand(3, 3)
    saturation = colour.saturation * torch.eye(3) + (1 - colour.saturation) * luma
    yiq = torch.tensor([_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
    angle = 2 * math.pi * colour.hue
    turn = torch.eye(3)
    turn[1:, 1:] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    hue = torch.linalg.inv(yiq) @ turn @ yiq
    matrix: Tensor = hue @ saturation * (colour.brightness * colour.contrast)
    return matrix


def _blurred(windows: Tensor, sigmas_px: Sequence[float]) -> Tensor:
    batch, channels, height, width = windows.shape
    sigma = torch.tensor(sigmas_px, device=windows.device)[:, None].clamp(min=1e-3)
    image = windows.reshape(1, batch * channels, height, width)
    for taps, axis in zip(_BLUR_TAPS, (3, 2), strict=True):
        offsets = torch.arange(taps, device=windows.device) - taps // 2
        weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
        weights = weights / weights.sum(dim=1, keepdim=True)  # (B, taps)
        shape = (1, taps) if axis == 3 else (taps, 1)
        kernel = weights.repeat_interleave(channels, 0).reshape(-1, 1, *shape)
        margin = (taps // 2,) * 2
        padded = F.pad(image, (*margin, 0, 0) if axis == 3 else (0, 0, *margin), mode="reflect")
        image = F.conv2d(padded, kernel, groups=batch * channels)
    return image.reshape(batch, channels, height, width)
