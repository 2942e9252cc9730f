"""`clipcount eval`: compare the counts of a model with those of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipcount_cli.commands.options import (
    OUTPUT,
    DataOption,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    PartOption,
    Precision,
    PrecisionOption,
    TilesOption,
    WeightsOption,
    open_counter,
    parse_tiles,
    with_common_options,
)

EXAMPLES = """clipcount eval --data FSC147_384_V2/ --split test
clipcount eval --data my-data/ --weights runs/mine --plot errors.png"""

SplitOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Split to evaluate on, such as train, val or test; all: every image.",
        rich_help_panel="Input",
    ),
]
PromptCheckOption = Annotated[
    bool,
    typer.Option(
        "--prompt-check",
        help="Also count classes that are absent from an image; adds the figures NMN and PCCN.",
        rich_help_panel="Input",
    ),
]
CsvOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.csv",
        help="Write one row per image and prompt; - writes to standard output.",
        rich_help_panel=OUTPUT,
    ),
]
PlotOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.png",
        help="Plot predicted against true counts.",
        rich_help_panel=OUTPUT,
    ),
]
WorstOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Draw heatmaps of the ten images with the largest errors.",
        rich_help_panel=OUTPUT,
    ),
]


@with_common_options
def evaluate(
    *,
    data: DataOption,
    split: SplitOption = "test",
    part: PartOption = None,
    prompt_check: PromptCheckOption = False,
    json: JsonOption = False,
    csv: CsvOption = None,
    plot: PlotOption = None,
    worst: WorstOption = None,
    overwrite: OverwriteOption = False,
    tiles: TilesOption = "1",
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Compare predicted with true counts on a data set: MAE, RMSE and relative errors."""
    from clipcount_cli.data.datasets import load_dataset
    from clipcount_cli.evaluation.report import OutputFiles, publish, run

    size = parse_tiles(tiles)
    files = OutputFiles(csv, plot, worst)
    files.check(json, overwrite)
    dataset = load_dataset(data, part, [split])
    counter = open_counter(weights, device, precision)
    report = run(counter, dataset, split, prompt_check, size)
    publish(report, files, counter, dataset, json)
    raise typer.Exit(report.exit_code)
