"""Every setting of the network, its windows and its training: frozen dataclasses, without torch.

A weights file carries its `ModelConfig`, so the file alone is enough to rebuild the network.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from clipcount_cli.errors import WeightsError

DENSITY_SCALE = 60.0  # the network is trained on density x 60: count = sum / 60
BPE_ROWS = 49_408  # ids of CLIP's tokenizer
EOT = 49_407  # the id that ends a prompt
MAX_TOWER_SIDE_PX = 1024  # of an image tower's input; no tensor of a convolutional tower limits it
GENERIC_PROMPT = "objects"  # counted if the user names nothing else
MAX_TILES = 16  # 16 x 384 px; a 4:3 image then has some 2,900 windows

COMPACT_CHANNELS = (24, 40, 112, 1280)  # of EfficientNet-Lite0 at strides 4, 8, 16 and 32

Interaction = Literal["hierarchical", "naive", "add"]
Readout = Literal["released", "eot"]
ImageTowerName = Literal["clip", "efficientnet-lite0"]


@dataclass(frozen=True)
class WindowConfig:
    """How an image is cut into model-sized windows."""

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
    image_tower: ImageTowerName = "clip"  # "efficientnet-lite0": both towers are compact
    text_row_width: int = 64  # channels of an embedding row, of the compact phrase encoder
    vocabulary: tuple[int, ...] = ()  # BPE ids that own an embedding row, all others share row 0;
    # empty: every id of CLIP's tokenizer owns one

    @property
    def compact(self) -> bool:
        """Whether both towers are those of towers.py."""
        return self.image_tower != "clip"

    @property
    def convolutional(self) -> bool:
        return self.compact or not isinstance(self.image_layers, int)

    @property
    def layers(self) -> int:
        """Layers of both towers."""
        image = self.image_layers
        return self.text_layers + (image if isinstance(image, int) else sum(image))

    @property
    def patch_width(self) -> int:
        """Channels of one patch feature: a ModifiedResNet's third stage is 16 times its width."""
        if self.compact:
            return COMPACT_CHANNELS[2]
        return self.image_width * 16 if self.convolutional else self.image_width

    @property
    def fine_width(self) -> int:
        """Channels of a convolutional tower's features at twice the patches' resolution."""
        return COMPACT_CHANNELS[1] if self.compact else self.patch_width // 2

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
    visual_prompts: int = 20  # tokens per layer; 0: the image tower is CLIP's, unchanged
    prompted_layers: int = 10
    context_tokens: int = 2  # learned vectors before the prompt
    readout: Readout = "released"  # where the text is read; `eot` sees the whole prompt
    template: str = "{}"  # how a prompt is worded before it is read
    dropout: float = 0.1
    drop_path: float = 0.1
    antialias: bool = False  # of the resize of a window to the image tower's size
    fine_attention: bool = True  # self-attention among the 28 x 28 patches of the second block
    fine_features: bool = False  # add the tower's own 28 x 28 features (ModifiedResNet only)
    finest_features: bool = False  # add the tower's features of stride 4 (compact towers only)
    text_gate: bool = False  # the prompt scales the patch channels too, instead of only shifting
    decoder_widths: tuple[int, ...] = ()  # channels per level; empty: halved at each level
    attribute_width: int = 16  # compact towers: channels through which the decoder reads a prompt
    attribute_ids: tuple[int, ...] = ()  # compact towers: BPE ids of words that describe a noun
    patch_colours: bool = False  # compact towers: patches also carry the window's own colours
    colour_channels: int = 0  # compact towers: channels that match colours with words; 0: none
    relevance_shift: float = 0.0  # compact towers: added to relevance, calibrated on photos
    bank: tuple[str, ...] = ()  # compact towers: nouns that a prompt is compared with
    taught: tuple[str, ...] = ()  # words and phrases it learned to count; empty: not recorded

    @property
    def finest_width(self) -> int:
        """Channels of stride 4 that the decoder adds: features, and where the colour matches."""
        features = COMPACT_CHANNELS[0] if self.finest_features else 0
        return features + (1 if features and self.colour_channels else 0)

    @property
    def read_width(self) -> int:
        """Channels of the text that the patch-text interaction reads."""
        return self.attribute_width if self.clip.compact else self.clip.embed_dim

    @property
    def layers(self) -> int:
        """Layers of the whole network."""
        return self.clip.layers + self.depth + len(self.decoder_widths)


def to_json(config: Any) -> dict[str, Any]:
    """Any configuration of this file as plain JSON data."""
    return dataclasses.asdict(config)


def model_config_from_json(data: Mapping[str, Any]) -> ModelConfig:
    """Rebuild a `ModelConfig`.

    Raises WeightsError if a field is unknown to this version, ValueError or TypeError if a value
    cannot be one of a network.
    """
    config: ModelConfig = _build(
        ModelConfig, {**data, "clip": _build(ClipConfig, data.get("clip", {}))}
    )
    if config.heads < 1 or config.width % config.heads:
        raise ValueError(f"heads {config.heads} do not divide width {config.width}")
    if config.clip.image_size_px > MAX_TOWER_SIDE_PX:
        raise ValueError(f"image_size_px is {config.clip.image_size_px}")
    if any(number >= BPE_ROWS for number in config.clip.vocabulary):
        raise ValueError(f"vocabulary has ids of {BPE_ROWS} or more")
    if any(number >= BPE_ROWS for number in config.attribute_ids):
        raise ValueError(f"attribute_ids has ids of {BPE_ROWS} or more")
    if config.template.count("{}") != 1 or set("{}") & set(config.template.replace("{}", "")):
        raise ValueError(f"template is {reprlib.repr(config.template)}")
    return config


def _build(kind: type[Any], data: Mapping[str, Any]) -> Any:
    if not isinstance(data, Mapping):
        raise TypeError(f"{kind.__name__} is a {type(data).__name__}")
    types = get_type_hints(kind)
    if unknown := sorted(set(data) - set(types)):
        raise WeightsError(
            f"the weights use settings this version does not know: {', '.join(unknown)}",
            hint="install a newer clipcount-cli",
        )
    as_tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    for name, value in as_tuples.items():
        if not _fits(value, types[name]):
            raise ValueError(f"{name} is {reprlib.repr(value)}")
    return kind(**as_tuples)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a field of type `kind` may have this value; no number is below 0."""
    choices = get_args(kind)
    if get_origin(kind) is Literal:
        return value in choices
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(item, choices[0]) for item in value)
    if choices:
        return any(_fits(value, choice) for choice in choices)
    if kind in (int, float):
        return type(value) in (int, kind) and value >= 0
    return isinstance(value, kind)


class Recipe(str, Enum):
    """The trainings that `train --recipe` knows.

    `default` makes a model that follows its prompt. `paper` is arXiv:2305.07304. `released` is what
    the authors' code does: the text is read before its last token, so that a prompt of one token
    has no effect; no prompt is ever absent; a dot's target peaks at 9.55 although the network only
    reaches 1; the mask scales an averaged loss instead of leaving pixels out; the contrastive stage
    has 21 epochs of 220, and the learning rate's steps count from the first.
    """

    default = "default"
    paper = "paper"
    released = "released"


Tuning = Literal["prompts", "frozen", "full"]
Contrast = Literal["both", "patches", "none"]
Schedule = Literal["cosine", "step"]
DensityLoss = Literal["mse", "bce"]
Mask = Literal["pixel", "loss", "none"]
Borders = Literal["plain", "mirrored"]


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained; each field is an option of `train`. Defaults: recipe `default`."""

    interaction: Annotated[Interaction, "how image patches and prompt are combined"] = (
        "hierarchical"
    )
    tuning: Annotated[
        Tuning, "parts of CLIP to train: only the added visual prompts, none, or all"
    ] = "prompts"
    contrast: Annotated[
        Contrast, "contrastive loss: on patches and text, on patches only, or none"
    ] = "both"
    readout: Annotated[
        Readout,
        "how much of a prompt is read: all of it (eot), or all but its last token (released)",
    ] = "eot"

    heads: Annotated[int, "number of attention heads of the interaction"] = 4
    depth: Annotated[int, "number of blocks with --interaction naive"] = 2
    visual_prompts: Annotated[int, "number of learned tokens per layer of the image tower"] = 20
    prompted_layers: Annotated[int, "number of layers of the image tower that have such tokens"] = (
        10
    )
    context_tokens: Annotated[int, "number of learned vectors in front of the prompt"] = 2
    dropout: Annotated[float, "probability of dropping a channel"] = 0.1
    drop_path: Annotated[float, "probability of dropping a residual branch"] = 0.1

    tiles: Annotated[
        int,
        "resize the shorter side to N times 384 pixels, for small objects in large images",
    ] = 1
    epochs: Annotated[int, "passes over the training images, including --contrast-epochs"] = 200
    contrast_epochs: Annotated[int, "number of first epochs with only the contrastive loss"] = 0
    batch: Annotated[int, "images per step, across all processes"] = 32
    learning_rate: Annotated[float, "peak learning rate"] = 1e-4
    beta1: Annotated[float, "decay of AdamW's mean of gradients"] = 0.9
    beta2: Annotated[float, "decay of AdamW's mean of squared gradients"] = 0.95
    weight_decay: Annotated[float, "weight decay of AdamW"] = 0.05
    schedule: Annotated[
        Schedule, "decay of the learning rate: along a cosine to 0, or in steps"
    ] = "cosine"
    warmup_fraction: Annotated[
        float, "fraction of all steps during which the learning rate rises"
    ] = 0.03
    step_epochs: Annotated[int, "epochs from one decay to the next with --schedule step"] = 100
    step_factor: Annotated[
        float, "factor by which each such decay multiplies the learning rate"
    ] = 0.33
    grad_clip: Annotated[float, "maximum norm of the gradients; 0: no clipping"] = 1.0
    ema_decay: Annotated[
        float, "decay of the moving average of the weights, which is what is saved; 0: no average"
    ] = 0.999
    freeze_norms: Annotated[bool, "keep the initial statistics of the batch norms"] = True

    sigma_px: Annotated[
        float,
        "standard deviation of a dot's Gaussian in pixels; above 3.1 its peak is below 1, which a "
        "sigmoid can reach",
    ] = 4.0
    target_side_px: Annotated[int, "side of the density maps that are compared, in pixels"] = 192
    count_duplicates: Annotated[bool, "count two dots in one pixel as two objects"] = True
    mask: Annotated[
        Mask, "random mask: on pixels of the density loss, on the loss itself, or none"
    ] = "pixel"
    mask_keep_fraction: Annotated[float, "fraction of pixels that the mask keeps"] = 0.8
    density_loss: Annotated[DensityLoss, "loss per pixel: squared error or cross-entropy"] = "bce"
    density_weight: Annotated[float, "weight of the density loss"] = 10.0
    count_weight: Annotated[float, "weight of the error of the counts in a grid of 4 x 4 cells"] = (
        0.12
    )
    contrast_weight: Annotated[float, "weight of the contrastive loss"] = 0.1
    negative_weight: Annotated[
        float, "weight of the contrastive loss between the prompts of one image"
    ] = 0.1
    tau: Annotated[float, "temperature of the contrastive loss"] = 0.07
    normalize_contrast: Annotated[
        bool, "divide the contrastive loss by the number of occupied patches"
    ] = False
    contrast_empty: Annotated[bool, "also apply the contrastive loss to absent prompts"] = False
    occupied_threshold: Annotated[float, "target density above which a patch is occupied"] = 0.1

    absent_prompts: Annotated[int, "number of absent classes that are queried per image"] = 1
    class_mosaic_prob: Annotated[float, "probability of a mosaic of different classes"] = 0.25
    mosaic_prob: Annotated[float, "probability of a mosaic of four parts of one image"] = 0.05
    augment_prob: Annotated[
        float, "probability of the changes below: noise, colours, blur, affine transform"
    ] = 0.4
    noise: Annotated[float, "standard deviation of the noise"] = 0.1
    brightness: Annotated[float, "largest relative change of brightness"] = 0.3
    contrast_jitter: Annotated[float, "largest relative change of contrast"] = 0.15
    saturation: Annotated[float, "largest relative change of saturation"] = 0.2
    hue: Annotated[float, "largest shift of the hue; 0.5 is half the colour circle"] = 0.2
    blur_px: Annotated[float, "largest sigma of the blur, in pixels"] = 2.0
    rotation_deg: Annotated[float, "largest rotation, in degrees"] = 15.0
    scale: Annotated[float, "largest relative change of size"] = 0.2
    shear_deg: Annotated[float, "largest shear, in degrees"] = 10.0
    translate: Annotated[float, "largest shift, as a fraction of the image"] = 0.2
    borders: Annotated[
        Borders, "fill beyond the edges of an image: black or stretched, or also mirrored"
    ] = "plain"

    cache_gb: Annotated[
        float, "memory for decoded images, in GB; the rest goes to a file in RUN"
    ] = 8.0
    save_minutes: Annotated[float, "minutes between two checkpoints"] = 10.0
    validate_every: Annotated[int, "epochs between two validations"] = 10
    seed: Annotated[int, "random seed"] = 0


PAPER = TrainConfig(
    epochs=230,
    contrast_epochs=30,
    schedule="step",
    warmup_fraction=0.0,
    grad_clip=0.0,
    ema_decay=0.0,
    sigma_px=1.0,
    target_side_px=384,
    count_duplicates=False,
    mask="none",
    density_loss="mse",
    density_weight=1.0,
    count_weight=0.0,
    contrast_weight=0.0,
    negative_weight=0.0,
    contrast_empty=True,
    occupied_threshold=0.0,
    absent_prompts=0,
    class_mosaic_prob=0.0,
    mosaic_prob=0.3,
    augment_prob=0.2,
    borders="mirrored",
)

RECIPES: dict[Recipe, TrainConfig] = {
    Recipe.default: TrainConfig(),
    Recipe.paper: PAPER,
    Recipe.released: dataclasses.replace(
        PAPER, readout="released", epochs=220, contrast_epochs=21, mask="loss"
    ),
}


def shown_default(name: str) -> str:
    """A hyper-parameter's default; if recipes differ, the default of each."""
    values = {r.value: _yes_no(getattr(config, name)) for r, config in RECIPES.items()}
    if len(set(values.values())) == 1:
        return f"default: {values['default']}"
    return ", ".join(f"{recipe}: {value}" for recipe, value in values.items())


def _yes_no(value: Any) -> Any:
    return ("no", "yes")[value] if isinstance(value, bool) else value


_FORMER_FIELDS = {
    "average": "ema_decay",
    "changed_share": "augment_prob",
    "class_mosaic_share": "class_mosaic_prob",
    "clip_norm": "grad_clip",
    "count_doubles": "count_duplicates",
    "mask_share": "mask_keep_fraction",
    "mosaic_share": "mosaic_prob",
    "occupied_above": "occupied_threshold",
    "shift": "translate",
    "warmup_share": "warmup_fraction",
    "zoom": "scale",
}
_FORMER_LOSSES = {"squared": "mse", "entropy": "bce"}


def train_config_from_json(data: Mapping[str, Any]) -> TrainConfig:
    """Rebuild a `TrainConfig`, also of a run that was started before fields were renamed."""
    named = {_FORMER_FIELDS.get(name, name): value for name, value in data.items()}
    loss = named["density_loss"]
    return TrainConfig(**{**named, "density_loss": _FORMER_LOSSES.get(loss, loss)})
