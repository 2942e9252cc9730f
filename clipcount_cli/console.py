"""What the user sees: results on stdout, messages on stderr. The only module that uses rich.

Text is printed literally, so that `photo[red].jpg` keeps its brackets, and control characters are
escaped, so that a file name cannot move the cursor. Importing rich takes 45 ms, so it is imported
only if there is something to print.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import textwrap
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from clipcount_cli.errors import ClipCountError
from clipcount_cli.files import write_error

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID
    from rich.table import Table

    from clipcount_cli.counting.results import Line

# Invisible characters that reverse or break the text around them: "a\u202egpj" would show "ajpg".
_REORDERING = frozenset(
    "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
# Seconds over which speed is averaged: that of a network varies, a training step may take a minute.
_BYTES_WINDOW_S, _STEPS_WINDOW_S = 30, 600
_LEAST_PER_SECOND = 0.1  # steps; a speed below it is shown per minute
_PLAIN_WIDTH = 200  # columns of a table that goes into a file or a pipe


@dataclass(frozen=True)
class Verbosity:
    """How much this run prints; set once, by the options that all commands share."""

    quiet: bool = False  # hide notices and progress, but not warnings and errors
    verbose: bool = False
    debug: bool = False  # print a traceback with each error


_verbosity = Verbosity()


def set_verbosity(quiet: bool = False, verbose: bool = False, debug: bool = False) -> None:
    """Choose how much is printed on stderr, and detect the kind of terminal again."""
    global _verbosity
    _verbosity = Verbosity(quiet, verbose, debug)
    _stderr.cache_clear()


def silence_pillow() -> None:
    """Let Pillow print nothing in this process: what it warns of is refused, or harmless."""
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("PIL").addHandler(logging.NullHandler())


def printable(text: str) -> str:
    r"""Escape what would move the cursor or could not be encoded: `\x1b`, `\n`, byte `\xff`."""
    return "".join(_escaped(char) if _needs_escape(char) else char for char in text)


def is_verbose() -> bool:
    """Whether --verbose was given."""
    return _verbosity.verbose


def notice(text: str) -> None:
    """Print something worth knowing; silent with --quiet."""
    if not _verbosity.quiet:
        _print(text)


def detail(text: str) -> None:
    """Print something that only --verbose shows."""
    if _verbosity.verbose and not _verbosity.quiet:
        _print(text, style="dim")


def warn(text: str, hint: str | None = None) -> None:
    """Print something that may make a result wrong; --quiet does not hide it."""
    _print(text, label="warning: ", label_style="bold yellow")
    _print_hint(hint)


def show_error(error: ClipCountError) -> None:
    """Print what went wrong and what to do next; with --debug also a traceback."""
    if _verbosity.debug:
        traceback.print_exception(error, file=sys.stderr)
    _print(str(error), label="error: ", label_style="bold red")
    _print_hint(error.hint)


def _print_hint(hint: str | None) -> None:
    if hint:
        _print(hint, label="hint: ", label_style="bold")


def show_counts(name: str, lines: Iterable[Line]) -> None:
    """Print one line `COUNT<TAB>PROMPT` per count, followed by the region if there is one.

    The heading goes to stderr.
    """
    notice(f"in {name}:")
    for line in lines:
        region = [] if line.region is None else [line.region]
        show_line(f"{line.count:.1f}", line.prompt, *region)


def show_line(*cells: object) -> None:
    """Print one line on stdout, its cells separated by tabs."""
    _put("\t".join(printable(str(cell)) for cell in cells) + "\n")


def show_json(data: Mapping[str, Any]) -> None:
    """Print `data` on stdout as one line of JSON, in ASCII, which every terminal and pipe keeps."""
    _put(json.dumps(data, allow_nan=False) + "\n")


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None
) -> None:
    """Print a table on stdout; the first column is aligned left, the others right."""
    from rich.console import Console

    console = Console(width=None if _stdout().isatty() else _PLAIN_WIDTH)
    with console.capture() as drawn:
        console.print(_table(columns, rows, title))
    _put(drawn.get())


def notice_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on stderr, laid out as by `show_table`; silent with --quiet."""
    if not _verbosity.quiet:
        width = None if sys.stderr.isatty() else _PLAIN_WIDTH
        _stderr().print(_table(columns, rows), width=width)


def _table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None
) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heading = None if title is None else Text(printable(title))
    table = Table(title=heading, box=box.SIMPLE_HEAD, title_justify="left")
    for index, column in enumerate(columns):
        first = index == 0
        table.add_column(
            Text(printable(column)), justify="left" if first else "right", no_wrap=not first
        )
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    return table


class ProgressBar:
    """A progress bar; does nothing if none is drawn."""

    def __init__(self, drawn: Progress | None = None, task: TaskID | None = None) -> None:
        self._drawn, self._task = drawn, task

    @property
    def drawn(self) -> bool:
        """Whether a terminal shows the bar."""
        return self._drawn is not None

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        """Advance by `steps`; `note` (failures, a loss) replaces the text after the bar."""
        self._update(advance=steps, note=note)

    def start_at(self, completed: int, total: float | None = None) -> None:
        """Begin at what an earlier run completed: speed and time left are measured from now on.

        They include the wait for the first steps, which often arrive together.
        """
        if self._drawn is not None and self._task is not None:
            self._drawn.reset(self._task, completed=completed, total=total)
            self._drawn.advance(self._task, 0)

    def restart(self, completed: float = 0, total: float | None = None) -> None:
        """Set the bar to `completed` of `total`, once that is known or has changed."""
        self._update(completed=completed, total=total)

    def _update(self, note: str | None = None, **changes: Any) -> None:
        if self._drawn is not None and self._task is not None:
            if note is not None:
                changes["note"] = printable(note)
            self._drawn.update(self._task, **changes)


@contextmanager
def progress(title: str, total: float | None = None, unit: str = "") -> Iterator[ProgressBar]:
    """Draw a bar with speed and time left on stderr, if it is a terminal and not --quiet.

    total: number of steps, None while unknown; unit: what a step is ("images"), or "bytes".
    """
    if _verbosity.quiet or not sys.stderr.isatty():
        yield ProgressBar()
        return
    from rich.progress import Progress

    window_s = _BYTES_WINDOW_S if unit == "bytes" else _STEPS_WINDOW_S
    drawn = Progress(
        *_bar_columns(unit),
        console=_stderr(),
        speed_estimate_period=window_s,
        transient=True,
        expand=True,
    )
    with drawn:
        bar = ProgressBar(drawn, drawn.add_task(printable(title), total=total, note=""))
        bar.start_at(0)
        yield bar


def _bar_columns(unit: str) -> list[ProgressColumn]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class SpeedColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else speed_in_words(speed, unit), style="cyan")

    in_bytes = unit == "bytes"
    whole, cut = Column(no_wrap=True), Column(no_wrap=True, overflow="ellipsis", ratio=2)
    return [
        TextColumn("{task.description}", markup=False, table_column=whole),
        BarColumn(None, table_column=Column(ratio=1, min_width=8)),
        DownloadColumn() if in_bytes else MofNCompleteColumn(table_column=whole),
        TransferSpeedColumn() if in_bytes else SpeedColumn(whole),
        TimeRemainingColumn(table_column=whole),
        TextColumn("{task.fields[note]}", markup=False, table_column=cut),
    ]


def speed_in_words(per_second: float, unit: str) -> str:
    """A speed in steps per second, or per minute if it is so slow that few digits would remain."""
    if per_second >= _LEAST_PER_SECOND:
        return f"{per_second:.1f} {unit}/s"
    return f"{60 * per_second:.1f} {unit}/min"


@functools.cache
def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _print(text: str, style: str = "", label: str = "", label_style: str = "") -> None:
    from rich.text import Text

    console = _stderr()
    lines = [printable(line) for line in f"{label}{text}".split("\n")]
    if console.is_terminal:  # which would break words at its right edge
        lines = [_wrapped(line, console.width) for line in lines]
    body = "\n".join(lines)[len(label) :]
    console.print(Text.assemble((label, label_style), (body, style)), soft_wrap=True)


def _wrapped(line: str, width: int) -> str:
    """Break `line` between words; a long path stays in one piece, to be copied."""
    indent = " " * (len(line) - len(line.lstrip(" ")))
    return textwrap.fill(
        line,
        max(1, width),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _stdout() -> TextIO:
    if sys.stdout is None:
        raise ClipCountError("stdout is closed", hint="send it to a file or a pipe")
    return sys.stdout


def _put(text: str) -> None:
    """Write `text` to stdout at once: a full disk is reported here, not by Python at its exit.

    Raises BrokenPipeError if nothing reads stdout any more: the command ends silently.
    """
    stdout = _stdout()
    encoding = stdout.encoding or "utf-8"
    try:
        stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # discard what is still buffered, or Python would fail on it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        raise write_error(Path("stdout"), error) from error


def _needs_escape(char: str) -> bool:
    code = ord(char)
    return code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or char in _REORDERING


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code < 0xDD00:  # a byte that Python could not decode (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return named.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
