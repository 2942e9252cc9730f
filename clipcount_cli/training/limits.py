"""Which hyper-parameters make sense, alone and together: the others are refused before anything.

[limits.py] -> run.py. A value out of its range would end in a traceback, or be trained silently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from clipcount_cli import distributed
from clipcount_cli.config import DENSITY_SCALE, MAX_TILES, ModelConfig, TrainConfig, WindowConfig
from clipcount_cli.counting.prompts import ENDS
from clipcount_cli.errors import UsageError

_MAX_SEED = 2**63 - 1  # torch takes no larger one

Holds = Callable[[float], bool]
# The range in words -> whether a number lies in it, and the options that have it.
LIMITS: Mapping[str, tuple[Holds, tuple[str, ...]]] = {
    "1 or more": (
        lambda x: x >= 1,
        ("heads", "depth", "prompted_layers", "epochs", "batch", "step_epochs", "validate_every"),
    ),
    "0 or more": (
        lambda x: x >= 0,
        (
            *("visual_prompts", "context_tokens", "contrast_epochs", "weight_decay", "grad_clip"),
            *("density_weight", "count_weight", "contrast_weight", "negative_weight"),
            *("occupied_threshold", "absent_prompts", "noise", "blur_px"),
            *("cache_gb", "save_minutes"),
        ),
    ),
    "above 0": (lambda x: x > 0, ("learning_rate", "step_factor", "sigma_px", "tau")),
    "from 0 to 1": (
        lambda x: 0 <= x <= 1,
        (
            *("warmup_fraction", "class_mosaic_prob", "mosaic_prob", "augment_prob"),
            *("brightness", "contrast_jitter", "saturation", "translate"),
        ),
    ),
    "from 0 to below 1": (
        lambda x: 0 <= x < 1,
        ("dropout", "drop_path", "beta1", "beta2", "ema_decay", "scale"),
    ),
    f"from 1 to {MAX_TILES}": (lambda x: 1 <= x <= MAX_TILES, ("tiles",)),
    "above 0, at most 1": (lambda x: 0 < x <= 1, ("mask_keep_fraction",)),
    "from 0 to 0.5": (lambda x: 0 <= x <= 0.5, ("hue",)),
    "from 0 to 180": (lambda x: 0 <= x <= 180, ("rotation_deg",)),
    "from 0 to below 90": (lambda x: 0 <= x < 90, ("shear_deg",)),
    f"from 1 to {WindowConfig.side_px}": (
        lambda x: 1 <= x <= WindowConfig.side_px,
        ("target_side_px",),
    ),
    f"from 0 to {_MAX_SEED}": (lambda x: 0 <= x <= _MAX_SEED, ("seed",)),
}


def check_training(config: TrainConfig) -> None:
    """Raise UsageError if an option is out of its range, or two of them contradict."""
    for words, (holds, names) in LIMITS.items():
        for name in names:
            value = getattr(config, name)
            if not (math.isfinite(value) and holds(value)):
                raise UsageError(f"--{name.replace('_', '-')} must be {words}, not {value}")
    world = distributed.world_size()
    if config.batch % world:
        raise UsageError(f"--batch {config.batch} cannot be shared by {world} processes")
    shares = config.class_mosaic_prob + config.mosaic_prob + config.augment_prob
    if shares > 1:
        raise UsageError(
            f"the shares of mosaics and changed windows add up to {shares:g}, more than 1"
        )
    if config.contrast != "none":
        _check_contrast(config)


def _check_contrast(config: TrainConfig) -> None:
    if config.contrast_epochs >= config.epochs:
        raise UsageError(
            f"all {config.epochs} epochs are the contrastive stage, which learns no density: "
            f"--contrast-epochs is {config.contrast_epochs}",
            hint="lower --contrast-epochs or raise --epochs",
        )
    peak = DENSITY_SCALE / (2 * math.pi * config.sigma_px**2)
    if config.occupied_threshold >= peak:
        raise UsageError(
            f"--occupied-threshold must be below {peak:.3g}, where a dot of --sigma-px "
            f"{config.sigma_px:g} peaks, not {config.occupied_threshold:g}"
        )


def check_network(config: ModelConfig) -> None:
    """Raise UsageError if the network to train cannot compute."""
    if config.width % config.heads:
        raise UsageError(
            f"--heads must divide the network's width of {config.width}, not {config.heads}"
        )
    room = config.clip.context_length - ENDS
    if config.context_tokens >= room:
        raise UsageError(
            f"--context-tokens must be below {room}, or no prompt can be read, "
            f"not {config.context_tokens}"
        )
