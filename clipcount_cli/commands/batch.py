"""`clipcount batch`: the options of counting in many images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipcount_cli.commands.options import (
    DeviceOption,
    OverwriteOption,
    Precision,
    PrecisionOption,
    TilesOption,
    WeightsOption,
    open_counter,
    with_common_options,
)

FoldersArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="FOLDER", help="A folder of photographs, or photographs one by one."),
]
CsvOption = Annotated[
    str, typer.Option(metavar="FILE", help="Where rows go as they come; - is stdout.")
]
PromptOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="What to count in every image; may be repeated. Default: FOLDER/prompts.csv, else "
        "the name of the image's sub-folder.",
    ),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.csv", help="What to count in which image: columns image,prompt."),
]
FromFileOption = Annotated[
    str | None, typer.Option(metavar="LIST", help="Paths of images, one a line; - reads stdin.")
]
JsonLinesOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Also write each row as a line of JSON.")
]
HeatmapsOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Draw where the objects are, a file for each row."),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.html", help="Make one page of it all, with pictures, to look at."),
]
ExcelOption = Annotated[
    bool,
    typer.Option(
        "--excel", help="Add a byte-order mark, and guard cells that begin like a formula."
    ),
]
ResumeBatchOption = Annotated[
    bool, typer.Option("--resume", help="Go on with --csv FILE: count what is missing or failed.")
]
FailFastOption = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first image that fails.")
]
BatchWindowsOption = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Windows the network sees at once. Default: 64 on cuda, else 8."
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Threads that read images. Default: one a core."),
]
ShardOption = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Count every N-th image only, from the I-th: for job arrays."),
]
MergeOption = Annotated[
    bool, typer.Option("--merge", help="Join the CSVs of all shards, given in place of FOLDER.")
]


@with_common_options
def batch(
    sources: FoldersArgument = None,
    *,
    csv: CsvOption,
    prompt: PromptOption = None,
    prompts: PromptsOption = None,
    from_file: FromFileOption = None,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    tiles: TilesOption = 1,
    json_lines: JsonLinesOption = None,
    heatmaps: HeatmapsOption = None,
    report: ReportOption = None,
    excel: ExcelOption = False,
    resume: ResumeBatchOption = False,
    overwrite: OverwriteOption = False,
    fail_fast: FailFastOption = False,
    batch_windows: BatchWindowsOption = None,
    workers: WorkersOption = None,
    shard: ShardOption = None,
    merge: MergeOption = False,
) -> None:
    """Count in every photograph of a folder: a row for each image and prompt."""
    from clipcount_cli.batch.run import BatchRequest, print_summary, run

    request = BatchRequest(
        sources=sources or [],
        csv=csv,
        from_file=from_file,
        prompts=prompt or [],
        prompts_file=prompts,
        json_lines=json_lines,
        heatmaps=heatmaps,
        report=report,
        excel=excel,
        resume=resume,
        overwrite=overwrite,
        fail_fast=fail_fast,
        tiles=tiles,
        batch_windows=batch_windows,
        workers=workers,
        shard=shard,
        merge=merge,
    )
    summary = run(request, lambda: open_counter(weights, device, precision))
    print_summary(summary)
    raise typer.Exit(summary.exit_code)
