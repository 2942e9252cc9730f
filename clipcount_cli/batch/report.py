"""Write rows as one self-contained HTML page: no network, no server, no external script.

run.py -> results.py (rows) -> [report.py]
During a run, thumbnails are collected in a file beside the future page, each written before its
rows, so that a killed run loses none; at the end, the page is made from both, one image at a time.
A run that resumes a finished one takes the thumbnails of the rows it keeps from the page.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from clipcount_cli.batch.results import Settings
from clipcount_cli.batch.rows import Key, ResultRow
from clipcount_cli.console import printable
from clipcount_cli.counting.heatmap import colour_ramp
from clipcount_cli.files import AppendOnlyFile, as_text, atomic_write
from clipcount_cli.version import __version__

if TYPE_CHECKING:
    from clipcount_cli.batch.pipeline import Outcome

_SHOWN_SETTINGS = {  # settings that the page shows, and their names there
    "weights": "weights",
    "weights_sha256": "sha256 of the weights",
    "device": "device",
    "precision": "precision",
    "folder": "folder",
    "prompts": "prompts",
    "tiles": "tiles",
    "batch_windows": "windows per batch",
    "shard": "shard",
}
_RAMP_STOPS = 12  # colours in the page's legend

_DATA = re.compile(r'<script type="application/json" id="data">(.*)</script>')
_PICTURE = re.compile(r'<script type="text/plain" id="(photo|overlay)(\d+)".*>(.*)</script>')


class Thumbnails:
    """The images of a future page, collected line by line as rows are written."""

    def __init__(self, report: Path, kept: Sequence[ResultRow] = ()) -> None:
        """kept: the rows of an earlier run that are not counted again."""
        path = thumbnails_path(report)
        if not kept:
            path.unlink(missing_ok=True)
        elif path.exists():
            with path.open("rb+") as file:
                file.truncate(_whole_length(file))
        elif report.exists():
            with atomic_write(path) as temporary, temporary.open("wb") as out:
                out.writelines(_recovered_lines(report, kept))
        self._file = AppendOnlyFile(path)

    def append(self, outcome: Outcome) -> None:
        """Keep the thumbnails of one image."""
        if outcome.fault:
            return
        lines = [
            _line(outcome.job.image, prompt, *map(_base64, made.thumbnail))
            for prompt, made in zip(outcome.job.prompts, outcome.extras, strict=True)
        ]
        self._file.append(b"".join(lines))

    def close(self) -> None:
        self._file.close()


def thumbnails_path(report: Path) -> Path:
    """The file that collects the thumbnails of a future page."""
    return report.with_name(f".{report.name}.thumbnails")


def _whole_length(file: BinaryIO) -> int:
    length = 0
    for line in file:
        length += len(line) if line.endswith(b"\n") else 0
    return length


def _recovered_lines(page: Path, kept: Sequence[ResultRow]) -> Iterator[bytes]:
    """Recover the lines that a finished page was made from, for rows that have not changed."""
    wanted = {tuple(_cells(row)) for row in kept}
    shown: list[tuple[Any, ...]] = []
    photo = ""
    with page.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for line in lines:
            if data := _DATA.match(line):
                shown = [tuple(cells) for cells in json.loads(data[1])["rows"]]
            elif picture := _PICTURE.match(line):
                kind, number, encoded = picture.groups()
                if kind == "photo":
                    photo = encoded
                elif (cells := shown[int(number)]) in wanted:
                    yield _line(cells[0], cells[1], photo, encoded)


def _line(image: str, prompt: str, photo: str, overlay: str) -> bytes:
    return (json.dumps([image, prompt, photo, overlay]) + "\n").encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def write_report(
    path: Path, rows: Sequence[ResultRow], settings: Settings, csv: Path | None = None
) -> None:
    """Write the page of `rows` to `path`, with the thumbnails collected beside it.

    csv: the file of the rows, which the page links to.
    """
    before, after = _template().split("<!--images-->")
    waiting = thumbnails_path(path)
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as out,
    ):
        out.write(_filled(before, rows, settings, _link(path, csv)))
        if waiting.exists():
            with waiting.open("rb") as lines:
                out.writelines(_images(lines, rows))
        out.write(after)
    waiting.unlink(missing_ok=True)


def _template() -> str:
    return resources.files("clipcount_cli").joinpath("assets/report.html").read_text("utf-8")


def _filled(
    template: str, rows: Sequence[ResultRow], settings: Settings, link: dict[str, str] | None
) -> str:
    named = ((name, settings.get(key)) for key, name in _SHOWN_SETTINGS.items())
    shown = {name: value for name, value in named if value is not None}
    data = {
        "rows": [_cells(row) for row in rows],
        "settings": {name: _in_words(value) for name, value in shown.items()},
        "version": __version__,
        "made": f"{datetime.now():%Y-%m-%d %H:%M}",
        "csv": link,
        "ramp": ["#" + bytes(colour[:3]).hex() for colour in colour_ramp(_RAMP_STOPS)],
        "regions": "region" in settings.get("columns", ()),
    }
    folder = settings.get("folder")
    name = f"Counts in {Path(folder).name or folder}" if folder else "Counts"
    heading = html.escape(printable(name))
    filled = template.replace("<!--heading-->", heading).replace("<!--data-->", script_json(data))
    return filled.replace("<!--title-->", f"{heading}, {data['made']}")


def _link(page: Path, csv: Path | None) -> dict[str, str] | None:
    """Name and relative address of the CSV, as seen from the page."""
    if csv is None:
        return None
    try:
        relative = os.path.relpath(csv.resolve(), page.parent.resolve())
    except ValueError:  # another drive
        return {"name": csv.name, "href": csv.resolve().as_uri()}
    address = quote(os.fsencode(relative.replace(os.sep, "/")))
    return {
        "name": as_text(csv.name),
        "href": address if address.startswith("..") else f"./{address}",
    }


def _cells(row: ResultRow) -> tuple[Any, ...]:
    cells = (row.image, row.prompt, row.count, row.status, row.message, row.width, row.height)
    return (*cells, row.region) if row.region else cells


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def script_json(data: Any) -> str:
    """JSON that is safe in a <script>: no text in it can end the element or open another."""
    text = json.dumps(data, ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _images(lines: BinaryIO, rows: Sequence[ResultRow]) -> Iterator[str]:
    """Inert elements that hold base64: the browser decodes an image when its row is shown.

    An overlay belongs to the photo before it.
    """
    numbers: dict[Key, int] = {}
    for number, row in enumerate(rows):
        numbers.setdefault(row.key, number)
    last, photo_number = "", -1
    for line in lines:
        image, prompt, photo, overlay = json.loads(line)
        number = numbers.pop((image, prompt), -1)
        if number < 0:
            continue
        if image != last:
            last, photo_number = image, number
            yield f'<script type="text/plain" id="photo{number}">{photo}</script>\n'
        yield (
            f'<script type="text/plain" id="overlay{number}" data-photo="{photo_number}">'
            f"{overlay}</script>\n"
        )
