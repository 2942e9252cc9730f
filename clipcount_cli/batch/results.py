"""Rows on disk: files that grow by whole rows, survive a kill, and can be resumed.

commands/batch.py -> run.py -> [results.py] -> rows.py; report.py reads the same rows.
At any moment the file is a valid CSV except for a torn last line, which `--resume` repairs. JSON
lines, if requested, hold the same rows and follow the CSV, which alone decides what is done. A
workbook is written at the end, from a CSV that grows beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipcount_cli.batch import workbook
from clipcount_cli.batch.plan import FOLDER_PROMPTS
from clipcount_cli.batch.rows import Key, ResultRow, RowFormat
from clipcount_cli.batch.summary import totals
from clipcount_cli.config import GENERIC_PROMPT
from clipcount_cli.errors import DataError, UsageError
from clipcount_cli.files import AppendOnlyFile, atomic_write, exists, require_replaceable

Settings = Mapping[str, Any]
# Settings that may change before a resume: the folder may have moved, and hold more images.
_FREE_TO_CHANGE = {"folder", "rows", "sample", "written"}


_PLURALS = {"weights", "prompts", "columns"}
_OPTIONS = {"batch_windows": "--batch-windows"}  # settings that have no plainer name


def differences(
    saved: Settings, now: Settings, but: Collection[str] = ()
) -> dict[str, tuple[str, str]]:
    """The settings that differ between two runs, by their names for users: both values."""
    found = [name for name in sorted({*saved, *now} - {*but}) if saved.get(name) != now.get(name)]
    if "weights" in found and "weights_sha256" in found:  # whose first digits the former has
        found.remove("weights_sha256")
    return {
        _OPTIONS.get(name, name): (_brief(saved.get(name)), _brief(now.get(name))) for name in found
    }


def _with_generic_prompt(settings: Settings, keys: Iterable[Key]) -> Settings:
    """The settings of a run without prompts, under which no image lay in a sub-folder, either."""
    if settings.get("prompts") == FOLDER_PROMPTS and {p for _, p in keys} == {GENERIC_PROMPT}:
        return {**settings, "prompts": [GENERIC_PROMPT]}
    return settings


def _brief(value: Any) -> str:
    if isinstance(value, bool):
        text = "on" if value else "off"
    elif isinstance(value, list):
        text = ", ".join(f'"{item}"' for item in value)
    else:
        text = "none" if value is None else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _made_otherwise(csv: Path | None, found: Mapping[str, tuple[str, str]]) -> UsageError:
    """The refusal to resume a file that was made with other settings."""
    then_now = [f"{name}: {then} then, {now} now" for name, (then, now) in found.items()]
    name, differing = next(iter(found)), "; ".join(then_now)
    other = f"other {name}" if name in _PLURALS else f"another {name}"
    if len(found) > 1:
        name, other = "settings", "other settings"
        differing = f"{other}: {differing}"
    else:
        differing = other + differing.removeprefix(name)
    return UsageError(
        f"{csv} was made with {differing}", hint=f"use the same {name}, {_RESTART_HINT}"
    )


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


@dataclass(frozen=True)
class Targets:
    """Where rows go, and in which dialect."""

    csv: Path | None  # None: stdout; named .xlsx: a workbook
    json_lines: Path | None = None
    form: RowFormat = field(default_factory=RowFormat)

    @property
    def is_workbook(self) -> bool:
        return self.csv is not None and self.csv.suffix.lower() == workbook.SUFFIX

    @property
    def growing(self) -> Path | None:
        """The CSV that grows: beside a workbook, which cannot, until the run is complete."""
        if self.csv is None or not self.is_workbook:
            return self.csv
        return self.csv.with_name(f".{self.csv.name}.rows.csv")

    @property
    def settings(self) -> Path | None:
        """The file that records the settings of the run, so that another run can compare them."""
        return None if self.csv is None else self.csv.with_name(f"{self.csv.name}.settings.json")

    @property
    def begun(self) -> bool:
        """Whether there are rows of an earlier run."""
        return any(path is not None and exists(path) for path in (self.csv, self.growing))

    def saved_sample(self) -> list[str]:
        """The names of the images whose digests an earlier run recorded."""
        try:
            return list(read_settings(self).get("sample") or {})
        except UsageError:
            return []

    def encoders(self) -> list[tuple[Path | None, bytes, Callable[[ResultRow], bytes]]]:
        """For each growing file: its path, its first line and the encoder of a row."""
        rows: list[tuple[Path | None, bytes, Callable[[ResultRow], bytes]]] = [
            (self.growing, self.form.header, self.form.encode)
        ]
        if self.json_lines is not None:
            rows.append((self.json_lines, b"", self.form.encode_json))
        return rows

    def read(self) -> list[ResultRow]:
        """The whole rows on disk; raises DataError if they are not those of a results file."""
        if self.growing is not None and exists(self.growing):
            return self.form.decode(self.growing.read_bytes(), str(self.growing))
        if self.csv is not None and self.is_workbook and exists(self.csv):
            return workbook.read_workbook(self.csv, self.form)
        return []

    def rewrite(self, rows: Sequence[ResultRow]) -> None:
        """Make the growing files hold exactly `rows`, leaving those that already do untouched."""
        for path, header, encode in self.encoders():
            if path is None:
                continue
            wanted = header + b"".join(map(encode, rows))
            if not exists(path) or path.read_bytes() != wanted:
                _write(path, wanted)


class ResultsFile:
    """The growing rows of one run; `positions` is their order in the finished file."""

    def __init__(self, targets: Targets, positions: Mapping[Key, int]) -> None:
        self.targets = targets
        self.kept: list[ResultRow] = []  # rows of an earlier run that are not counted again
        self.dropped: list[ResultRow] = []  # rows of images that no longer exist
        self._positions = positions
        self._last = -1
        self._in_order = True
        self._files: list[tuple[AppendOnlyFile, Callable[[ResultRow], bytes]]] = []

    @property
    def planned(self) -> int:
        """The number of image-prompt pairs that the finished file is to have."""
        return len(self._positions)

    def start(self, settings: Settings) -> None:
        """Start the files afresh; none is changed if one of them cannot be replaced."""
        files = [path for path, _, _ in self.targets.encoders()]
        require_replaceable(*files, self.targets.settings)
        # The CSV before the settings: old rows never meet new ones.
        for path, header, _ in reversed(self.targets.encoders()):
            if path is not None:
                _write(path, header)
        self.save_settings(settings)
        self._open(header_on_stdout=True)

    def resume(self, settings: Settings) -> None:
        """Keep the rows that are done, in `kept`; drop what failed, is torn or no longer planned.

        Raises UsageError if the rows on disk were made with other settings.
        """
        files = [path for path, _, _ in self.targets.encoders()]
        require_replaceable(*files, self.targets.settings)
        rows = self._read_comparable(settings)
        if self.targets.form.regions and rows:  # the last image may lack regions: killed meanwhile
            rows = [row for row in rows if row.image != rows[-1].image]
        done = {(row.key, row.region): row for row in rows if not row.failed}
        self.kept = self._ordered([row for row in done.values() if row.key in self._positions])
        self.dropped = [row for row in done.values() if row.key not in self._positions]
        self.save_settings(settings)
        self.targets.rewrite(self.kept)
        self._last = self._positions[self.kept[-1].key] if self.kept else -1
        self._open()

    def append(self, rows: Sequence[ResultRow]) -> None:
        """Put rows on disk, in the order given."""
        for row in rows:
            position = self._positions[row.key]
            self._in_order &= position >= self._last
            self._last = max(position, self._last)
        for file, encoder in self._files:
            file.append(b"".join(map(encoder, rows)))

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the files, and put retried rows into the order of an undisturbed run."""
        for file, _ in self._files:
            file.close()
        if not self._in_order:
            self.targets.rewrite(self._ordered(self.targets.read()))

    def finish(self, rows: Sequence[ResultRow]) -> None:
        """Write the rows of a complete run as a workbook, if that was requested."""
        growing, csv = self.targets.growing, self.targets.csv
        if self.targets.is_workbook and csv is not None and growing is not None:
            workbook.write_workbook(csv, rows, self.targets.form, totals(rows))
            growing.unlink()

    def _open(self, header_on_stdout: bool = False) -> None:
        for path, header, encoder in self.targets.encoders():
            file = AppendOnlyFile(path)
            if path is None and header_on_stdout:
                file.append(header)
            self._files.append((file, encoder))

    def save_settings(self, settings: Settings) -> None:
        """Record the settings of a run beside its CSV."""
        if self.targets.settings is not None:
            text = json.dumps(settings, indent=1, ensure_ascii=False)
            _write(self.targets.settings, f"{text}\n".encode())

    def _read_comparable(self, settings: Settings) -> list[ResultRow]:
        try:
            rows = self.targets.read()
        except DataError as error:
            raise UsageError(f"cannot resume: {error}", hint=_RESTART_HINT) from error
        if not rows:
            return []
        saved = read_settings(self.targets)
        before = _with_generic_prompt(saved, (row.key for row in rows))
        now = _with_generic_prompt(settings, self._positions)
        if differences(saved, settings, _FREE_TO_CHANGE) and (
            found := differences(before, now, _FREE_TO_CHANGE)
        ):
            raise _made_otherwise(self.targets.csv, found)
        if saved.get("folder") != settings.get("folder"):
            self._require_same_images(saved, settings, rows)
        return rows

    def _require_same_images(
        self, saved: Settings, now: Settings, rows: Sequence[ResultRow]
    ) -> None:
        """Refuse a folder of other images that have the same names as those counted before."""
        before, after = saved.get("sample") or {}, now.get("sample") or {}
        counted = {row.image for row in rows if not row.failed}
        for name in sorted(counted & {*before} & {*after}):
            if before[name] != after[name]:
                raise UsageError(
                    f"{self.targets.csv} was made from other images: {name} in {saved['folder']} "
                    f"was not the {name} in {now['folder']}",
                    hint=_RESTART_HINT,
                )

    def _ordered(self, rows: Sequence[ResultRow]) -> list[ResultRow]:
        """Sort rows by the order of the run, keeping the regions of an image in theirs."""
        return sorted(rows, key=lambda row: self._positions[row.key])


_RESTART_HINT = "name another --csv, or start again with --overwrite"


def read_settings(targets: Targets) -> dict[str, Any]:
    """Read the settings recorded beside a CSV; raises UsageError if missing or damaged."""
    path = targets.settings
    try:
        saved: dict[str, Any] = json.loads(path.read_bytes()) if path else {}
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}, which records how {targets.csv} was made, cannot be read: {error}",
            hint=_RESTART_HINT,
        ) from error
    return saved
