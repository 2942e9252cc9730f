"""`clipcount batch`: options for counting in many images."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from clipcount_cli.commands.options import (
    OUTPUT,
    RUN,
    ChannelOption,
    DeviceOption,
    OverwriteOption,
    Precision,
    PrecisionOption,
    TilesOption,
    WeightsOption,
    open_counter,
    parse_tiles,
    with_common_options,
)

if TYPE_CHECKING:
    from clipcount_cli.batch.request import BatchRequest
    from clipcount_cli.batch.rows import RowFormat
    from clipcount_cli.counting.counter import Counter
    from clipcount_cli.counting.stacks import Selection

EXAMPLES = """clipcount batch folder/ --prompt "red apples" --csv counts.csv
clipcount batch folder/ --csv counts.csv --report counts.html
clipcount batch folder/ --csv counts.csv --resume
clipcount batch a.csv b.csv --merge --csv all.csv"""
INPUT, PROMPTS = "Input", "What to count"


class Delimiter(str, Enum):
    """Separators of the cells of a CSV."""

    comma = "comma"
    semicolon = "semicolon"
    tab = "tab"


class HeatmapFormat(str, Enum):
    """File formats of heatmaps."""

    png = "png"
    jpg = "jpg"


FoldersArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FOLDER...",
        help="Folders to search for images, or single images.",
        rich_help_panel=INPUT,
    ),
]
FromFileOption = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="File with one image path per line; - reads standard input.",
        rich_help_panel=INPUT,
    ),
]
PagesOption = Annotated[
    str | None,
    typer.Option(
        "--page",
        metavar="N|all|max",
        help="Page of a TIFF, or frame of an animation (default: the first); all: each page by "
        "itself, in rows a.tif#1, a.tif#2, ...; max: maximum projection of all pages.",
        rich_help_panel=INPUT,
    ),
]
PromptOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="What to count in every image; may be repeated. Default: FOLDER/prompts.csv if it "
        'exists, otherwise the name of each image\'s sub-folder, otherwise "objects".',
        rich_help_panel=PROMPTS,
    ),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.csv",
        help="Table of what to count in which image, with the columns image and prompt. With "
        "--page all, a.tif means all of its pages, a.tif#3 only page 3.",
        rich_help_panel=PROMPTS,
    ),
]
CsvOption = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="CSV to write, one row per image and prompt; - writes to standard output. FILE.xlsx "
        "writes a workbook at the end (needs the extra xlsx).",
        rich_help_panel=OUTPUT,
    ),
]
JsonLinesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Also write each row as one line of JSON.", rich_help_panel=OUTPUT
    ),
]
HeatmapsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Draw heatmaps of where the objects are, one file per row.",
        rich_help_panel=OUTPUT,
    ),
]
PointsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Write the positions of the objects, in the columns image,prompt,x,y that train "
        "reads: one file per row, and all in DIR/points.csv.",
        rich_help_panel=OUTPUT,
    ),
]
MasksOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Count only inside masks, DIR/NAME.png or .tif: one row per label, with the label in "
        "the column region. With --page all, NAME#3.png is the mask of page 3.",
        rich_help_panel=INPUT,
    ),
]
HeatmapFormatOption = Annotated[
    HeatmapFormat,
    typer.Option(metavar="png|jpg", help="File format of the heatmaps.", rich_help_panel=OUTPUT),
]
SummaryOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.csv",
        help="Write totals per prompt: images, failed, total, mean, median, min, max.",
        rich_help_panel=OUTPUT,
    ),
]
DelimiterOption = Annotated[
    Delimiter,
    typer.Option(
        metavar="comma|semicolon|tab", help="Separator of the CSV's cells.", rich_help_panel=OUTPUT
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.html",
        help="Write a self-contained page: totals, and a sortable table with overlays.",
        rich_help_panel=OUTPUT,
    ),
]
ExcelOption = Annotated[
    bool,
    typer.Option(
        "--excel",
        help="Make the CSV safe for Excel: add a byte-order mark and escape cells that start like "
        "a formula; with --delimiter semicolon also write decimal commas.",
        rich_help_panel=OUTPUT,
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue an earlier CSV: count only what is missing or failed.",
        rich_help_panel=OUTPUT,
    ),
]
FailFastOption = Annotated[
    bool,
    typer.Option("--fail-fast", help="Stop at the first image that fails.", rich_help_panel=RUN),
]
BatchWindowsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Windows per call of the network. Default: 64 on cuda, otherwise 8.",
        rich_help_panel=RUN,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Threads that read images. Default: one per core.",
        rich_help_panel=RUN,
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Count only every N-th image, starting at the I-th, for job arrays; each shard needs "
        "its own --csv.",
        rich_help_panel=RUN,
    ),
]
MergeOption = Annotated[
    bool,
    typer.Option(
        "--merge",
        help="Join the CSVs of all shards, such as a.csv b.csv, into --csv.",
        rich_help_panel=RUN,
    ),
]


@with_common_options
def batch(
    sources: FoldersArgument = None,
    *,
    from_file: FromFileOption = None,
    page: PagesOption = None,
    channel: ChannelOption = None,
    masks: MasksOption = None,
    prompt: PromptOption = None,
    prompts: PromptsOption = None,
    csv: CsvOption,
    json_lines: JsonLinesOption = None,
    heatmaps: HeatmapsOption = None,
    points: PointsOption = None,
    heatmap_format: HeatmapFormatOption = HeatmapFormat.png,
    report: ReportOption = None,
    summary: SummaryOption = None,
    delimiter: DelimiterOption = Delimiter.comma,
    excel: ExcelOption = False,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    tiles: TilesOption = "1",
    fail_fast: FailFastOption = False,
    batch_windows: BatchWindowsOption = None,
    workers: WorkersOption = None,
    shard: ShardOption = None,
    merge: MergeOption = False,
) -> None:
    """Count in every image of a folder and write one CSV row per image and prompt."""
    from clipcount_cli.batch.request import BatchRequest

    request = BatchRequest(
        sources=sources or [],
        csv=csv,
        from_file=from_file,
        prompts=prompt or [],
        prompts_file=prompts,
        json_lines=json_lines,
        heatmaps=heatmaps,
        heatmap_suffix=f".{heatmap_format.value}",
        report=report,
        summary=summary,
        points=points,
        masks=masks,
        form=_row_format(delimiter, excel, masks),
        resume=resume,
        overwrite=overwrite,
        fail_fast=fail_fast,
        tiles=parse_tiles(tiles),
        selection=_selection(page, channel),
        all_pages=page == "all",
        batch_windows=batch_windows,
        workers=workers,
        shard=shard,
        merge=merge,
    )
    _run(request, lambda: open_counter(weights, device, precision))


def _row_format(delimiter: Delimiter, excel: bool, masks: Path | None) -> RowFormat:
    from clipcount_cli.batch.rows import DELIMITERS, RowFormat

    return RowFormat(DELIMITERS[delimiter.value], excel, regions=masks is not None)


def _selection(page: str | None, channel: int | None) -> Selection:
    from clipcount_cli.counting.stacks import Selection, parse_page

    return Selection(None if page == "all" else parse_page(page), channel)


def _run(request: BatchRequest, open_weights: Callable[[], Counter]) -> NoReturn:
    from clipcount_cli.batch.run import print_summary, run

    ended = run(request, open_weights)
    print_summary(ended)
    raise typer.Exit(ended.exit_code)
