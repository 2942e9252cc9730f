"""Read every table a user writes: prompts, points, boxes, splits and counts.

[tables.py] -> names.py, formats/, and the prompts of a batch. A table is what spreadsheets and
scripts save as CSV: comma, semicolon or tab; UTF-8 or UTF-16; any line ends; headers in any case.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clipcount_cli.errors import DataError
from clipcount_cli.files import read_error

DELIMITERS = (",", ";", "\t")
SPREADSHEET_SUFFIXES = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
_SAVE_AS_CSV = 'open it in the spreadsheet and save it as "CSV UTF-8"'
_SEPARATOR_LINE = re.compile(r'"?sep=([,;\t])"?')  # Excel's own first line
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,])\d{3}(\1\d{3})*")
_LINES_SHOWN = 20
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OLE_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_WORKBOOKS = (  # a member of the archive -> what the archive is
    ("xl/workbook.xml", "an Excel workbook (.xlsx)"),
    ("xl/workbook.bin", "an Excel workbook (.xlsb)"),
    ("content.xml", "an OpenDocument spreadsheet (.ods)"),
    ("Index/Document.iwa", "an Apple Numbers document"),
)


class Row(NamedTuple):
    """One row of a table."""

    line: int  # in the file, from 1
    cells: dict[str, str]  # column -> cell, stripped; empty if the row ends before it


@dataclass(frozen=True)
class Table:
    """The rows of one file, without blank ones."""

    path: Path
    columns: tuple[str, ...]  # lower case, stripped
    rows: tuple[Row, ...]
    delimiter: str
    lines: tuple[tuple[int, list[str]], ...]  # line number and cells as written, header included

    def require(self, columns: Iterable[str]) -> None:
        """Raise DataError if the header lacks one of `columns`, or has one of them twice."""
        wanted = tuple(columns)
        written = self.delimiter.join(self.first_cells)[:100]
        if missing := [name for name in wanted if name not in self.columns]:
            raise DataError(
                f"{self.path} lacks the {_columns(missing)}: its first line is {written!r}",
                hint=f"the first line must name {','.join(wanted)}",
            )
        if twice := [name for name in wanted if self.columns.count(name) > 1]:
            raise DataError(
                f"{self.path} has the {_columns(twice)} twice: its first line is {written!r}",
                hint="remove or rename one of them",
            )

    @property
    def first_cells(self) -> list[str]:
        """The cells of the first line: the header, unless the file has none."""
        return self.lines[0][1] if self.lines else []

    def with_header(self, columns: Sequence[str]) -> Table:
        """The same file read as one without a header, whose cells are called `columns`."""
        rows = tuple(_row(columns, line, cells) for line, cells in self.lines)
        return Table(self.path, tuple(columns), rows, self.delimiter, self.lines)

    def numbers(self, columns: Iterable[str]) -> NumberReader:
        """A reader of the numbers in `columns`, which finds out their decimal mark together."""
        wanted = [name for name in columns if name in self.columns]
        cells = [row.cells[name] for row in self.rows for name in wanted]
        return NumberReader(cells, self.delimiter)


class NumberReader:
    """Turns cells into numbers; their decimal mark is found out from all of them together."""

    def __init__(self, cells: Iterable[str], delimiter: str) -> None:
        with_comma = [cell for cell in cells if "," in cell]
        with_both = next((cell for cell in with_comma if "." in cell), None)
        self._grouped = with_both is not None
        self._decimal: str | None = "."
        if with_both is not None:
            self._decimal = max(".,", key=with_both.rindex)
        elif with_comma:
            # "1,234" in quotes between commas may be either; a cell such as "12,5" settles it.
            unclear = delimiter == "," and all(map(_THOUSANDS.fullmatch, with_comma))
            self._decimal = None if unclear else ","

    def __call__(self, cell: str) -> float:
        """The finite number in `cell`; ValueError if there is none, or an ambiguous one."""
        try:
            number = float(self._plain(cell.replace("\N{MINUS SIGN}", "-")))
        except ValueError as error:
            raise ValueError(f"{cell!r} is not a number, or an ambiguous one") from error
        if not math.isfinite(number):
            raise ValueError(f"{cell!r} is not a finite number")
        return number

    def _plain(self, text: str) -> str:
        """`text` as `float` reads it; what is unclear is left as it is, which `float` refuses."""
        if self._decimal is None or "_" in text:  # Python would skip the underscore
            return text.replace("_", "?")
        separator = "," if self._decimal == "." else "."
        whole, mark, fraction = text.partition(self._decimal)
        if separator in text:
            if self._grouped and separator in whole and _THOUSANDS.fullmatch(whole):
                whole = whole.replace(separator, "")
            elif self._decimal == "," and _THOUSANDS.fullmatch(text):
                return "?"
        return f"{whole}.{fraction}" if mark else whole


def read_table(path: Path, columns: Iterable[str] = ()) -> Table:
    """Read the table in `path`, which must have `columns`.

    Raises DataError: unreadable, not text, a workbook, columns missing, rows wider than the header.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise read_error(path, error) from error
    return parse_table(data, path, columns)


def parse_table(data: bytes, path: Path, columns: Iterable[str] = ()) -> Table:
    """The table in `data`, the bytes of `path`; raises DataError as `read_table` does."""
    text = _decode(data, path)
    delimiter, text, skipped = _delimiter(text)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    try:
        lines = [
            (reader.line_num + skipped, [cell.strip() for cell in cells])
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num + skipped}: {error}",
            hint="check the quotation marks around this place",
        ) from error
    header = tuple(cell.lower() for cell in lines[0][1]) if lines else ()
    rows = tuple(_row(header, line, cells) for line, cells in lines[1:])
    table = Table(path, header, rows, delimiter, tuple(lines))
    table.require(columns)
    _refuse_wide_rows(path, len(header), lines[1:])
    return table


def _row(columns: Sequence[str], line: int, written: Sequence[str]) -> Row:
    """A row by its columns; of two columns of one name the first counts."""
    cells: dict[str, str] = {}
    for name, cell in zip(columns, [*written, *[""] * len(columns)], strict=False):
        cells.setdefault(name, cell)
    return Row(line, cells)


def _refuse_wide_rows(path: Path, width: int, lines: Sequence[tuple[int, list[str]]]) -> None:
    """A decimal comma between commas would shift every cell behind it."""
    wide = [str(line) for line, cells in lines if any(cells[width:])]
    if wide:
        more = f" and {len(wide) - _LINES_SHOWN} more" if len(wide) > _LINES_SHOWN else ""
        raise DataError(
            f"{path} has rows with more cells than its header has columns ({width}): "
            f"line {', '.join(wide[:_LINES_SHOWN])}{more}",
            hint="put cells that contain the delimiter in quotation marks; with decimal commas, "
            "use semicolons as delimiters",
        )


def _decode(data: bytes, path: Path) -> str:
    if (kind := _workbook(data)) is not None:
        raise DataError(f"{path} is {kind}, not a CSV file", hint=_SAVE_AS_CSV)
    try:
        return data.decode(_encoding(data)).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: {error.reason} at byte {error.start}", hint=_SAVE_AS_CSV
        ) from error


def _encoding(data: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return encoding
    if b"\0" in data[:2]:  # ASCII characters of UTF-16 without a mark have every other byte zero
        return "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    return "utf-8"


def _workbook(data: bytes) -> str | None:
    """What spreadsheet file `data` is, or None if it is none."""
    if data.startswith(_OLE_MARK):
        return "an Excel workbook (.xls)"
    if not data.startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        members = set()
    return next((kind for member, kind in _WORKBOOKS if member in members), "a ZIP archive")


def _delimiter(text: str) -> tuple[str, str, int]:
    """The delimiter, the text below a line `sep=;`, and how many lines that took away."""
    lines = io.StringIO(text, newline="")
    first = next((line for line in lines if line.strip()), "")
    if named := _SEPARATOR_LINE.fullmatch(first.strip(" \r\n")):
        consumed = lines.tell()
        return named[1], text[consumed:], len(text[:consumed].splitlines())
    unquoted = re.sub(r'"[^"]*"', "", first)
    return max(DELIMITERS, key=unquoted.count), text, 0


def _columns(names: Sequence[str]) -> str:
    return f"column{'s' * (len(names) > 1)} {', '.join(names)}"
