"""`clipcount train`: options for training and fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clipcount_cli import console, distributed
from clipcount_cli.commands.fields import with_fields
from clipcount_cli.commands.options import (
    DATA_HELP,
    RUN,
    DeviceOption,
    Precision,
    PrecisionOption,
    with_common_options,
)
from clipcount_cli.config import Recipe, TrainConfig, shown_default

EXAMPLES = """clipcount train --data my-data/ --init tiny --out runs/mine
clipcount train --resume runs/mine
clipcount count photo.jpg apples --weights runs/mine"""

PANELS = {  # of `--help`: the fields of TrainConfig
    RUN: ("tiles", "epochs", "batch", "learning_rate", "validate_every", "seed"),
    "Model": (
        *("tuning", "readout", "interaction", "depth", "heads", "visual_prompts"),
        *("prompted_layers", "context_tokens", "dropout", "drop_path"),
    ),
    "Optimizer": (
        *("schedule", "warmup_fraction", "step_epochs", "step_factor", "beta1", "beta2"),
        *("weight_decay", "grad_clip", "ema_decay", "freeze_norms"),
    ),
    "Loss": (
        *("density_loss", "density_weight", "count_weight", "sigma_px", "target_side_px"),
        *("count_duplicates", "mask", "mask_keep_fraction", "contrast", "contrast_epochs"),
        *("contrast_weight", "negative_weight", "tau", "normalize_contrast", "contrast_empty"),
        "occupied_threshold",
    ),
    "Augmentation": (
        *("absent_prompts", "class_mosaic_prob", "mosaic_prob", "augment_prob", "noise"),
        *("brightness", "contrast_jitter", "saturation", "hue", "blur_px", "rotation_deg"),
        *("scale", "shear_deg", "translate", "borders"),
    ),
    "Memory and checkpoints": ("cache_gb", "save_minutes"),
}

DataOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help=f"{DATA_HELP} Required unless --resume is given.", rich_help_panel=RUN
    ),
]
PartOption = Annotated[
    str | None, typer.Option(metavar="A|B", help="Part of ShanghaiTech.", rich_help_panel=RUN)
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN", help="Folder for this run. Default: runs/DATE_TIME.", rich_help_panel=RUN
    ),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Resume a run exactly where it stopped; no other option is needed.",
        rich_help_panel=RUN,
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier run.", rich_help_panel=RUN)
]
InitOption = Annotated[
    str | None,
    typer.Option(
        metavar="clip|NAME|FILE|RUN",
        help="Weights to start from: clip (default, with a new head), tiny, another installed "
        "name, a file, or the folder of an earlier run, for its best weights.",
        rich_help_panel=RUN,
    ),
]
RecipeOption = Annotated[
    Recipe | None,
    typer.Option(
        metavar="NAME",
        help="Set of hyper-parameters: default (the model follows its prompt), paper (as "
        "published), or released (as in the authors' code).",
        rich_help_panel=RUN,
    ),
]


@with_common_options
@with_fields(TrainConfig, "hyper_parameters", PANELS, shown_default)
def train(
    *,
    data: DataOption = None,
    part: PartOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = None,
    init: InitOption = None,
    recipe: RecipeOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    hyper_parameters: dict[str, Any] | None = None,
) -> None:
    """Train or fine-tune on a data set and print the path of the best weights."""
    from clipcount_cli.training import run as training

    request = training.TrainRequest(
        data=data,
        out=out,
        init=init,
        recipe=recipe,
        part=part,
        device=device,
        precision=precision.value,
        hyper_parameters=hyper_parameters or {},
        overwrite=overwrite,
    )
    run = training.train(request) if resume is None else training.resume(resume, request)
    if distributed.is_first():
        console.show_line(run.best)
