"""Format `--help`: options by panel, one column of names and one of descriptions, at any width.

Typer's own tables break words at 60 columns and print Python types.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from clipcount_cli.commands.options import GENERAL

NAME_COLUMNS = 24  # a longer name gets a line of its own
MAX_COLUMNS = 100
TYPERS_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]


class HelpCommand(TyperCommand):
    """A command whose help is grouped by `rich_help_panel`, its examples last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except TYPERS_USAGE_ERROR as error:
            if getattr(error, "ctx", None) is None:  # the parser leaves out the command
                error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        pieces = [name_of(p) if p.required else f"[{name_of(p)}]" for p in _arguments(self, ctx)]
        usage = " ".join([ctx.command_path, "[OPTIONS]", *pieces])
        formatter.write(f"Usage: {usage}\n\n{wrapped(self.help or '')}\n")
        for panel, params in _panels(self, ctx).items():
            formatter.write(f"\n{heading(panel)}\n")
            formatter.write(listed((name_of(p), help_of(p)) for p in params))
        if self.epilog:
            formatter.write(f"\n{heading('Examples')}\n{examples(self.epilog)}\n")


class HelpGroup(TyperGroup):
    """A group whose help lists its commands in full sentences."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(f"Usage: {ctx.command_path} [OPTIONS] COMMAND [ARGS]...\n\n")
        formatter.write(f"{wrapped(self.help or '')}\n\n{heading('Commands')}\n")
        commands = ((name, self.commands[name].help or "") for name in self.list_commands(ctx))
        formatter.write(listed((name, text.partition("\n\n")[0]) for name, text in commands))
        formatter.write(f"\n{heading('Options')}\n")
        options = (p for p in self.get_params(ctx) if isinstance(p, TyperOption))
        formatter.write(listed((name_of(p), help_of(p)) for p in options))
        formatter.write(f"\nRun `{ctx.command_path} COMMAND --help` for a command's options.\n")


def heading(title: str) -> str:
    """A panel's title; its style is stripped if stdout is no terminal."""
    return typer.style(f"{title}:", bold=True)


def wrapped(text: str, indent: str = "") -> str:
    """Paragraphs that fit the terminal; no word is ever broken."""
    return "\n\n".join(
        textwrap.fill(
            " ".join(paragraph.split()),
            _columns(),
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for paragraph in text.split("\n\n")
    )


def examples(commands: str) -> str:
    """Command lines, continued on the next line before an option if they are too long."""
    return "\n".join(map(_continued, commands.splitlines()))


def _continued(command: str) -> str:
    lines = [" "]
    for part in command.split(" --"):
        word = part if lines == [" "] else f"--{part}"
        if len(f"{lines[-1]} {word} \\") > _columns():
            lines.append(f"      {word}")
        else:
            lines[-1] += f" {word}"
    return " \\\n".join(lines)


def listed(rows: Iterable[tuple[str, str]]) -> str:
    """Names on the left, descriptions on the right, or below a name too long for its column."""
    rows = list(rows)
    width = min(NAME_COLUMNS, max((len(name) for name, _ in rows), default=0))
    indent = " " * (width + 4)
    lines = []
    for name, text in rows:
        words = wrapped(text, indent)
        if len(name) > width:
            lines += [f"  {name}", words]
        else:
            lines.append(f"  {name:<{width}}  {words[len(indent) :]}")
    return "\n".join(lines) + "\n"


def name_of(param: TyperArgument | TyperOption) -> str:
    """`IMAGE`, `--json`, `-q, --quiet` or `--csv FILE`."""
    if isinstance(param, TyperArgument):
        return param.metavar or (param.name or "").upper()
    names = ", ".join([*sorted(param.opts, key=len), *param.secondary_opts])
    return names if param.is_flag else f"{names} {param.metavar or 'TEXT'}"


def help_of(param: TyperArgument | TyperOption) -> str:
    """The help text, followed by the default or `[required]`."""
    text = param.help or ""
    if param.required:
        return f"{text} [required]"
    default = param.default
    if default in (None, False) or default == "" or not param.show_default:
        return text
    value = default.value if isinstance(default, Enum) else default
    return f"{text} [default: {value}]"


def _arguments(command: TyperCommand, ctx: typer.Context) -> Sequence[TyperArgument]:
    return [p for p in command.get_params(ctx) if isinstance(p, TyperArgument)]


def _panels(
    command: TyperCommand, ctx: typer.Context
) -> dict[str, list[TyperArgument | TyperOption]]:
    panels: dict[str, list[TyperArgument | TyperOption]] = {}
    for param in command.get_params(ctx):
        if isinstance(param, (TyperArgument, TyperOption)) and not param.hidden:
            usual = "Arguments" if isinstance(param, TyperArgument) else GENERAL
            panels.setdefault(param.rich_help_panel or usual, []).append(param)
    return {**panels, GENERAL: panels.pop(GENERAL, [])}


def _columns() -> int:
    return min(MAX_COLUMNS, shutil.get_terminal_size().columns)
