"""Rows become one HTML page that needs nothing else: no network, no server, no script of others.

commands -> run.py -> results.py (rows) -> [report.py]
While a run goes on, its thumbnails wait in a file beside the page-to-be, written before their rows,
so that a killed run loses none; the page is made of both at the end, one picture at a time. A run
that resumes a finished one takes the thumbnails of the rows it keeps from the page.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from clipcount_cli.batch.results import Key, ResultRow, Settings
from clipcount_cli.files import AppendOnlyFile, atomic_write
from clipcount_cli.version import __version__

if TYPE_CHECKING:
    from clipcount_cli.batch.pipeline import Outcome

_SHOWN_SETTINGS = {  # settings a reader of the page wants, and what to call them
    "weights": "weights",
    "weights_sha256": "sha256 of the weights",
    "device": "device",
    "precision": "precision",
    "folder": "folder",
    "prompts": "prompts",
    "tiles": "tiles",
    "batch_windows": "windows a batch",
    "shard": "shard",
}


_DATA = re.compile(r'<script type="application/json" id="data">(.*)</script>')
_PICTURE = re.compile(r'<script type="text/plain" id="(photo|overlay)(\d+)".*>(.*)</script>')


class Thumbnails:
    """The pictures of a page in the making: a file of lines that grows as rows are written."""

    def __init__(self, report: Path, kept: Sequence[ResultRow] = ()) -> None:
        """`kept`: the rows of an earlier run that stay, and with them their pictures."""
        path = thumbnails_path(report)
        if not kept:
            path.unlink(missing_ok=True)
        elif path.exists():
            with path.open("rb+") as file:
                file.truncate(_whole_length(file))
        elif report.exists():
            with atomic_write(path) as temporary, temporary.open("wb") as out:
                out.writelines(_taken_back(report, kept))
        self._file = AppendOnlyFile(path)

    def append(self, outcome: Outcome) -> None:
        """Keep the thumbnails of one image."""
        if outcome.fault:
            return
        lines = [
            _line(outcome.job.image, prompt, _base64(made.photo), _base64(made.overlay))
            for prompt, made in zip(outcome.job.prompts, outcome.extras, strict=True)
        ]
        self._file.append(b"".join(lines))

    def close(self) -> None:
        self._file.close()


def thumbnails_path(report: Path) -> Path:
    """Where the pictures of a page in the making wait."""
    return report.with_name(f".{report.name}.thumbnails")


def _whole_length(file: BinaryIO) -> int:
    length = 0
    for line in file:
        length += len(line) if line.endswith(b"\n") else 0
    return length


def _taken_back(page: Path, kept: Sequence[ResultRow]) -> Iterator[bytes]:
    """The lines that a finished page was made of, for rows that are still as it shows them."""
    wanted = {_cells(row) for row in kept}
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


def write_report(path: Path, rows: Sequence[ResultRow], settings: Settings) -> None:
    """Write the page of `rows` to `path`, with the thumbnails that waited beside it."""
    before, after = _template().split("<!--pictures-->")
    waiting = thumbnails_path(path)
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as out,
    ):
        out.write(_filled(before, rows, settings))
        if waiting.exists():
            with waiting.open("rb") as lines:
                out.writelines(_pictures(lines, rows))
        out.write(after)
    waiting.unlink(missing_ok=True)


def _template() -> str:
    return resources.files("clipcount_cli").joinpath("assets/report.html").read_text("utf-8")


def _filled(template: str, rows: Sequence[ResultRow], settings: Settings) -> str:
    named = ((name, settings.get(key)) for key, name in _SHOWN_SETTINGS.items())
    shown = {name: value for name, value in named if value is not None}
    data = {
        "rows": [_cells(row) for row in rows],
        "settings": {name: _in_words(value) for name, value in shown.items()},
        "version": __version__,
    }
    title = html.escape(f"clipcount: {len(rows)} rows")
    return template.replace("<!--title-->", title).replace("<!--data-->", script_json(data))


def _cells(row: ResultRow) -> tuple[Any, ...]:
    return (row.image, row.prompt, row.count, row.status, row.message, row.width, row.height)


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def script_json(data: Any) -> str:
    """JSON that may stand in a <script>: no text in it can end the element or open another."""
    text = json.dumps(data, ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _pictures(lines: BinaryIO, rows: Sequence[ResultRow]) -> Iterator[str]:
    """Inert elements that hold base64: the browser decodes a picture when its row is seen.

    An overlay belongs to the photo before it.
    """
    numbers: dict[Key, int] = {row.key: number for number, row in enumerate(rows)}
    last, photo_number = "", -1
    for line in lines:
        image, prompt, photo, overlay = json.loads(line)
        number = numbers.pop((image, prompt), None)
        if number is None:
            continue
        if image != last:
            last, photo_number = image, number
            yield f'<script type="text/plain" id="photo{number}">{photo}</script>\n'
        yield (
            f'<script type="text/plain" id="overlay{number}" data-photo="{photo_number}">'
            f"{overlay}</script>\n"
        )
