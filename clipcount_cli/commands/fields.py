"""Turn the fields of a dataclass into options of a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, get_args, get_type_hints

import typer

from clipcount_cli.commands.options import signed


def with_fields(
    fields_of: type,
    into: str,
    panels: Mapping[str, Sequence[str]],
    shown_default: Callable[[str], str],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per field of a dataclass; those that are used go to `into`.

    A field's type is `Annotated[type, help]`; panels: title -> the fields below it, which must be
    all of them; shown_default: the words for a field's default.
    """
    panel_of = {name: panel for panel, names in panels.items() for name in names}

    def extended(command: Callable[..., None]) -> Callable[..., None]:
        names = list(panel_of)

        @functools.wraps(command)
        def gathering(**options: Any) -> None:
            given = {name: options.pop(name) for name in names}
            chosen = {
                name: value.value if isinstance(value, Enum) else value
                for name, value in given.items()
                if value is not None
            }
            command(**options, **{into: chosen})

        own = inspect.signature(command, eval_str=True)
        kept = [parameter for parameter in own.parameters.values() if parameter.name != into]
        hints = get_type_hints(fields_of, include_extras=True)
        added = [
            _optional(name, hints[name], panel_of[name], shown_default(name)) for name in names
        ]
        return signed(gathering, own.replace(parameters=[*kept, *added]))

    return extended


def _optional(name: str, hint: Any, panel: str, default: str) -> inspect.Parameter:
    kind, help_text = get_args(hint)
    metavar = _METAVARS.get(kind)
    if choices := get_args(kind):  # a Literal, which older Typers do not know
        kind, metavar = _choice_of(choices), "|".join(choices)
    sentence = f"{help_text[0].upper()}{help_text[1:]}. [{default}]"
    option = typer.Option(metavar=metavar, help=sentence, rich_help_panel=panel, show_default=False)
    annotation: Any = Annotated[kind | None, option]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=None, annotation=annotation)


_METAVARS = {int: "N", float: "X"}


def _choice_of(values: Iterable[str]) -> Any:
    functional: Any = Enum
    return functional("Choice", [(value, value) for value in values], type=str)
