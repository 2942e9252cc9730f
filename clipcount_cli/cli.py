"""The five commands: options in, one service call, print out.

Heavy modules are imported by the command that needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from clipcount_cli import __version__, console
from clipcount_cli.errors import ClipCountError, ExitCode
from clipcount_cli.files import refuse_existing
from clipcount_cli.options import (
    DeviceOption,
    JsonOption,
    OverwriteOption,
    Precision,
    PrecisionOption,
    TilesOption,
    WeightsOption,
    with_manners,
)

if TYPE_CHECKING:
    from clipcount_cli.api import Counter


class ErrorBoundary(TyperGroup):
    """Turns every user-facing failure into its message and exit code, for the shell and tests."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        try:
            return super().invoke(ctx)
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
    typer.Option(
        metavar="FILE.png", help="Draw how similar patch and prompt are, beside the density."
    ),
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
    refuse_existing(heatmap, density, similarity, overwrite=overwrite)
    from clipcount_cli import single

    photo = single.read(image)
    counter = open_counter(weights, device, precision)
    results = single.count(counter, photo, prompts, tiles)
    single.write_pictures(counter, photo, results, heatmap, density, similarity)
    if json:
        console.show_json(single.as_json(counter, image, photo, results))
    else:
        console.show_counts(image, results)


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


def main() -> None:
    """Run `clipcount`."""
    app(prog_name="clipcount")


if __name__ == "__main__":
    sys.exit(main())
