"""What two or more commands share: option types, the common options, and opening a counter."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipcount_cli import console, distributed
from clipcount_cli.devices import check_device

if TYPE_CHECKING:
    from clipcount_cli.counting.counter import Counter


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
    str,
    typer.Option(
        metavar="auto|cpu|cuda|cuda:N|mps", callback=check_device, help="Where the network runs."
    ),
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
PartOption = Annotated[str | None, typer.Option(metavar="A|B", help="Which part of ShanghaiTech.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]

_COMMON = {"quiet": QuietOption, "verbose": VerboseOption, "debug": DebugOption}


def with_common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --quiet, --verbose, --debug, and --offline where it has none of its own."""
    own = inspect.signature(command, eval_str=True)
    has_offline = "offline" in own.parameters
    lent = _COMMON if has_offline else {**_COMMON, "offline": OfflineOption}

    @functools.wraps(command)
    def wrapped(**options: Any) -> None:
        given = {name: options.pop(name) for name in lent}
        if given.pop("offline", False):
            os.environ["CLIPCOUNT_OFFLINE"] = "1"
        if not distributed.is_first():  # of torchrun's processes one speaks
            given["quiet"] = True
        console.set_verbosity(**given)
        command(**options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter(name, keyword, default=False, annotation=kind)
        for name, kind in lent.items()
    ]
    return signed(wrapped, own.replace(parameters=[*own.parameters.values(), *added]))


def signed(command: Callable[..., None], whole: inspect.Signature) -> Callable[..., None]:
    """`command` with another signature, which is what Typer reads."""
    command.__signature__ = whole  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in whole.parameters.values()}
    return command


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
