"""Download a web address to a whole, verified file; an interrupted download resumes.

Weights files: web.py -> [download.py] -> install.py. The bytes go to `FILE.part`, hashed as they
arrive, and the file is moved into place only if its length and digest are right. Standard library
only, no torch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import re
import urllib.error
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from clipcount_cli.errors import DownloadError
from clipcount_cli.version import __version__
from clipcount_cli.weights import web

Report = Callable[[float, float | None], None]  # bytes done, bytes in all if known

ATTEMPTS = 3  # connections per call, each resuming where the last one broke
MAX_FILE_BYTES = 8_000_000_000  # a checkpoint of the whole network with its optimizer has 2 GB
BY_HAND = "download it in a browser, then run `clipcount download-weights --checkpoint FILE`"
_BLOCK_BYTES = 1 << 18
_PAGE_LIMIT_BYTES = 1 << 17  # Google Drive's confirmation has 3 kB
_AGENT = f"Mozilla/5.0 (compatible; clipcount-cli/{__version__})"
_LENGTH = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
_UNSATISFIED_RANGE = re.compile(r"bytes \*/([0-9]{1,18})")


def fetch(
    url: str,
    target: Path,
    sha256: str | None = None,
    report: Report | None = None,
    by_hand: str = BY_HAND,
) -> str:
    """Download `url` to `target`, resuming an earlier attempt; return the file's sha256.

    sha256: the expected digest, 64 hex digits; None accepts any. report: called with the progress.
    by_hand: the hint if the address does not deliver. Raises DownloadError; what has arrived is
    kept for the next call, unless it is wrong. Raises UsageError if `url` is not a web address.
    """
    web.require_web_address(url)
    part = _Part.open(url, target)
    broken: OSError | http.client.HTTPException | None = None
    for _ in range(ATTEMPTS):
        before = part.size_bytes
        try:
            if _continue(part, report or (lambda done, total: None), by_hand):
                return _finish(part, target, sha256)
        except (OSError, http.client.HTTPException) as error:
            _raise_if_final(error, url, by_hand)
            broken = error
        if part.size_bytes == before:
            break
    raise _interrupted(part, broken, by_hand) from broken


class _Part:
    """An unfinished file, its digest so far, and what the server stated about the whole one."""

    def __init__(self, url: str, path: Path) -> None:
        self.url, self.path = url, path
        self.validator: str | None = None  # ETag or date: never mix the bytes of two versions
        self.total_bytes: int | None = None
        self.size_bytes = 0
        self.computed = hashlib.sha256()

    @classmethod
    def open(cls, url: str, target: Path) -> _Part:
        """Continue what an earlier call for the same address left, if it did."""
        part = cls(url, target.with_name(f"{target.name}.part"))
        try:
            notes = json.loads(part._notes.read_text(encoding="utf-8"))
            validator, total_bytes = notes["validator"], notes["total_bytes"]
            if notes["url"] != url or not isinstance(validator, str | None):
                raise ValueError("another file")
            part.validator, part.total_bytes = validator, total_bytes
            with part.path.open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    part._count(block)
        except (OSError, ValueError, TypeError, KeyError):
            part.discard()
        return part

    @property
    def _notes(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def start(self, validator: str | None, total_bytes: int | None) -> None:
        """Start an empty file, with what the server states about the whole one."""
        self.discard()
        self.validator, self.total_bytes = validator, total_bytes
        self._require_size(total_bytes or 0)
        notes = {"url": self.url, "validator": validator, "total_bytes": total_bytes}
        with _writing(self.path):
            self._notes.write_text(json.dumps(notes), encoding="utf-8")

    def append(self, response: http.client.HTTPResponse, report: Report) -> None:
        """Write what arrives, hashing it on the way."""
        report(self.size_bytes, self.total_bytes)
        while block := response.read(_BLOCK_BYTES):
            self._require_size(self.size_bytes + len(block))
            with _writing(self.path), self.path.open("ab") as file:
                file.write(block)
            self._count(block)
            report(self.size_bytes, self.total_bytes)

    def discard(self) -> None:
        with _writing(self.path):
            self.path.unlink(missing_ok=True)
            self._notes.unlink(missing_ok=True)
        self.size_bytes, self.computed = 0, hashlib.sha256()

    def _count(self, block: bytes) -> None:
        self.size_bytes += len(block)
        self.computed.update(block)

    def _require_size(self, size_bytes: int) -> None:
        if size_bytes > MAX_FILE_BYTES:
            self.discard()
            raise DownloadError(
                f"{self.url} sends more than {MAX_FILE_BYTES / 1e9:g} GB, which no weights file "
                "has; the download was deleted",
                hint="check the address",
            )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise DownloadError for an OSError of the disk, which another attempt does not fix."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DownloadError(
                f"the disk is full: the download does not fit into {path.parent}",
                hint="free some space and run the same command again to resume, or choose another "
                "folder with the variable CLIPCOUNT_HOME",
            ) from error
        raise DownloadError(
            f"{path} cannot be written: {error.strerror}",
            hint="choose another folder with the variable CLIPCOUNT_HOME",
        ) from error


def _continue(part: _Part, report: Report, by_hand: str) -> bool:
    """Request what is missing and append it; True when the file is complete."""
    with _response(part, by_hand) as response:
        if response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            total = _UNSATISFIED_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if total and int(total[1]) == part.size_bytes:  # nothing is missing
                return True
            part.discard()
            return False
        start, total_bytes = _extent(response, part.url)
        if start and (start, total_bytes) != (part.size_bytes, part.total_bytes):
            part.discard()  # another version of the file
            return False
        if not start:  # the first request, or a server that only sends the file whole
            part.start(_validator_of(response), total_bytes)
        part.append(response, report)
    return part.total_bytes is None or part.size_bytes == part.total_bytes


def _finish(part: _Part, target: Path, expected: str | None) -> str:
    """Verify the whole file and move it into place."""
    actual = part.computed.hexdigest()
    if expected is not None and actual != expected.lower():
        part.discard()
        raise DownloadError(
            f"{part.url} is not the expected file: expected sha256 {expected.lower()}, "
            f"got {actual}; the download was deleted",
            hint="try again; if it fails again, the file behind the address has changed: if you "
            f"trust the new one, accept it with --sha256 {actual}",
        )
    with _writing(target):
        part.path.replace(target)
    part.discard()
    return actual


@contextlib.contextmanager
def _response(part: _Part, by_hand: str) -> Iterator[http.client.HTTPResponse]:
    """Open the file's address at what is missing, through Google Drive's confirmation page."""
    headers = {"User-Agent": _AGENT}
    if part.size_bytes:
        headers["Range"] = f"bytes={part.size_bytes}-"
        if part.validator:
            headers["If-Range"] = part.validator
    opener = web.new_opener()
    response = web.open_address(opener, part.url, headers)
    if response.headers.get_content_type() == "text/html":
        with response:
            page = response.read(_PAGE_LIMIT_BYTES).decode("utf-8", "replace")
        address = _confirmed_address(page, response.url, by_hand)
        response = web.open_address(opener, address, headers)
    with response:
        if response.headers.get_content_type() == "text/html":
            raise _web_page(part.url, by_hand)
        yield response


class _ConfirmationForm(HTMLParser):
    """The form behind "Download anyway", shown for files too large for a virus scan."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "form" and attributes.get("id") == "download-form":
            self.action, self._inside = attributes.get("action"), True
        elif tag == "input" and self._inside and (name := attributes.get("name")):
            self.fields[name] = attributes.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"


def _confirmed_address(page: str, url: str, by_hand: str) -> str:
    form = _ConfirmationForm()
    # Before Python 3.13.4 the parser asserts on some broken markup (python/cpython#77057).
    with contextlib.suppress(AssertionError):
        form.feed(page)
    if not form.action:
        raise _web_page(url, by_hand)
    address = web.next_address(url, form.action)
    return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(form.fields)}"


def _web_page(url: str, by_hand: str) -> DownloadError:
    return DownloadError(
        f"{url} returned a web page instead of the file; it may have been downloaded too often "
        "today",
        hint=by_hand,
    )


def _extent(response: http.client.HTTPResponse, url: str) -> tuple[int, int | None]:
    """Where in the file a response begins, and the length of the whole file if known."""
    if response.status != http.client.PARTIAL_CONTENT:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if _LENGTH.fullmatch(length) else None
    stated = response.headers.get("Content-Range", "")
    if (extent := _RANGE.fullmatch(stated)) is None:
        raise DownloadError(
            f"{url} returned a part of the file with the unreadable Content-Range {stated!r}",
            hint="check the address, or run the same command again",
        )
    return int(extent[1]), None if extent[2] == "*" else int(extent[2])


def _validator_of(response: http.client.HTTPResponse) -> str | None:
    tag = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):  # a weak tag does not promise the same bytes
        return tag
    return response.headers.get("Last-Modified")


def _raise_if_final(error: OSError | http.client.HTTPException, url: str, by_hand: str) -> None:
    """Raise what another attempt does not change: a response that refuses."""
    if isinstance(error, urllib.error.HTTPError) and error.code < 400:  # urllib follows ten
        raise DownloadError(
            f"{url} redirects in a circle, or without end", hint=f"check the address, or {by_hand}"
        ) from error
    if isinstance(error, urllib.error.HTTPError) and error.code < 500:
        raise DownloadError(
            f"{url} returned {error.code} {error.reason}", hint=f"check the address, or {by_hand}"
        ) from error


def _interrupted(
    part: _Part, error: OSError | http.client.HTTPException | None, by_hand: str
) -> DownloadError:
    failed = isinstance(error, urllib.error.HTTPError)
    why = "" if error is None else f": {error if failed else web.reason_of(error)}"
    if not part.size_bytes:
        return DownloadError(
            f"{part.url} cannot be reached{why}", hint=f"check the connection, or {by_hand}"
        )
    total = f" of {part.total_bytes}" if part.total_bytes else ""
    return DownloadError(
        f"the download of {part.url} was cut off after {part.size_bytes}{total} bytes{why}",
        hint="run the same command again: it resumes from there",
    )
