"""`--csv FILE.xlsx`: the rows of a finished run as a workbook, and back.

results.py (rows wait in a CSV while the run lasts) -> [workbook.py]
A workbook cannot grow row by row, so it is written as a whole at the end of a run, in write-only
mode, which needs little memory. openpyxl comes with the extra `xlsx`.
"""

from __future__ import annotations

import itertools
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcount_cli.batch.rows import ResultRow, RowFormat
from clipcount_cli.batch.summary import COLUMNS as SUMMARY_COLUMNS
from clipcount_cli.batch.summary import Total
from clipcount_cli.errors import DataError, UsageError
from clipcount_cli.extras import install_hint
from clipcount_cli.files import atomic_write

if TYPE_CHECKING:
    from openpyxl.worksheet._write_only import WriteOnlyWorksheet

SUFFIX = ".xlsx"
MAX_ROWS = 1_048_575  # of a sheet, below its header
_MAX_CELL = 32_767  # characters
_WIDTHS = {"image": 40, "prompt": 24, "message": 40, "weights": 18}  # in characters
_NOT_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def require_openpyxl() -> None:
    """Raise UsageError if openpyxl is not installed."""
    try:
        import openpyxl  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "writing .xlsx needs openpyxl, which is not installed",
            hint=f"{install_hint('xlsx')}, or name a .csv file",
        ) from error


def write_workbook(
    path: Path, rows: Iterable[ResultRow], form: RowFormat, found: Sequence[Total]
) -> None:
    """Write the rows and a sheet of totals to `path`, atomically.

    Rows that one sheet cannot hold follow on sheets "counts 2", "counts 3", ...
    """
    from openpyxl import Workbook  # 0.3 s: paid only for a workbook

    book = Workbook(write_only=True)
    cells = (_cells(row, form) for row in rows)
    for number in itertools.count(1):
        part = list(itertools.islice(cells, MAX_ROWS))
        if part or number == 1:
            _fill(book.create_sheet(_sheet_name(number)), form.columns, part)
        if len(part) < MAX_ROWS:
            break
    _fill(book.create_sheet("totals"), SUMMARY_COLUMNS, map(astuple, found))
    with atomic_write(path) as temporary:
        book.save(temporary)


def read_workbook(path: Path, form: RowFormat) -> list[ResultRow]:
    """Read the rows of a workbook written by `write_workbook`; raises DataError for any other."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True)
        names = [_sheet_name(number) for number in range(2, len(book.sheetnames) + 1)]
        sheets = [book.worksheets[0], *(book[name] for name in names if name in book.sheetnames)]
        lines = [
            list(_trimmed(cells))
            for number, sheet in enumerate(sheets)
            for cells in sheet.iter_rows(values_only=True, min_row=1 if number == 0 else 2)
        ]
        header, *records = lines
    except (OSError, LookupError, ValueError, zipfile.BadZipFile, InvalidFileException) as error:
        raise DataError(f"{path} cannot be read as a workbook: {error}") from error
    if header != list(form.columns):
        raise DataError(f"{path} has other columns: it begins {', '.join(header)[:200]}")
    width = len(form.columns)
    return [
        form.decode_cells([*cells, *[""] * (width - len(cells))], f"{path}, row {number}")
        for number, cells in enumerate(records, start=2)
        if cells
    ]


def _sheet_name(number: int) -> str:
    return "counts" if number == 1 else f"counts {number}"


def _cells(row: ResultRow, form: RowFormat) -> list[Any]:
    return [getattr(row, column) for column in form.columns]


def _fill(sheet: WriteOnlyWorksheet, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write the rows below a frozen header with filters."""
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    for number, column in enumerate(columns, start=1):
        sheet.column_dimensions[get_column_letter(number)].width = _WIDTHS.get(column, 10)
    sheet.freeze_panes = "A2"
    bold = Font(bold=True)
    sheet.append([_cell(sheet, column, font=bold) for column in columns])
    lines = 1
    for row in rows:
        sheet.append([_cell(sheet, value) for value in row])
        lines += 1
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(columns))}{lines}"


def _cell(sheet: WriteOnlyWorksheet, value: Any, font: Any = None) -> Any:
    from openpyxl.cell import WriteOnlyCell

    if isinstance(value, str):
        text = _NOT_IN_XML.sub(lambda char: f"\\x{ord(char[0]):02x}", value)[:_MAX_CELL]
        cell = WriteOnlyCell(sheet, text)
        cell.data_type = "s"  # or openpyxl would take "=a.jpg" for a formula
    else:
        cell = WriteOnlyCell(sheet, value)
        if isinstance(value, float):
            cell.number_format = "0.00"
    if font is not None:
        cell.font = font
    return cell


def _trimmed(cells: Sequence[Any]) -> Iterator[str]:
    """The cells as text, without empty ones at the end."""
    whole = (int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in cells)
    texts = ["" if cell is None else str(cell) for cell in whole]
    while texts and not texts[-1]:
        texts.pop()
    yield from texts
