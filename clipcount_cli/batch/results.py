"""Rows on disk: a CSV that grows by whole rows, survives a kill, and is taken up where it ended.

commands -> run.py -> [results.py]; report.py reads the same rows.
What is on disk is at any moment a valid CSV but for a torn last line, which `--resume` repairs.
JSON lines, where asked for, hold the same rows and follow the CSV: it alone decides what is done.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from clipcount_cli.errors import DataError, UsageError
from clipcount_cli.files import AppendOnlyFile, atomic_write, exists, write_error

COLUMNS = ("image", "prompt", "count", "status", "message", "width", "height", "weights")
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
# What a spreadsheet takes for the start of a formula; the apostrophe, so that guarding is undoable.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "'", "＝", "＋", "－", "＠")

Key = tuple[str, str]  # image and prompt: what a row is about
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class ResultRow:
    """One line of results: how many of `prompt` are in `image`, or why nobody knows."""

    image: str
    prompt: str
    count: float | None  # rounded to two decimals; None where failed
    status: Literal["ok", "failed"]
    message: str
    width: int | None  # of the upright photograph
    height: int | None
    weights: str

    @property
    def key(self) -> Key:
        return (self.image, self.prompt)

    @property
    def failed(self) -> bool:
        return self.status == "failed"


def encode_header(excel: bool = False) -> bytes:
    """The CSV's first line."""
    return ((BYTE_ORDER_MARK if excel else "") + ",".join(COLUMNS) + "\n").encode()


def encode_row(row: ResultRow, excel: bool = False) -> bytes:
    """A row as RFC 4180 with `\\n`; `excel`: cells that begin like a formula get an apostrophe."""
    guard = _guard if excel else str
    cells = (
        guard(row.image),
        guard(row.prompt),
        "" if row.count is None else f"{row.count:.2f}",
        row.status,
        guard(row.message),
        "" if row.width is None else str(row.width),
        "" if row.height is None else str(row.height),
        guard(row.weights),
    )
    return (",".join(map(_quote, cells)) + "\n").encode()


def encode_json(row: ResultRow) -> bytes:
    """A row as one line of JSON, with the CSV's columns as keys."""
    return (json.dumps(asdict(row), ensure_ascii=False) + "\n").encode()


def _guard(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell


def _unguard(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA_STARTS) else cell


def _quote(cell: str) -> str:
    if any(char in cell for char in ',"\r\n') or cell != cell.strip():
        return '"' + cell.replace('"', '""') + '"'
    return cell


def decode_rows(data: bytes, name: str, excel: bool = False) -> list[ResultRow]:
    """The rows of a CSV; a torn last line is left out.

    name: what errors call the file. Raises DataError where it is no CSV of this tool.
    """
    header = encode_header(excel)
    if header.startswith(data):  # killed before the first row
        return []
    if not data.startswith(header):
        first = data.split(b"\n", 1)[0].decode("utf-8", "replace")[:200]
        wanted = header.decode().strip()
        raise DataError(f'{name} has other columns: it begins "{first}", not "{wanted}"')
    records = list(_whole_records(data[len(header) :], name))
    return [
        _decode_row(cells, f"{name}, row {number}", excel)
        for number, cells in enumerate(records, start=1)
    ]


def _whole_records(body: bytes, name: str) -> Iterator[list[str]]:
    """Split at the line feeds that lie outside quotes; what follows the last is torn."""
    record, begins = b"", 2
    for number, line in enumerate(body.split(b"\n")[:-1], start=begins):
        record += line + b"\n"
        if record.count(b'"') % 2 == 0:
            text = io.StringIO(record.decode("utf-8", "replace"), newline="")
            try:
                yield next(csv.reader(text, strict=True))
            except csv.Error as error:
                raise DataError(f"{name}, line {begins}: {error}") from error
            record, begins = b"", number + 1


def _decode_row(cells: Sequence[str], where: str, excel: bool) -> ResultRow:
    unguard = _unguard if excel else str
    try:
        image, prompt, count, status, message, width, height, weights = cells
        if status not in ("ok", "failed") or (status == "ok") != bool(count):
            raise ValueError(f'status "{status}", count "{count}"')
        return ResultRow(
            image=unguard(image),
            prompt=unguard(prompt),
            count=float(count) if count else None,
            status="ok" if status == "ok" else "failed",
            message=unguard(message),
            width=int(width) if width else None,
            height=int(height) if height else None,
            weights=unguard(weights),
        )
    except ValueError as error:
        raise DataError(f"{where} is not a row of results: {error}") from error


def differences(saved: Settings, now: Settings, but: Collection[str] = ()) -> list[str]:
    """What sets two runs apart, each as `precision: bf16 there, fp32 now`."""
    return [
        f"{name}: {_brief(saved.get(name))} there, {_brief(now.get(name))} now"
        for name in sorted({*saved, *now} - {*but})
        if saved.get(name) != now.get(name)
    ]


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


@dataclass(frozen=True)
class Targets:
    """Where rows go."""

    csv: Path | None  # None: stdout
    json_lines: Path | None = None
    excel: bool = False

    @property
    def settings(self) -> Path | None:
        """The settings of the run, kept beside its CSV so that another run can compare."""
        return None if self.csv is None else self.csv.with_name(f"{self.csv.name}.settings.json")

    def encoders(self) -> list[tuple[Path | None, bytes, Callable[[ResultRow], bytes]]]:
        """For each file its path, its first line and how a row is written."""
        rows: list[tuple[Path | None, bytes, Callable[[ResultRow], bytes]]] = [
            (self.csv, encode_header(self.excel), lambda row: encode_row(row, self.excel))
        ]
        if self.json_lines is not None:
            rows.append((self.json_lines, b"", encode_json))
        return rows

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs off the CSV; raises UsageError where one is at it."""
        if self.csv is None:
            yield
            return
        path = self.csv.with_name(f".{self.csv.name}.lock")
        try:
            lock = FileLock(path)
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"another run is writing {self.csv}", hint="wait for it, or name another --csv"
            ) from None
        except OSError as error:
            raise write_error(path, error) from error
        try:
            yield
        finally:
            lock.release()
            path.unlink(missing_ok=True)

    def read(self) -> list[ResultRow]:
        """The whole rows on disk."""
        if self.csv is None or not exists(self.csv):
            return []
        return decode_rows(self.csv.read_bytes(), str(self.csv), self.excel)

    def rewrite(self, rows: Sequence[ResultRow]) -> None:
        """Make the files hold exactly `rows`; a file that does already is left alone."""
        for path, header, encode in self.encoders():
            if path is None:
                continue
            wanted = header + b"".join(map(encode, rows))
            if not path.exists() or path.read_bytes() != wanted:
                _write(path, wanted)


class ResultsFile:
    """The rows of one run as they grow; `positions` is the order they must end in."""

    def __init__(self, targets: Targets, positions: Mapping[Key, int]) -> None:
        self.targets = targets
        self.kept: list[ResultRow] = []
        self._positions = positions
        self._last = -1
        self._in_order = True
        self._files: list[tuple[AppendOnlyFile, Callable[[ResultRow], bytes]]] = []

    @property
    def planned(self) -> int:
        """How many rows the finished file is to have."""
        return len(self._positions)

    @property
    def kept_in_plan(self) -> int:
        """How many of them were there already: `kept` may hold rows of images since removed."""
        return sum(row.key in self._positions for row in self.kept)

    def start(self, settings: Settings) -> None:
        """Start anew: what stood in the files is gone."""
        for path, _, _ in self.targets.encoders():
            if path is not None:
                path.unlink(missing_ok=True)  # before the settings: old rows never meet new ones
        self._save(settings)
        self._open(write_headers=True)

    def resume(self, settings: Settings) -> None:
        """Keep the rows that are done, in `kept`; what failed or is torn is dropped.

        Raises UsageError where the rows on disk were made with other settings.
        """
        rows = self._read_comparable(settings)
        done = {row.key: row for row in rows if not row.failed}
        self.kept = self._ordered(list(done.values()))
        self._save(settings)
        self.targets.rewrite(self.kept)
        placed = [self._positions[row.key] for row in self.kept if row.key in self._positions]
        self._last = placed[-1] if placed else -1
        self._open(write_headers=False)

    def append(self, rows: Sequence[ResultRow]) -> None:
        """Put rows on disk, in the order given."""
        for row in rows:
            position = self._positions[row.key]
            self._in_order &= position > self._last
            self._last = max(position, self._last)
        for file, encoder in self._files:
            file.append(b"".join(map(encoder, rows)))

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *exception: object) -> None:
        """End as an undisturbed run would: rows tried again take their places."""
        for file, _ in self._files:
            file.close()
        if not self._in_order:
            self.targets.rewrite(self._ordered(self.targets.read()))

    def _open(self, write_headers: bool) -> None:
        for path, header, encoder in self.targets.encoders():
            file = AppendOnlyFile(path)
            if write_headers and header:
                file.append(header)
            self._files.append((file, encoder))

    def _save(self, settings: Settings) -> None:
        if self.targets.settings is not None:
            text = json.dumps(settings, indent=1, ensure_ascii=False)
            _write(self.targets.settings, f"{text}\n".encode())

    def _read_comparable(self, settings: Settings) -> list[ResultRow]:
        try:
            rows = self.targets.read()
        except DataError as error:
            raise UsageError(f"cannot go on: {error}", hint=_FRESH_HINT) from error
        if not rows:
            return []
        saved = read_settings(self.targets)
        if found := differences(saved, settings, but={"rows"}):  # there may be more by now
            listed = "; ".join(found)
            raise UsageError(
                f"{self.targets.csv} was made with other settings: {listed}", hint=_FRESH_HINT
            )
        return rows

    def _ordered(self, rows: list[ResultRow]) -> list[ResultRow]:
        """In the order of the run; a row of an image that is gone stays behind its neighbour."""
        places: list[int] = []
        for row in rows:
            places.append(self._positions.get(row.key, places[-1] if places else -1))
        return [rows[i] for i in sorted(range(len(rows)), key=places.__getitem__)]


_FRESH_HINT = "name another --csv, or start anew with --overwrite"


def read_settings(targets: Targets) -> dict[str, Any]:
    """The settings kept beside a CSV; raises UsageError where they are gone."""
    path = targets.settings
    try:
        saved: dict[str, Any] = json.loads(path.read_bytes()) if path else {}
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}, which tells how {targets.csv} was made, cannot be read: {error}",
            hint=_FRESH_HINT,
        ) from error
    return saved
