"""`clipcount train`: the options of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clipcount_cli import console, distributed
from clipcount_cli.commands.fields import with_fields
from clipcount_cli.commands.options import (
    DeviceOption,
    OverwriteOption,
    PartOption,
    Precision,
    PrecisionOption,
    with_common_options,
)
from clipcount_cli.config import Recipe, TrainConfig, shown_default

InitOption = Annotated[
    str | None,
    typer.Option(
        metavar="clip|tiny|NAME|FILE", help="What to start from: clip (default), or weights."
    ),
]
TrainDataOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The data set: FSC-147, CARPK, ShanghaiTech, or your own images and points.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option(metavar="RUN", help="Folder of this run. Default: runs/<date-time>.")
]
ResumeOption = Annotated[
    Path | None, typer.Option(metavar="RUN", help="Go on exactly where this run stopped.")
]
RecipeOption = Annotated[
    Recipe | None,
    typer.Option(help="default: obeys its prompt; paper; released: as the authors' code."),
]


@with_common_options
@with_fields(TrainConfig, "hyper_parameters", "Hyper-parameters", shown_default)
def train(
    data: TrainDataOption = None,
    out: OutOption = None,
    resume: ResumeOption = None,
    init: InitOption = None,
    recipe: RecipeOption = None,
    part: PartOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    overwrite: OverwriteOption = False,
    hyper_parameters: dict[str, Any] | None = None,
) -> None:
    """Train on a data set, or fine-tune; prints the best weights' file."""
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
