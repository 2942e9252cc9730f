"""The options that several commands share: each type, name and help text written once."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from clipcount_cli import console, distributed
from clipcount_cli.devices import check_device


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

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]

_MANNERS = {"quiet": QuietOption, "verbose": VerboseOption, "debug": DebugOption}


def with_manners(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --quiet, --verbose, --debug, and --offline where it has none of its own."""
    own = inspect.signature(command, eval_str=True)
    has_offline = "offline" in own.parameters
    lent = _MANNERS if has_offline else {**_MANNERS, "offline": OfflineOption}

    @functools.wraps(command)
    def mannered(**options: Any) -> None:
        manners = {name: options.pop(name) for name in lent}
        if manners.pop("offline", False):
            os.environ["CLIPCOUNT_OFFLINE"] = "1"
        if not distributed.is_first():  # of torchrun's processes one speaks
            manners["quiet"] = True
        console.set_manners(**manners)
        command(**options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter(name, keyword, default=False, annotation=kind)
        for name, kind in lent.items()
    ]
    return _signed(mannered, own.replace(parameters=[*own.parameters.values(), *added]))


def with_fields(
    fields_of: type, into: str, panel: str, shown_defaults: Callable[[str], str]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of a dataclass; those that are used go to `into`.

    A field's type is `Annotated[type, help]`; shown_defaults: what to say of a field's default.
    """

    def extended(command: Callable[..., None]) -> Callable[..., None]:
        names = [field.name for field in dataclasses.fields(fields_of)]

        @functools.wraps(command)
        def gathering(**options: Any) -> None:
            asked = {name: options.pop(name) for name in names}
            chosen = {
                name: value.value if isinstance(value, Enum) else value
                for name, value in asked.items()
                if value is not None
            }
            command(**options, **{into: chosen})

        own = inspect.signature(command, eval_str=True)
        kept = [parameter for parameter in own.parameters.values() if parameter.name != into]
        hints = get_type_hints(fields_of, include_extras=True)
        added = [_optional(name, hints[name], panel, shown_defaults(name)) for name in names]
        return _signed(gathering, own.replace(parameters=[*kept, *added]))

    return extended


def _optional(name: str, hint: Any, panel: str, default: str) -> inspect.Parameter:
    kind, help_text = get_args(hint)
    if choices := get_args(kind):  # a Literal, which older Typers do not know
        kind = _choice_of(choices)
    option = typer.Option(
        help=f"{help_text} ({default})", rich_help_panel=panel, show_default=False
    )
    annotation: Any = Annotated[kind | None, option]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=None, annotation=annotation)


def _choice_of(values: Iterable[str]) -> Any:
    functional: Any = Enum
    return functional("Choice", [(value, value) for value in values], type=str)


def _signed(command: Callable[..., None], whole: inspect.Signature) -> Callable[..., None]:
    command.__signature__ = whole  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in whole.parameters.values()}
    return command
