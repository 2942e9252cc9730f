"""The command line: one group of five commands, and the boundary where errors become exit codes.

Heavy modules are imported by the command that needs them, so that `--help` is fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn, cast

import typer

from clipcount_cli import console
from clipcount_cli.commands import batch, count, download_weights, evaluate, train
from clipcount_cli.commands.help import TYPERS_USAGE_ERROR, HelpCommand, HelpGroup
from clipcount_cli.commands.usage_errors import worded
from clipcount_cli.errors import ClipCountError, ExitCode
from clipcount_cli.version import __version__


class ErrorBoundary(HelpGroup):
    """Turns every user-facing failure into its message and exit code, for the shell and tests."""

    def make_context(self, *args: Any, **kwargs: Any) -> typer.Context:
        with _errors_reported():  # --version prints while options are read
            return cast(typer.Context, super().make_context(*args, **kwargs))

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        with _errors_reported():
            return super().invoke(ctx)


@contextmanager
def _errors_reported() -> Iterator[None]:
    try:
        yield
    except ClipCountError as error:
        console.show_error(error)
        raise typer.Exit(error.exit_code) from error
    except TYPERS_USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
            raise
        console.show_error(worded(error))
        raise typer.Exit(ExitCode.USAGE) from error
    except KeyboardInterrupt as error:
        console.warn("interrupted")
        raise typer.Exit(ExitCode.INTERRUPTED) from error


app = typer.Typer(
    name="clipcount",
    cls=ErrorBoundary,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Count the objects that a prompt names in an image.",
)


def _show_version(requested: bool) -> None:
    if requested:
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


for name, command, examples in (
    ("count", count.count, count.EXAMPLES),
    ("batch", batch.batch, batch.EXAMPLES),
    ("train", train.train, train.EXAMPLES),
    ("eval", evaluate.evaluate, evaluate.EXAMPLES),
    ("download-weights", download_weights.download_weights, download_weights.EXAMPLES),
):
    app.command(name, cls=HelpCommand, epilog=examples)(command)


def main() -> None:
    """Run `clipcount`."""
    console.silence_pillow()
    try:
        app(prog_name="clipcount")
    except SystemExit as end:
        if isinstance(end.code, int):
            leave(end.code)
        raise


def leave(code: int) -> NoReturn:
    """End the process at once: Python would spend a second on tearing torch down."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)
