"""Every failure that a user can meet: its message, a hint what to do next, and its exit code."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SOME_IMAGES_FAILED = 3
    INTERRUPTED = 130


class ClipCountError(Exception):
    """A failure with a message for the user; `hint` is what to do next."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if hint is not None:  # below a traceback (PEP 678)
            self.__notes__ = [f"hint: {in_python(hint)}"]

    @property
    def with_hint(self) -> str:
        """Message and hint on one line, for the cell of a table."""
        return f"{self} ({self.hint})" if self.hint else str(self)


class ClipCountWarning(UserWarning):
    """Something that may make a count wrong, for users of Python."""


class CountError(ClipCountError):
    """The network does not return a number."""


class ImageReadError(ClipCountError):
    """An image cannot be read: missing, damaged, truncated, too large or too long."""


class WeightsError(ClipCountError):
    """Weights are missing, damaged, or not what was expected."""


class DownloadError(WeightsError):
    """A download failed, or the network must not be used."""


class DataError(ClipCountError):
    """A data set is incomplete, or does not follow its layout."""


class TrainingError(ClipCountError):
    """Training cannot start or continue."""


class DeviceError(ClipCountError):
    """The requested device or precision is not available on this machine."""


class UsageError(ClipCountError):
    """A request is contradictory, or would overwrite something."""

    exit_code = ExitCode.USAGE


class InterruptedRunError(ClipCountError):
    """The user or the system stopped a run; finished work is kept."""

    exit_code = ExitCode.INTERRUPTED


def in_python(text: str) -> str:
    """Rewrite options in a message as arguments: `--tiles 4` as `tiles=4`, `--page` as `page`."""
    text = re.sub(r"--(page|channel)\b(?! (\d|N|max))", r"\1", text)
    return re.sub(r"--([a-z]+) (?:(\d+|N)|([a-z]+\d*(?::[\dN]+)?))\b", _as_argument, text)


def _as_argument(option: re.Match[str]) -> str:
    name, number, word = option.groups()
    return f"{name}={number}" if number else f'{name}="{word}"'


def command_line(words: Sequence[str]) -> str:
    """A command that can be pasted into a shell of this system."""
    if sys.platform == "win32":
        import subprocess  # 10 ms, paid only for a hint there

        return subprocess.list2cmdline(words)
    return shlex.join(words)


def quantity(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(items: Sequence[str], limit: int = 20, noun: str = "", separator: str = ", ") -> str:
    """The first `limit` of `items` and, if there are others, `and N more NOUN`."""
    shown = separator.join(items[:limit])
    more = f"and {len(items) - limit} more {noun}".rstrip()
    return f"{shown}{separator.lstrip(',')}{more}" if len(items) > limit else shown
