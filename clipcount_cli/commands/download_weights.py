"""`clipcount download-weights`: install, list, verify and remove weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from clipcount_cli import console
from clipcount_cli.commands.options import OfflineOption, with_common_options
from clipcount_cli.errors import UsageError, WeightsError

EXAMPLES = """clipcount download-weights
clipcount download-weights --list
clipcount download-weights --checkpoint clipcount.ckpt --clip ViT-B-16.pt"""
INSTALLED, SOURCE = "Installed weights", "Source"

NameArgument = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="Weights to install: clip-count (default) or clip."),
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Local file to install: a released checkpoint, or weights from clipcount train (with "
        "--name).",
        rich_help_panel=SOURCE,
    ),
]
ClipOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Local file of CLIP ViT-B/16: OpenAI's archive, a state dict, or safetensors.",
        rich_help_panel=SOURCE,
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Alternative address to download from.", rich_help_panel=SOURCE
    ),
]
Sha256Option = Annotated[
    str | None,
    typer.Option(metavar="HEX", help="Expected SHA-256 of the file.", rich_help_panel=SOURCE),
]
InstallAsOption = Annotated[
    str | None,
    typer.Option(
        "--name", metavar="NAME", help="Install under another name.", rich_help_panel=SOURCE
    ),
]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force", help="Install again, even if already installed.", rich_help_panel=SOURCE
    ),
]
ListOption = Annotated[
    bool,
    typer.Option("--list", help="List available and installed weights.", rich_help_panel=INSTALLED),
]
InfoOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE|RUN",
        help="Show size, SHA-256, licence, origin and learned words; with -v also the whole "
        "configuration.",
        rich_help_panel=INSTALLED,
    ),
]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Verify installed weights.", rich_help_panel=INSTALLED)
]
RemoveOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Delete installed weights.", rich_help_panel=INSTALLED),
]


@with_common_options
def download_weights(
    name: NameArgument = None,
    *,
    checkpoint: CheckpointOption = None,
    clip: ClipOption = None,
    url: UrlOption = None,
    sha256: Sha256Option = None,
    install_as: InstallAsOption = None,
    force: ForceOption = False,
    listing: ListOption = False,
    check: CheckOption = False,
    info: InfoOption = None,
    remove: RemoveOption = None,
    offline: OfflineOption = False,
) -> None:
    """Install weights as one verified file and print its path; also list, verify or remove them."""
    from clipcount_cli.weights import cache, describe, install
    from clipcount_cli.weights.registry import DEFAULT_NAME

    if listing + check + (info is not None) + (remove is not None) > 1:
        raise UsageError(
            "--list, --info, --check and --remove exclude each other",
            hint="leave all but one out",
        )
    if listing:
        show_lines(describe.list_lines())
    elif info is not None:
        show_lines(describe.info_lines(info, console.is_verbose()))
        if not console.is_verbose():
            console.notice("-v prints the whole origin and configuration")
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


def show_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout."""
    for line in lines:
        console.show_line(line)


def show_checked(checked: Iterable[tuple[str, WeightsError | None]]) -> None:
    """Print a line `NAME<TAB>ok` for each of the weights; fail at the end if any are damaged."""
    damaged = []
    for name, fault in checked:
        console.show_line(name, "damaged" if fault else "ok")
        if fault:
            console.show_error(fault)
            damaged.append(name)
    if damaged:
        raise WeightsError(f"damaged: {', '.join(damaged)}")
