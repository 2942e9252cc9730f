"""The options that several commands share: each type, name and help text written once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from clipcount_cli import console


class Precision(str, Enum):
    """How the network computes."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="NAME|FILE",
        help="Which model counts: tiny, clip-count, another installed name, or a file. "
        "Default: clip-count where it is installed, else tiny.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="Where the network runs.")
]
PrecisionOption = Annotated[
    Precision, typer.Option(help="auto: bf16 where the hardware multiplies it natively, else fp32.")
]
TilesOption = Annotated[
    int,
    typer.Option(
        min=1,
        max=16,
        help="See the shorter side at N times 384 px: for small objects in large photographs.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        help="The data set: FSC-147, CARPK, ShanghaiTech, or your own images and points.",
    ),
]

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]

_MANNERS = {"quiet": QuietOption, "verbose": VerboseOption, "debug": DebugOption}


def with_manners(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --quiet, --verbose and --debug, so that they may stand behind its name too."""

    @functools.wraps(command)
    def mannered(**options: Any) -> None:
        console.set_manners(**{name: options.pop(name) for name in _MANNERS})
        command(**options)

    own = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter(name, keyword, default=False, annotation=kind)
        for name, kind in _MANNERS.items()
    ]
    whole = own.replace(parameters=[*own.parameters.values(), *added])
    mannered.__signature__ = whole  # type: ignore[attr-defined]
    mannered.__annotations__ = {p.name: p.annotation for p in whole.parameters.values()}
    return mannered
