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
    config: ModelConfig = _build(
        ModelConfig, {**data, "clip": _build(ClipConfig, data.get("clip", {}))}
    )
    return config


def _build(kind: type[Any], data: Mapping[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(set(data) - known):
        raise WeightsError(
            f"the weights use settings this version does not know: {', '.join(unknown)}",
            hint="install a newer clipcount-cli",
        )
    as_tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return kind(**as_tuples)


Recipe = Literal["default", "paper", "released"]
Tuning = Literal["prompts", "frozen", "full"]
Contrast = Literal["both", "patches", "none"]
Schedule = Literal["cosine", "step"]
Mask = Literal["pixel", "loss", "none"]
Borders = Literal["plain", "mirrored"]


def _said(default: Any, help_text: str) -> Any:
    """A field whose meaning is also its option's help."""
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained; each field is an option of `train`. Defaults: recipe `default`."""

    interaction: Interaction = _said("hierarchical", "how patches and prompt meet")
    tuning: Tuning = _said("prompts", "what of CLIP learns: visual prompts beside it, none, all")
    contrast: Contrast = _said("both", "contrastive loss: patches and text, patches only, none")
    readout: Readout = _said("eot", "where the text is read; `eot` sees the whole prompt")

    epochs: int = _said(200, "passes over the training photographs, both stages together")
    contrast_epochs: int = _said(0, "first epochs that have the contrastive loss alone")
    batch: int = _said(32, "photographs a step, over all processes")
    learning_rate: float = _said(1e-4, "of AdamW, at its highest")
    beta1: float = _said(0.9, "AdamW's memory of gradients")
    beta2: float = _said(0.95, "AdamW's memory of squared gradients")
    weight_decay: float = _said(0.05, "of AdamW")
    schedule: Schedule = _said("cosine", "learning rate: down to 0 at the end, or in steps")
    warmup_share: float = _said(0.03, "share of all steps in which the learning rate rises")
    step_epochs: int = _said(100, "epochs between two steps of schedule `step`")
    step_factor: float = _said(0.33, "what a step of schedule `step` multiplies by")
    clip_norm: float = _said(1.0, "longest gradient, longer ones are shortened; 0: any")
    average: float = _said(0.999, "decay of the averaged weights that are saved; 0: the last ones")

    sigma_px: float = _said(4.0, "spread of a dot; from 3.3 px a sigmoid can reach its peak")
    count_doubles: bool = _said(True, "two dots in one pixel are two objects")
    mask: Mask = _said("pixel", "what is left out of the density loss at random")
    mask_share: float = _said(0.8, "share of pixels that the mask keeps")
    density_weight: float = _said(100.0, "of the density's mean squared error")
    count_weight: float = _said(0.1, "of the error of the count in 4 x 4 cells")
    contrast_weight: float = _said(0.1, "of the contrastive loss beside the density's")
    negative_weight: float = _said(0.1, "of the contrast with the other prompts of a photograph")
    tau: float = _said(0.07, "temperature of the contrastive loss")
    normalize_contrast: bool = _said(False, "divide the contrastive loss by the occupied patches")
    contrast_empty: bool = _said(False, "contrastive loss also where a prompt names nothing")
    occupied_above: float = _said(0.1, "a patch is occupied where the target is above this")

    absent_prompts: int = _said(2, "classes that are not there, asked of each photograph")
    class_mosaic_share: float = _said(0.25, "windows that join photographs of different classes")
    mosaic_share: float = _said(0.05, "windows that join four parts of one photograph")
    changed_share: float = _said(0.4, "windows with noise, other colours, blur and affine change")
    noise: float = _said(0.1, "standard deviation of the noise")
    brightness: float = _said(0.3, "largest change of brightness")
    contrast_jitter: float = _said(0.15, "largest change of contrast")
    saturation: float = _said(0.2, "largest change of saturation")
    hue: float = _said(0.2, "largest turn of the hue, 0.5 is half a circle")
    blur_px: float = _said(2.0, "largest sigma of the blur")
    rotation_deg: float = _said(15.0, "largest rotation")
    zoom: float = _said(0.2, "largest enlargement, and reduction")
    shear_deg: float = _said(10.0, "largest shear")
    shift: float = _said(0.2, "largest shift, as a share of the photograph")
    borders: Borders = _said("plain", "beyond the photograph: black or stretched, or also mirrored")

    validate_every: int = _said(10, "epochs from one validation to the next")
    seed: int = _said(0, "of all randomness")


PAPER = TrainConfig(
    epochs=230,
    contrast_epochs=30,
    schedule="step",
    warmup_share=0.0,
    clip_norm=0.0,
    average=0.0,
    sigma_px=1.0,
    count_doubles=False,
    mask="none",
    density_weight=1.0,
    count_weight=0.0,
    contrast_weight=0.0,
    negative_weight=0.0,
    contrast_empty=True,
    occupied_above=0.0,
    absent_prompts=0,
    class_mosaic_share=0.0,
    mosaic_share=0.3,
    changed_share=0.2,
    borders="mirrored",
)

RECIPES: dict[Recipe, TrainConfig] = {
    "default": TrainConfig(),
    "paper": PAPER,
    "released": dataclasses.replace(
        PAPER, readout="released", epochs=220, contrast_epochs=21, mask="loss"
    ),
}
