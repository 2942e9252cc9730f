"""The five commands: options in, one service call, print out.

Heavy modules are imported by the command that needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer
from typer.core import TyperGroup

from clipcount_cli import console, distributed
from clipcount_cli.config import Recipe, TrainConfig, shown_default
from clipcount_cli.errors import ClipCountError, ExitCode, UsageError, WeightsError
from clipcount_cli.files import require_distinct, require_writable
from clipcount_cli.options import (
    BatchWindowsOption,
    CsvOption,
    DataOption,
    DeviceOption,
    ExcelOption,
    FailFastOption,
    FoldersArgument,
    FromFileOption,
    HeatmapsOption,
    JsonLinesOption,
    JsonOption,
    MergeOption,
    OfflineOption,
    OverwriteOption,
    Precision,
    PrecisionOption,
    PromptOption,
    PromptsOption,
    ReportOption,
    ResumeBatchOption,
    ShardOption,
    TilesOption,
    WeightsOption,
    WorkersOption,
    with_fields,
    with_manners,
)
from clipcount_cli.version import __version__

if TYPE_CHECKING:
    from clipcount_cli.api import Counter


class ErrorBoundary(TyperGroup):
    """Turns every user-facing failure into its message and exit code, for the shell and tests."""

    def make_context(self, *args: Any, **kwargs: Any) -> typer.Context:
        with _failures_told():  # --version prints while options are read
            return cast(typer.Context, super().make_context(*args, **kwargs))

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        with _failures_told():
            return super().invoke(ctx)


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except ClipCountError as error:
        console.show_error(error)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        console.warn("interrupted")
        raise typer.Exit(ExitCode.INTERRUPTED) from error


app = typer.Typer(
    name="clipcount",
    cls=ErrorBoundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Count what a prompt names in a photograph.",
)


def _show_version(asked: bool) -> None:
    if asked:
        console.show_line(f"clipcount {__version__}")
        raise typer.Exit()


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="A photograph; - reads stdin.")]
PromptsArgument = Annotated[
    list[str], typer.Argument(metavar="PROMPT...", help='What to count, like "red apples".')
]
HeatmapOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.png", help="Draw where the objects are: a panel for each prompt."),
]
DensityOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npy", help="Write the density maps (prompts, h, w); each sums to its count."
    ),
]
SimilarityOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.png", help="Draw how similar patch and prompt are."),
]


@app.command()
@with_manners
def count(
    image: ImageArgument,
    prompts: PromptsArgument,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    tiles: TilesOption = 1,
    json: JsonOption = False,
    heatmap: HeatmapOption = None,
    density: DensityOption = None,
    similarity: SimilarityOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Count what each PROMPT names in one photograph."""
    require_distinct(heatmap, density, similarity, None if image == "-" else Path(image))
    require_writable(heatmap, density, similarity, overwrite=overwrite)
    from clipcount_cli.counting.images import picture_writer

    for picture in filter(None, (heatmap, similarity)):
        picture_writer(picture)
    from clipcount_cli import single

    photo = single.read(image)
    counter = open_counter(weights, device, precision)
    results = single.count(counter, photo, prompts, tiles)
    if json:
        console.show_json(single.as_json(counter, image, photo, results))
    else:
        console.show_counts(image, results)
    single.write_pictures(counter, photo, results, heatmap, density, similarity)


@app.command()
@with_manners
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
    from clipcount_cli.batch import run as service

    request = service.BatchRequest(
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
    summary = service.run(request, lambda: open_counter(weights, device, precision))
    service.tell(summary)
    raise typer.Exit(summary.exit_code)


def open_counter(weights: str | None, device: str, precision: Precision) -> Counter:
    """Load the weights asked for, and say which were chosen where none were."""
    from clipcount_cli.api import load_counter  # 4 s: torch and open_clip
    from clipcount_cli.weights.cache import resolve

    chosen = resolve(weights)
    if chosen.notice:
        console.notice(chosen.notice)
    counter = load_counter(chosen, device, precision.value)
    console.detail(f"{counter.label} on {counter.device} in {counter.precision}")
    return counter


CheckpointOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A released checkpoint at hand, or a file trained here."),
]
ClipOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="CLIP ViT-B/16: OpenAI's archive, a state dict, safetensors."
    ),
]
InstallAsOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Install under another name.")
]
ListOption = Annotated[bool, typer.Option("--list", help="Show what can be had and what is here.")]
CheckOption = Annotated[bool, typer.Option("--check", help="Verify what is installed.")]
RemoveOption = Annotated[str | None, typer.Option(metavar="NAME", help="Delete installed weights.")]


@app.command("download-weights")
@with_manners
def download_weights(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="clip-count (default), or clip.")
    ] = None,
    checkpoint: CheckpointOption = None,
    clip: ClipOption = None,
    install_as: InstallAsOption = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where to fetch the file instead.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="What the fetched or given file must hash to.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Install anew what is here.")] = False,
    offline: OfflineOption = False,
    listing: ListOption = False,
    check: CheckOption = False,
    remove: RemoveOption = None,
) -> None:
    """Install weights as one verified file and print its path."""
    from clipcount_cli.weights import cache, install
    from clipcount_cli.weights.registry import DEFAULT_NAME

    if listing + check + (remove is not None) > 1:
        raise UsageError("--list, --check and --remove are three different tasks", hint="give one")
    if listing:
        console.show_table(("name", "state", "file", "about"), cache.inventory())
    elif check:
        show_checked(cache.verify(name))
    elif remove is not None:
        console.show_line(cache.remove(remove))
    else:
        request = install.InstallRequest(
            name or DEFAULT_NAME, install_as, checkpoint, clip, url, sha256, force, offline
        )
        with console.progress(request.target_name, unit="bytes") as bar:
            path = install.install(request, console.notice, bar.restart)
        console.show_line(path)


def show_checked(checked: Iterable[tuple[str, WeightsError | None]]) -> None:
    """Put a `NAME<TAB>ok` line on stdout for each of the weights, or fail when all are read."""
    damaged = []
    for name, fault in checked:
        console.show_line(name, "damaged" if fault else "ok")
        if fault:
            console.show_error(fault)
            damaged.append(name)
    if damaged:
        raise WeightsError(f"damaged: {', '.join(damaged)}")


SplitOption = Annotated[
    str, typer.Option(metavar="NAME", help="Which split; `all` takes every picture there is.")
]
PartOption = Annotated[str | None, typer.Option(metavar="A|B", help="Which part of ShanghaiTech.")]
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


@app.command("eval")
@with_manners
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
    from clipcount_cli.evaluation import report as eval_report

    files = eval_report.Files(csv, plot, worst)
    files.check(json, overwrite)
    dataset = load_dataset(data, part, [split])
    counter = open_counter(weights, device, precision)
    report = eval_report.run(counter, dataset, split, prompt_check)
    eval_report.publish(report, files, counter, dataset, json)
    raise typer.Exit(report.exit_code)


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


@app.command()
@with_manners
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
    from clipcount_cli.training import train as service

    asked = service.Request(
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
    run = service.train(asked) if resume is None else service.resume(resume, asked)
    if distributed.is_first():
        console.show_line(run.best)


def main() -> None:
    """Run `clipcount`."""
    warnings.filterwarnings("ignore", module="PIL")  # what it warns of is refused, or harmless
    # open_clip loads timm where it is installed, for image towers that no model here has: 0.3 s.
    sys.modules.setdefault("timm", None)  # type: ignore[arg-type]
    try:
        app(prog_name="clipcount")
    except SystemExit as end:
        if isinstance(end.code, int):
            leave(end.code)
        raise


def leave(code: int) -> NoReturn:
    """End the process at once: Python would take torch's modules apart for a second."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
