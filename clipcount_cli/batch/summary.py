"""Totals per prompt: printed at the end of a batch, and written by --summary and --report.

run.py -> results.py (rows) -> [summary.py]
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from clipcount_cli.batch.rows import ResultRow, RowFormat
from clipcount_cli.files import atomic_write

MAX_PROMPTS_SHOWN = 20


@dataclass(frozen=True)
class Total:
    """Statistics of one prompt over all of its counted rows."""

    prompt: str
    images: int  # failed ones included
    failed: int
    total: float | None  # None if every image failed
    mean: float | None
    median: float | None
    min: float | None
    max: float | None


COLUMNS = tuple(field.name for field in fields(Total))


def totals(rows: Iterable[ResultRow]) -> list[Total]:
    """One total per prompt, in the order in which the prompts first appear."""
    of_prompt: dict[str, list[ResultRow]] = {}
    for row in rows:
        of_prompt.setdefault(row.prompt, []).append(row)
    return [_total(prompt, its_rows) for prompt, its_rows in of_prompt.items()]


def _total(prompt: str, rows: Sequence[ResultRow]) -> Total:
    counts = [row.count for row in rows if row.count is not None]
    images = len({row.image for row in rows})
    failed = sum(row.failed for row in rows)
    if not counts:
        return Total(prompt, images, failed, None, None, None, None, None)
    whole = math.fsum(counts)
    median = statistics.median(counts)
    return Total(
        prompt, images, failed, whole, whole / len(counts), median, min(counts), max(counts)
    )


def write_summary(path: Path, found: Sequence[Total], dialect: RowFormat) -> None:
    """Write one row per prompt to `path`, in the dialect of the results."""
    with atomic_write(path) as temporary:
        body = b"".join(dialect.encode_cells(astuple(total)) for total in found)
        temporary.write_bytes(dialect.encode_header(COLUMNS) + body)


def summary_table(found: Sequence[Total]) -> list[list[str]]:
    """The cells of the table on the terminal: one row for each of the first prompts."""
    return [
        [total.prompt, f"{total.images:,}", f"{total.failed:,}", *map(_rounded, astuple(total)[3:])]
        for total in found[:MAX_PROMPTS_SHOWN]
    ]


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
