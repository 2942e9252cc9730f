"""The network in the form in which a CPU counts fastest in bf16: fewer and larger steps.

Image -> count, within step 3 of 5: whoever loads a network to count with packs it.
oneDNN stores the weight of a linear layer in the layout that its matrix unit multiplies, and adds
what follows the product (bias, activation, residual) before it rounds. Visual prompts are the same
for every window: their keys and values are computed once, and padded to a number of keys that
attention processes in whole steps.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from clipcount_cli.counting.image_tower import ImageTower, attend, embed
from clipcount_cli.counting.model import MLP, ClipCount
from clipcount_cli.devices import multiplies_bf16

KEYS_AT_ONCE = 32  # attention to 224 keys takes a third to a half of the time that 217 take
QUICK_GELU_SLOPE = 1.702  # QuickGELU(x) = x * sigmoid(1.702 x)


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies packed weights of this type on this device."""
    return bool(
        device.type == "cpu"
        and dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and multiplies_bf16(device)
    )


@torch.no_grad()
def packed(model: ClipCount) -> ClipCount:
    """`model` itself, from now on for counting alone: trained or saved it cannot be any more.

    Packs the image tower, if it is CLIP's ViT, and all linear layers after it. Left as they are:
    the text tower, since a prompt has too few tokens, and networks of convolutions, which would
    gain nothing. Unchanged if `can_pack` is false.
    """
    clip, weight = model.config.clip, model.patch_proj.weight
    if clip.convolutional or not can_pack(weight.device, weight.dtype):
        return model
    tower = cast(ImageTower, model.image_tower)
    model.image_tower = PackedTower(tower, model.clip.visual, clip.quick_gelu)
    for name in ("patch_proj", "contrast_proj", "interaction"):
        setattr(model, name, _packed(getattr(model, name)))
    return model


def _packed(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Linear):
        return PackedLinear(module.weight, module.bias)
    if isinstance(module, MLP):
        return PackedMLP(module.fc1, module.fc2)
    for name, child in module.named_children():
        setattr(module, name, _packed(child))
    return module


class PackedLinear(nn.Module):
    """A linear layer that may also apply an activation, or add a residual, before it rounds."""

    weight: Tensor  # opaque
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        reordered = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self.register_buffer("weight", reordered, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, values: Tensor, activation: str = "none") -> Tensor:
        """values: (..., inputs) -> (..., outputs); activation: none, gelu or swish."""
        algorithm = "none" if activation == "gelu" else ""  # none: by erf, as F.gelu
        linear = torch.ops.mkldnn._linear_pointwise.default
        return cast(Tensor, linear(values, self.weight, self.bias, activation, [], algorithm))

    def added_to(self, residual: Tensor, values: Tensor) -> Tensor:
        """`residual` plus what `forward` returns for `values`."""
        linear = torch.ops.mkldnn._linear_pointwise.binary
        return cast(Tensor, linear(values, residual, self.weight, self.bias, "add"))


class PackedMLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, fc1: nn.Linear, fc2: nn.Linear) -> None:
        super().__init__()
        self.fc1, self.fc2 = (PackedLinear(layer.weight, layer.bias) for layer in (fc1, fc2))

    def forward(self, patches: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(self.fc1(patches, "gelu")))


class PackedBlock(nn.Module):
    """A block of open_clip's tower over `tokens`, and the prompts `seen` in it (1, prompts, 2D)."""

    def __init__(self, block: Any, seen: Tensor | None, tokens: int, quick_gelu: bool) -> None:
        super().__init__()
        attention, fc1, fc2 = block.attn, block.mlp.c_fc, block.mlp.c_proj
        # swish(x) = x * sigmoid(x), so QuickGELU(x) is swish(1.702 x) / 1.702.
        slope = QUICK_GELU_SLOPE if quick_gelu else 1.0
        self.activation = "swish" if quick_gelu else "gelu"
        self.heads: int = attention.num_heads
        self.seen, self.mask = _filled_up(seen, tokens)
        self.ln_1, self.ln_2 = block.ln_1, block.ln_2
        self.qkv = PackedLinear(attention.in_proj_weight, attention.in_proj_bias)
        self.proj = PackedLinear(attention.out_proj.weight, attention.out_proj.bias)
        self.fc1 = PackedLinear(fc1.weight * slope, fc1.bias * slope)
        self.fc2 = PackedLinear(fc2.weight / slope, fc2.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of one layer (B, 1 + N, D) -> of the next."""
        mixed = attend(self.qkv(self.ln_1(tokens)), self.seen, self.heads, self.mask)
        tokens = self.proj.added_to(tokens, mixed)
        return self.fc2.added_to(tokens, self.fc1(self.ln_2(tokens), self.activation))


def _filled_up(seen: Tensor | None, tokens: int) -> tuple[Tensor | None, Tensor | None]:
    """Pad `seen` with keys that the mask hides; returns both, the mask as (1, 1, 1, keys)."""
    if seen is None:
        return None, None
    prompts = seen.shape[1]
    unseen = -(prompts + tokens) % KEYS_AT_ONCE
    mask = seen.new_zeros(1, 1, 1, prompts + unseen + tokens)
    mask[..., prompts : prompts + unseen] = -math.inf
    return nn.functional.pad(seen, (0, 0, 0, unseen)), mask


class PackedTower(nn.Module):
    """`ImageTower` and the blocks of open_clip's tower, which it takes out of `visual`."""

    def __init__(self, tower: ImageTower, visual: Any, quick_gelu: bool) -> None:
        super().__init__()
        self.norm = tower.norm if tower.prompted else nn.Identity()
        self.blocks = nn.ModuleList()
        blocks = visual.transformer.resblocks
        seen_by_layer = tower.seen_prompts(visual, 1)
        tokens = len(visual.positional_embedding)
        for layer, block in enumerate(blocks):
            self.blocks.append(PackedBlock(block, next(seen_by_layer), tokens, quick_gelu))
            blocks[layer] = nn.Identity()  # so that memory never holds both forms of all blocks

    def forward(self, visual: Any, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, 224, 224) -> tokens of the last layer, [CLS] first."""
        tokens = embed(visual, pixels)
        for block in self.blocks:
            tokens = block(tokens)
        return cast(Tensor, self.norm(tokens))
