"""`clipcount download-weights`: install, list, verify and remove weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from clipcount_cli import console
from clipcount_cli.commands.options import OfflineOption, with_common_options
from clipcount_cli.errors import UsageError, WeightsError

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


@with_common_options
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
