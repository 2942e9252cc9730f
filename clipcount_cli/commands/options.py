"""What several commands share: option types, the common options, and opening a counter."""

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
from clipcount_cli.config import MAX_TILES
from clipcount_cli.devices import check_device
from clipcount_cli.errors import UsageError

if TYPE_CHECKING:
    from clipcount_cli.counting.counter import Counter, Tiles


class Precision(str, Enum):
    """Number formats of the network."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


def _weights_names(incomplete: str) -> list[str]:
    from clipcount_cli.weights import cache
    from clipcount_cli.weights.registry import EMBEDDED_NAME

    return [name for name in (EMBEDDED_NAME, *cache.installed()) if name.startswith(incomplete)]


def _device_names(incomplete: str) -> list[str]:
    return [name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete)]


# Panels of `--help`; each command orders them by its first option of each.
INPUT, RUN, OUTPUT, GENERAL = "Input", "Run", "Output", "General"

WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="NAME|FILE|RUN",
        help="Weights to count with: tiny, clip-count, another installed name, a file, or the "
        "folder of a training run. Default: clip-count if it is installed, otherwise tiny.",
        autocompletion=_weights_names,
        rich_help_panel=RUN,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        callback=check_device,
        help="Device to run on: auto, cpu, cuda, cuda:N or mps.",
        autocompletion=_device_names,
        rich_help_panel=RUN,
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        metavar="NAME",
        help="Number format of the network: auto, fp32, bf16 or fp16. auto chooses bf16 if the "
        "hardware supports it natively, otherwise fp32.",
        rich_help_panel=RUN,
    ),
]
TilesOption = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Resize the shorter side to N times 384 pixels (1 to 16), for small objects in large "
        "images. auto chooses N per image by the size of its objects, which takes longer.",
        rich_help_panel=RUN,
    ),
]
PageOption = Annotated[
    str | None,
    typer.Option(
        metavar="N|max",
        help="Page of a TIFF, or frame of an animation (default: the first); max: maximum "
        "projection of all pages.",
        rich_help_panel=INPUT,
    ),
]
ChannelOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Channel to count in, from 1 (default: all colours, or the first channel).",
        rich_help_panel=INPUT,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=OUTPUT)
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing files.", rich_help_panel=OUTPUT)
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Never use the network.", rich_help_panel=GENERAL)
]
DATA_HELP = (
    "Data set: FSC-147, CARPK, ShanghaiTech, or your own images with points.csv, with "
    "counts.csv (eval only), or with annotations from COCO, YOLO, Pascal VOC, LabelMe, VIA, CVAT, "
    "Label Studio, CreateML, DotDotGoose, ImageJ, QuPath or other CSV tables. a.tif#3 in a table "
    "means page 3 of a.tif."
)
DataOption = Annotated[
    Path, typer.Option("--data", metavar="DIR", help=DATA_HELP, rich_help_panel=INPUT)
]
PartOption = Annotated[
    str | None,
    typer.Option(metavar="A|B", help="Part of ShanghaiTech.", rich_help_panel=INPUT),
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print only warnings and errors.", rich_help_panel=GENERAL),
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print more details.", rich_help_panel=GENERAL)
]
DebugOption = Annotated[
    bool,
    typer.Option("--debug", help="Print a traceback with each error.", rich_help_panel=GENERAL),
]

_COMMON = {"quiet": QuietOption, "verbose": VerboseOption, "debug": DebugOption}


def with_common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --quiet, --verbose, --debug, and --offline unless it has its own."""
    own = inspect.signature(command, eval_str=True)
    has_offline = "offline" in own.parameters
    lent = _COMMON if has_offline else {**_COMMON, "offline": OfflineOption}

    @functools.wraps(command)
    def wrapped(**options: Any) -> None:
        given = {name: options.pop(name) for name in lent}
        if given.pop("offline", False):
            os.environ["CLIPCOUNT_OFFLINE"] = "1"
        if not distributed.is_first():  # only the first of torchrun's processes prints
            given["quiet"] = True
        console.set_verbosity(**given)
        command(**options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter(name, keyword, default=False, annotation=kind)
        for name, kind in lent.items()
    ]
    return signed(wrapped, own.replace(parameters=[*own.parameters.values(), *added]))


def parse_tiles(text: str) -> Tiles:
    """Parse --tiles; raises UsageError."""
    if text == "auto":
        return "auto"
    if not text.isdecimal() or not 1 <= int(text) <= MAX_TILES:
        raise UsageError(
            f"--tiles {text}: not a number of tiles", hint=f"give 1 to {MAX_TILES}, or auto"
        )
    return int(text)


def signed(command: Callable[..., None], whole: inspect.Signature) -> Callable[..., None]:
    """`command` with another signature, which is what Typer reads."""
    command.__signature__ = whole  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in whole.parameters.values()}
    return command


def open_counter(weights: str | None, device: str, precision: Precision) -> Counter:
    """Load `weights`; if none are given, print which were chosen."""
    from clipcount_cli.api import load_counter  # 4 s: torch and open_clip
    from clipcount_cli.weights.cache import resolve

    chosen = resolve(weights)
    if chosen.notice:
        console.notice(chosen.notice)
    counter = load_counter(chosen, device, precision.value)
    console.detail(f"{counter.label} on {counter.device} in {counter.precision}")
    return counter
