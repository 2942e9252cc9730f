"""`clipcount eval`: a data set's true counts against a model's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipcount_cli.commands.options import (
    DataOption,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    PartOption,
    Precision,
    PrecisionOption,
    WeightsOption,
    open_counter,
    with_common_options,
)

SplitOption = Annotated[
    str, typer.Option(metavar="NAME", help="Which split; `all` takes every picture there is.")
]
PromptCheckOption = Annotated[
    bool, typer.Option("--prompt-check", help="Also ask for classes that are not there: NMN, PCCN.")
]
EvalCsvOption = Annotated[
    Path | None, typer.Option(metavar="FILE.csv", help="A row per picture and prompt; - is stdout.")
]
PlotOption = Annotated[
    Path | None, typer.Option(metavar="FILE.png", help="Draw predicted against true counts.")
]
WorstOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Draw the ten worst pictures with their density.")
]


@with_common_options
def evaluate(
    data: DataOption,
    split: SplitOption = "test",
    part: PartOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    json: JsonOption = False,
    csv: EvalCsvOption = None,
    plot: PlotOption = None,
    worst: WorstOption = None,
    prompt_check: PromptCheckOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure how well a model counts: a data set's true counts against its answers."""
    from clipcount_cli.data.datasets import load_dataset
    from clipcount_cli.evaluation.report import OutputFiles, publish, run

    files = OutputFiles(csv, plot, worst)
    files.check(json, overwrite)
    dataset = load_dataset(data, part, [split])
    counter = open_counter(weights, device, precision)
    report = run(counter, dataset, split, prompt_check)
    publish(report, files, counter, dataset, json)
    raise typer.Exit(report.exit_code)
