"""The fields of a dataclass become options of a command."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Annotated, Any, get_args, get_type_hints

import typer

from clipcount_cli.commands.options import signed


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
        return signed(gathering, own.replace(parameters=[*kept, *added]))

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
