"""Every setting of the network, its windows and its training: frozen dataclasses, without torch.

A weights file carries its `ModelConfig`, so the file alone is enough to rebuild the network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clipcount_cli.errors import WeightsError

DENSITY_SCALE = 60.0  # the network is trained on density x 60: count = sum / 60
GENERIC_PROMPT = "objects"  # asked where nothing says what to count

Interaction = Literal["hierarchical", "naive", "add"]
Readout = Literal["released", "eot"]


@dataclass(frozen=True)
class WindowConfig:
    """How a photograph is cut into model-sized windows."""

    side_px: int = 384  # every image's shorter side is first resized to this
    stride_px: int = 128  # neighbours share two thirds, so few objects are only seen at an edge


@dataclass(frozen=True)
class ClipConfig:
    """The two towers of CLIP, as open_clip builds them. Defaults: OpenAI's ViT-B/16."""

    embed_dim: int = 512
    quick_gelu: bool = True
    image_size_px: int = 224  # a window is resized to this before the first layer
    image_layers: int | tuple[int, ...] = 12  # an int: a ViT; four numbers: a ModifiedResNet
    image_width: int = 768
    patch_size_px: int = 16  # of the ViT; the grid of a ModifiedResNet also has 16 px cells
    context_length: int = 77
    text_width: int = 512
    text_heads: int = 8
    text_layers: int = 12
    vocabulary: tuple[int, ...] = ()  # BPE ids that own an embedding row, all others share row 0;
    # empty: every id of CLIP's tokenizer owns one

    @property
    def convolutional(self) -> bool:
        return not isinstance(self.image_layers, int)

    @property
    def patch_width(self) -> int:
        """Channels of one patch feature: a ModifiedResNet's third stage is 16 times its width."""
        return self.image_width * 16 if self.convolutional else self.image_width

    @property
    def grid_side(self) -> int:
        """Patches along one side of a window (14 for 224 px)."""
        return self.image_size_px // self.patch_size_px


@dataclass(frozen=True)
class ModelConfig:
    """The whole network (arXiv:2305.07304). Defaults: the authors' released model."""

    clip: ClipConfig = field(default_factory=ClipConfig)
    width: int = 512  # channels of the patch-text interaction and of the density decoder's input
    heads: int = 4  # the released checkpoint's; its code's default is 8
    mlp_ratio: float = 4.0
    interaction: Interaction = "hierarchical"
    depth: int = 2  # blocks of the interaction; `add` has none, `hierarchical` always two
    visual_prompts: int = 20  # tokens a layer; 0 leaves the image tower as CLIP made it
    prompted_layers: int = 10
    context_tokens: int = 2  # learned vectors before the prompt
    readout: Readout = "released"  # where the text is read; `eot` sees the whole prompt
    template: str = "{}"  # how a prompt is worded before it is read
    dropout: float = 0.1
    drop_path: float = 0.1
    antialias: bool = False  # of the resize of a window to the image tower's size
    fine_attention: bool = True  # self-attention among the 28 x 28 patches of the second block
    fine_features: bool = False  # add the tower's own 28 x 28 features (ModifiedResNet only)
    text_gate: bool = False  # the prompt scales the patch channels too, instead of only shifting
    decoder_widths: tuple[int, ...] = ()  # channels a level; empty: halved at each level


def to_json(config: Any) -> dict[str, Any]:
    """Any configuration of this file as plain JSON data."""
    return dataclasses.asdict(config)


def model_config_from_json(data: Mapping[str, Any]) -> ModelConfig:
    """Rebuild a `ModelConfig`; raises WeightsError if a field is unknown to this version."""
    return _build(ModelConfig, {**data, "clip": _build(ClipConfig, data.get("clip", {}))})


def _build(kind: type[Any], data: Mapping[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(set(data) - known):
        raise WeightsError(
            f"the weights use settings this version does not know: {', '.join(unknown)}",
            hint="install a newer clipcount-cli",
        )
    as_tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return kind(**as_tuples)
