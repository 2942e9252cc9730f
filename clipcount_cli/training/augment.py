"""Windows for training, made in batches on the device: affine, mosaic, colour, blur, noise.

views.py -> [augment.py]. `render` takes what views.py drew and the pixels it names; equal plans
give equal windows, independent of the rest of the batch. What the device needs is packed into one
copy of pixels and one of numbers, from pinned memory, so that the host waits for neither.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from clipcount_cli.devices import upload
from clipcount_cli.training.views import QUARTERS, SEAM_PX, Border, Colour, View, WindowPlan

_BLUR_TAPS = (7, 9)  # of the Gaussian blur along x and y
_LUMA = (0.299, 0.587, 0.114)

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB


def render(
    plans: Sequence[WindowPlan],
    photos: Sequence[Sequence[Pixels]],
    side_px: int,
    device: torch.device,
) -> Tensor:
    """Make the windows (B, 3, side, side), 0 to 1; photos: for each plan, one per view."""
    single = [i for i, plan in enumerate(plans) if len(plan.views) == 1]
    still = [i for i in single if not plans[i].views[0].moves]
    moved = [i for i in single if plans[i].views[0].moves]
    moved.sort(key=lambda i: plans[i].views[0].border)  # alike ones are computed together
    mosaics = [i for i, plan in enumerate(plans) if len(plan.views) > 1]
    groups = [group for group in (still, moved, mosaics) if group]
    stacks = _stacks(
        [[part for i in group for part in _cut(plans[i], photos[i])] for group in groups], device
    )
    made = []
    for group, stack in zip(groups, stacks, strict=True):
        if group is still:
            made.append(stack)
        elif group is moved:
            made.append(move([plans[i].views[0] for i in moved], stack, side_px))
        else:
            made.append(_mosaics([plans[i] for i in mosaics], stack, side_px))
    place = np.argsort([i for group in groups for i in group])
    changed = [i for i, plan in enumerate(plans) if plan.colour is not None]
    index = upload(torch.from_numpy(np.concatenate([place, np.array(changed, int)])), device)
    windows = torch.cat(made).index_select(0, index[: len(plans)])
    if changed:
        rows = index[len(plans) :]
        colours = [colour for plan in plans if (colour := plan.colour) is not None]
        windows.index_copy_(0, rows, recolour(windows.index_select(0, rows), colours))
    return windows


def move(
    views: Sequence[View],
    stack: Tensor,
    side_px: int,
    corners_px: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """Sample each view's window (V, 3, side, side), bilinear, from its source in `stack`.

    Views of one border stand together. corners: (x, y) of each window's corner.
    """
    device, (height, width) = stack.device, stack.shape[2:]
    placements = torch.from_numpy(_placements(views, corners_px))
    a, b, c, size, corner = upload(placements, device)[:, :, None, None].unbind(1)  # (V, 1, 1, 2)
    steps = torch.arange(side_px, device=device) + 0.5
    x = steps[:, None] + corner[..., :1]  # (V, 1, side, 1)
    y = steps[:, None, None] + corner[..., 1:]  # (V, side, 1, 1)
    position = a * x + b * y + c  # (V, side, side, 2), as (x, y) in the source
    start = 0
    for border, alike in itertools.groupby(views, key=lambda view: view.border):
        end = start + len(list(alike))
        if border != "black":
            position[start:end] = _folded(position[start:end], size[start:end], border)
        start = end
    grid = position / upload(torch.tensor([width, height]), device) * 2 - 1
    return F.grid_sample(stack, grid, align_corners=False)


def _placements(
    views: Sequence[View], corners_px: Sequence[tuple[int, int]] | None
) -> NDArray[np.float32]:
    """For each view, (V, 5, 2) as (x, y): map from window to source (3), its size, its corner."""
    rows = []
    for view, corner in zip(views, corners_px or [(0, 0)] * len(views), strict=True):
        back = np.linalg.inv(view.matrix)
        back[:2, 2] -= view.source.x, view.source.y
        rows.append([*back[:2].T, (view.source.width, view.source.height), corner])
    return np.array(rows, np.float32)


def recolour(windows: Tensor, colours: Sequence[Colour]) -> Tensor:
    """Noise, then brightness, contrast, saturation and hue, then blur; (B, 3, S, S), 0 to 1."""
    device = windows.device
    noise = torch.empty_like(windows)
    for window, colour in zip(noise, colours, strict=True):
        chance = torch.Generator(device).manual_seed(colour.noise_seed)
        window.normal_(0.0, colour.noise, generator=chance)
    noisy = noise.add_(windows).clamp_(0, 1)
    numbers = upload(_colour_numbers(colours), device)  # (B, 15)
    matrices, contrast, brightness = numbers[:, :9].reshape(-1, 3, 3), numbers[:, 9], numbers[:, 10]
    mean = (noisy.mean(dim=(2, 3)) * numbers[:, 11:14]).sum(dim=1)  # (B,), luma
    # Contrast pulls towards the mean grey, which saturation and hue leave alone.
    offset = (1 - contrast) * brightness * mean
    shaded = torch.einsum("bij,bjhw->bihw", matrices, noisy)
    shaded += offset[:, None, None, None]
    return _blurred(shaded.clamp_(0, 1), numbers[:, 14:])


def _colour_numbers(colours: Sequence[Colour]) -> Tensor:
    """For each colour: matrix (9), contrast, brightness, the luma of each channel (3), blur."""
    return torch.stack(
        [
            torch.cat(
                [
                    _colour_matrix(colour).flatten(),
                    torch.tensor([colour.contrast, colour.brightness, *_LUMA, colour.blur_px]),
                ]
            )
            for colour in colours
        ]
    )


def _mosaics(plans: Sequence[WindowPlan], stack: Tensor, side_px: int) -> Tensor:
    """Each part is sampled up to the seam's far edge, and fades out across the seam."""
    device, half, reach = stack.device, side_px // 2, SEAM_PX[1]
    part_px = half + reach
    starts = [(column * (half - reach), row * (half - reach)) for row, column in QUARTERS]
    views = [view for plan in plans for view in plan.views]
    parts = move(views, stack, part_px, starts * len(plans))
    parts = parts.reshape(len(plans), len(QUARTERS), *parts.shape[1:])  # (B, 4, 3, part, part)
    seams = upload(torch.tensor([[plan.seam_px] for plan in plans]), device)
    steps = torch.arange(side_px, device=device) + 0.5
    fading = ((half + seams - steps) / (2 * seams)).clamp(0, 1)  # (B, S): the first half's share
    shares = torch.stack([fading, 1 - fading])
    windows = torch.zeros(len(plans), 3, side_px, side_px, device=device)
    for number, (row, column) in enumerate(QUARTERS):
        x, y = starts[number]
        down = shares[row][:, y : y + part_px]
        across = shares[column][:, x : x + part_px]
        share = down[:, None, :, None] * across[:, None, None, :]
        windows[:, :, y : y + part_px, x : x + part_px].add_(parts[:, number] * share)
    return windows


def _cut(plan: WindowPlan, photos: Sequence[Pixels]) -> list[Pixels]:
    """The part of its image that each view of `plan` shows."""
    boxes = [view.source for view in plan.views]
    return [
        photo[box.y : box.y + box.height, box.x : box.x + box.width]
        for box, photo in zip(boxes, photos, strict=True)
    ]


def _stacks(groups: Sequence[Sequence[Pixels]], device: torch.device) -> list[Tensor]:
    """Each group as a float tensor (V, 3, H, W), 0 to 1; smaller ones have black right and below.

    All travel to the device in one copy, as bytes.
    """
    shapes = [
        (len(group), *(max(source.shape[axis] for source in group) for axis in (0, 1)), 3)
        for group in groups
    ]
    lengths = [math.prod(shape) for shape in shapes]
    host = torch.empty(sum(lengths), dtype=torch.uint8, pin_memory=device.type == "cuda")
    for group, shape, part in zip(groups, shapes, torch.split(host, lengths), strict=True):
        for source, place in zip(group, part.numpy().reshape(shape), strict=True):
            height, width = source.shape[:2]
            place[:height, :width] = source
            place[height:] = 0
            place[:height, width:] = 0
    parts = torch.split(upload(host, device), lengths)
    return [
        part.view(shape).permute(0, 3, 1, 2).float() / 255
        for part, shape in zip(parts, shapes, strict=True)
    ]


def _folded(position: Tensor, length: Tensor, border: Border) -> Tensor:
    """Positions beyond 0 to `length` brought back to where the border takes its pixels from."""
    if border == "symmetric":
        position = length - (length - position % (2 * length)).abs()
    elif border == "reflect":
        last = (length - 1).clamp(min=1)
        position = last - (last - (position - 0.5) % (2 * last)).abs() + 0.5
    elif border == "wrap":
        position = position % length
    return position.clamp(min=0.5).minimum(length - 0.5)


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


def _blurred(windows: Tensor, sigmas_px: Tensor) -> Tensor:
    batch, channels, height, width = windows.shape
    sigma = sigmas_px.clamp(min=1e-3)  # (B, 1)
    image = windows.reshape(1, batch * channels, height, width)
    for taps, axis in zip(_BLUR_TAPS, (3, 2), strict=True):
        offsets = torch.arange(taps, device=windows.device) - taps // 2
        weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
        weights = weights / weights.sum(dim=1, keepdim=True)  # (B, taps)
        shape = (1, taps) if axis == 3 else (taps, 1)
        kernel = weights[:, None].expand(-1, channels, -1).reshape(-1, 1, *shape)
        margin = (taps // 2,) * 2
        padded = F.pad(image, (*margin, 0, 0) if axis == 3 else (0, 0, *margin), mode="reflect")
        image = F.conv2d(padded, kernel, groups=batch * channels)
    return image.reshape(batch, channels, height, width)
