"""A row of results, and how it is written and read: CSV in several dialects, and JSON lines.

run.py -> results.py (files that grow by rows) -> [rows.py]; summary.py and workbook.py use it too.
A file as we wrote it is read strictly; one that a spreadsheet saved is read like any table.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from clipcount_cli.data.tables import parse_table
from clipcount_cli.errors import DataError

COLUMNS = ("image", "prompt", "count", "status", "message", "width", "height", "weights")
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t"}
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
# What a spreadsheet takes for the start of a formula; the apostrophe, so that guarding is undoable.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "'", "＝", "＋", "－", "＠")

Key = tuple[str, str]  # image and prompt: what a row is about


@dataclass(frozen=True)
class ResultRow:
    """One row of results: how many of `prompt` are in `image`, or why that is unknown."""

    image: str
    prompt: str
    count: float | None  # rounded to two decimals; None if failed
    status: Literal["ok", "failed"]
    message: str
    width: int | None  # of the upright image
    height: int | None
    weights: str
    region: str = ""  # the label of a mask; only in files with that column

    @property
    def key(self) -> Key:
        return (self.image, self.prompt)

    @property
    def failed(self) -> bool:
        return self.status == "failed"


@dataclass(frozen=True)
class RowFormat:
    """The dialect of a results CSV."""

    delimiter: str = ","
    excel: bool = False  # byte-order mark, guarded cells; with semicolons also decimal commas
    regions: bool = False  # a last column `region`

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> RowFormat:
        """The dialect of a run, from its recorded settings."""
        return cls(
            delimiter=settings.get("delimiter", ","),
            excel=bool(settings.get("excel")),
            regions="region" in settings.get("columns", ()),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What `of` reads."""
        return {
            "columns": list(self.columns),
            "delimiter": self.delimiter,
            "excel": self.excel,
        }

    @property
    def columns(self) -> tuple[str, ...]:
        return (*COLUMNS, "region") if self.regions else COLUMNS

    @property
    def header(self) -> bytes:
        """The first line."""
        return self.encode_header(self.columns)

    def encode_header(self, columns: Sequence[str]) -> bytes:
        """The first line of a table of this dialect."""
        mark = BYTE_ORDER_MARK if self.excel else ""
        return f"{mark}{self.delimiter.join(columns)}\n".encode()

    def encode(self, row: ResultRow) -> bytes:
        """A row as RFC 4180 with `\\n`."""
        texts = (row.image, row.prompt)
        facts = (row.status, row.message, row.width, row.height, row.weights)
        return self.encode_cells((*texts, row.count, *facts, *self._region(row)))

    def encode_cells(self, cells: Iterable[str | float | None]) -> bytes:
        """Any row of this dialect: text guarded and quoted, two decimals, None as an empty cell."""
        return (
            self.delimiter.join(self._quote(self._spell(cell)) for cell in cells) + "\n"
        ).encode()

    def encode_json(self, row: ResultRow) -> bytes:
        """A row as one line of JSON, with the CSV's columns as keys."""
        facts = asdict(row)
        chosen = {column: facts[column] for column in self.columns}
        return (json.dumps(chosen, ensure_ascii=False) + "\n").encode()

    def decode(self, data: bytes, name: str) -> list[ResultRow]:
        """Read the rows of a CSV of this dialect, or as resaved by Excel, but no torn last line.

        name: of the file, for errors. Raises DataError if it is not a results file.
        """
        if self.header.startswith(data):  # killed before the first row
            return []
        if data.startswith(self.header):
            records = _whole_records(data[len(self.header) :], self.delimiter, name)
        else:
            records = _resaved_records(data, self.columns, name)
        return [
            self.decode_cells(cells, f"{name}, row {number}")
            for number, cells in enumerate(records, start=1)
        ]

    def decode_cells(self, cells: Sequence[str], where: str) -> ResultRow:
        """A row from its cells; raises DataError if they are not those of a result."""
        unguard = _unguard if self.excel else str
        try:
            image, prompt, count, status, message, width, height, weights, *rest = cells
            if status not in ("ok", "failed") or (status == "ok") != bool(count):
                raise ValueError(f'status "{status}", count "{count}"')
            (region,) = rest if self.regions else ("", *rest)
            return ResultRow(
                image=unguard(image),
                prompt=unguard(prompt),
                count=float(count.replace(",", ".")) if count else None,
                status="ok" if status == "ok" else "failed",
                message=unguard(message),
                width=int(width) if width else None,
                height=int(height) if height else None,
                weights=unguard(weights),
                region=unguard(region),
            )
        except ValueError as error:
            raise DataError(f"{where} is not a row of results: {error}") from error

    def _region(self, row: ResultRow) -> tuple[str, ...]:
        return (row.region,) if self.regions else ()

    def _spell(self, cell: str | float | None) -> str:
        if isinstance(cell, float):
            decimal = "," if self.excel and self.delimiter == ";" else "."
            return f"{cell:.2f}".replace(".", decimal)
        if isinstance(cell, str) and self.excel and cell.startswith(FORMULA_STARTS):
            return f"'{cell}"
        return "" if cell is None else str(cell)

    def _quote(self, cell: str) -> str:
        if any(char in cell for char in f'"\r\n{self.delimiter}') or cell != cell.strip():
            return '"' + cell.replace('"', '""') + '"'
        return cell


def _unguard(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA_STARTS) else cell


def _whole_records(body: bytes, delimiter: str, name: str) -> Iterator[list[str]]:
    """Split at line feeds outside quotes; what follows the last one is torn."""
    record, begins = b"", 2
    for number, line in enumerate(body.split(b"\n")[:-1], start=begins):
        record += line + b"\n"
        if record.count(b'"') % 2 == 0:
            text = io.StringIO(record.decode("utf-8", "replace"), newline="")
            try:
                yield next(csv.reader(text, delimiter=delimiter, strict=True))
            except csv.Error as error:
                raise DataError(f"{name}, line {begins}: {error}") from error
            record, begins = b"", number + 1


def _resaved_records(data: bytes, columns: Sequence[str], name: str) -> Iterator[list[str]]:
    """Read a results CSV that another program saved, in its encoding, line ends and delimiter.

    Raises DataError if the columns differ.
    """
    table = parse_table(data, Path(name))
    if [column for column in table.columns if column] != list(columns):
        begins, wanted = table.delimiter.join(table.first_cells)[:200], ",".join(columns)
        raise DataError(f'{name} has other columns: it begins "{begins}", not "{wanted}"')
    yield from ([row.cells[column] for column in columns] for row in table.rows)
