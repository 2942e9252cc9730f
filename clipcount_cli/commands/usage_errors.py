"""Word Typer's own usage errors like all other errors, with a hint what to type instead.

cli.py -> [usage_errors.py]
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from clipcount_cli.commands.count import prompts_hint
from clipcount_cli.errors import UsageError

SIMILARITY = 0.75  # of option names: --heatmop is --heatmap, but --lr is not --part
MIN_PREFIX = 3  # letters of an option that was typed in part
# What other programs call an option -> its names here, of which a command has one.
SYNONYMS = {
    "lr": ("learning-rate",),
    "wd": ("weight-decay",),
    "bs": ("batch", "batch-windows"),
    "batch-size": ("batch", "batch-windows"),
    "batchsize": ("batch", "batch-windows"),
    "model": ("weights", "init"),
    "checkpoint": ("weights", "init"),
    "pretrained": ("init",),
    "gpu": ("device",),
    "dtype": ("precision",),
    "output": ("csv", "out"),
    "out": ("csv",),
    "outdir": ("out",),
    "text": ("prompt",),
    "class": ("prompt",),
    "threads": ("workers",),
    "jobs": ("workers",),
    "num-workers": ("workers",),
    "force": ("overwrite",),
    "dataset": ("data",),
}
MISSING = {  # parameter -> what to type
    "image": 'name an image: clipcount count photo.jpg "red apples"',
    "csv": "name the file to write: --csv counts.csv",
    "data": "name the folder of the data set: --data DIR",
}


def worded(error: Any) -> UsageError:
    """The usage error for one that Typer raised."""
    message = error.format_message().rstrip(".").replace("Value error, ", "")
    message = re.sub(r", unable to parse .*", "", message)  # of a number, known from the rest
    message = re.sub(r"(: )([A-Z])", lambda match: match[1] + match[2].lower(), message)
    message = re.sub(r"\(s\) \((.* .*)\)", r"s (\1)", message).replace("(s)", "")
    message, _, guess = message.partition(". Did you mean ")
    hint = f"did you mean {guess.rstrip('?')}?" if guess else None
    kind = type(error).__name__
    if kind == "NoSuchOption":
        message, hint = error.message.rstrip("."), _option_hint(error)
    elif kind == "MissingParameter":
        hint = _missing_hint(error)
    command = error.ctx.command_path if error.ctx else "clipcount"
    return UsageError(message[:1].lower() + message[1:], hint or f"run `{command} --help`")


def _option_hint(error: Any) -> str | None:
    params = error.ctx.command.params if error.ctx else ()
    if error.option_name in ("--prompt", "--prompts", "--text") and "image" in {
        param.name for param in params
    }:
        return prompts_hint("photo.jpg")  # of `count`, whose prompts follow the image
    names = [name.lstrip("-") for param in params for name in param.opts if name.startswith("--")]
    near = similar_options(error.option_name.lstrip("-"), names)
    return f"did you mean {' or '.join(f'--{name}' for name in near)}?" if near else None


def similar_options(typed: str, names: list[str]) -> list[str]:
    """Those of `names` that `typed` may mean: by a common synonym, its beginning or its letters."""
    typed = typed.lower().replace("_", "-")
    if synonyms := [name for name in SYNONYMS.get(typed, ()) if name in names]:
        return synonyms
    begun = [name for name in names if len(typed) >= MIN_PREFIX and name.startswith(typed)]
    near = difflib.get_close_matches(typed, names, cutoff=SIMILARITY)
    return list(dict.fromkeys([*near, *begun]))[:3]


def _missing_hint(error: Any) -> str | None:
    name = error.param.name if error.param else None
    if name == "prompts":
        return prompts_hint(error.ctx.params.get("image") or "photo.jpg")
    return MISSING.get(name or "")
