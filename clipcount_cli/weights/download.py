"""A web address becomes a whole, verified file; what is interrupted goes on where it stopped.

The bytes go to `FILE.part`, hashed as they come, and the file is moved into place only when its
length and digest are right. Standard library only, no torch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from clipcount_cli.errors import DownloadError, UsageError
from clipcount_cli.version import __version__

Report = Callable[[float, float | None], None]  # bytes done, bytes in all where known

ATTEMPTS = 3  # connections in one call, each going on where the last one broke
_TIMEOUT_S = 30
_BLOCK_BYTES = 1 << 18
_PAGE_LIMIT_BYTES = 1 << 20
_AGENT = f"Mozilla/5.0 (compatible; clipcount-cli/{__version__})"
_BY_HAND = "download it in a browser, then run `clipcount download-weights --checkpoint FILE`"


def fetch(url: str, target: Path, sha256: str | None = None, report: Report | None = None) -> str:
    """Download `url` to `target`, going on from an earlier attempt; return the file's sha256.

    sha256: the expected digest, 64 hex digits; None accepts any. report: told of progress.
    Raises DownloadError; what has arrived is kept for the next call, unless it is wrong.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise UsageError(f"{url} is not an http or https address")
    part = _Part.open(url, target)
    broken: OSError | http.client.HTTPException | None = None
    for _ in range(ATTEMPTS):
        before = part.size_bytes
        try:
            if _continue(part, report or (lambda done, total: None)):
                return _finish(part, target, sha256)
        except (OSError, http.client.HTTPException) as error:
            _raise_if_final(error, url, target)
            broken = error
        if part.size_bytes == before:
            break
    raise _interrupted(part, broken) from broken


class _Part:
    """An unfinished file, its digest so far, and what the server said of the whole one."""

    def __init__(self, url: str, path: Path) -> None:
        self.url, self.path = url, path
        self.validator: str | None = None  # ETag or date: never mix the bytes of two versions
        self.total_bytes: int | None = None
        self.size_bytes = 0
        self.computed = hashlib.sha256()

    @classmethod
    def open(cls, url: str, target: Path) -> _Part:
        """Take up what an earlier call for the same address left, if it did."""
        part = cls(url, target.with_name(f"{target.name}.part"))
        try:
            said = json.loads(part._notes.read_text(encoding="utf-8"))
            if said["url"] != url:
                raise ValueError("another file")
            part.validator, part.total_bytes = said["validator"], said["total_bytes"]
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
        """Start from nothing, with what the server says of the file."""
        self.discard()
        self.validator, self.total_bytes = validator, total_bytes
        said = {"url": self.url, "validator": validator, "total_bytes": total_bytes}
        self._notes.write_text(json.dumps(said), encoding="utf-8")

    def append(self, answer: http.client.HTTPResponse, report: Report) -> None:
        """Write what comes, hashing it on the way."""
        report(self.size_bytes, self.total_bytes)
        with self.path.open("ab") as file:
            while block := answer.read(_BLOCK_BYTES):
                file.write(block)
                self._count(block)
                report(self.size_bytes, self.total_bytes)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)
        self.size_bytes, self.computed = 0, hashlib.sha256()

    def _count(self, block: bytes) -> None:
        self.size_bytes += len(block)
        self.computed.update(block)


def _continue(part: _Part, report: Report) -> bool:
    """Ask for what is missing and append it; True when the file is complete."""
    with _ask(part, part.size_bytes) as answer:
        start = _start_of(answer)
        if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            if start == part.size_bytes:  # nothing is missing
                return True
            part.discard()
            return False
        if start and (start != part.size_bytes or part.total_bytes != _total_of(answer)):
            part.discard()  # another version of the file
            return False
        if not start:  # the first request, or a server that only sends the file whole
            part.start(_validator_of(answer), _total_of(answer))
        part.append(answer, report)
    return part.total_bytes is None or part.size_bytes == part.total_bytes


def _finish(part: _Part, target: Path, expected: str | None) -> str:
    """Verify the whole file and move it into place."""
    actual = part.computed.hexdigest()
    if expected is not None and actual != expected.lower():
        part.discard()
        raise DownloadError(
            f"{part.url} is not the expected file: expected sha256 {expected.lower()}, "
            f"got {actual}; the download was deleted",
            hint="try again; if it stays so, the file behind the address has changed: if you trust "
            f"the new one, accept it with --sha256 {actual}",
        )
    part.path.replace(target)
    part.discard()
    return actual


@contextlib.contextmanager
def _ask(part: _Part, offset: int) -> Iterator[http.client.HTTPResponse]:
    """Open the file's address from `offset` on, through Google Drive's confirmation if it asks."""
    headers = {"User-Agent": _AGENT}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if part.validator:
            headers["If-Range"] = part.validator
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(), _KeepRangeErrors())
    answer = opener.open(urllib.request.Request(part.url, headers=headers), timeout=_TIMEOUT_S)
    if answer.headers.get_content_type() == "text/html":
        with answer:
            page = answer.read(_PAGE_LIMIT_BYTES).decode("utf-8", "replace")
        address = _confirmed_address(page, answer.url)
        answer = opener.open(urllib.request.Request(address, headers=headers), timeout=_TIMEOUT_S)
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise _web_page(part.url)
        yield answer


class _KeepRangeErrors(urllib.request.HTTPErrorProcessor):
    """Answer 416 is an answer: it says how long the file is."""

    def http_response(self, request: Any, response: Any) -> Any:
        if response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return response
        return super().http_response(request, response)

    https_response = http_response


class _ConfirmationForm(HTMLParser):
    """The form behind "Download anyway", shown for files too large for a virus scan."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "form" and said.get("id") == "download-form":
            self.action, self._inside = said.get("action"), True
        elif tag == "input" and self._inside and (name := said.get("name")):
            self.fields[name] = said.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"


def _confirmed_address(page: str, url: str) -> str:
    form = _ConfirmationForm()
    form.feed(page)
    if not form.action:
        raise _web_page(url)
    address = urljoin(url, form.action)
    return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(form.fields)}"


def _web_page(url: str) -> DownloadError:
    return DownloadError(
        f"{url} answered with a web page instead of the file; too many may be asking for it now",
        hint=_BY_HAND,
    )


def _start_of(answer: http.client.HTTPResponse) -> int:
    """The position in the file of the first byte of an answer; its length where nothing is left."""
    said = answer.headers.get("Content-Range", "").removeprefix("bytes").strip()
    if answer.status == http.client.PARTIAL_CONTENT:
        return int(said.partition("-")[0])
    if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        return int(said.removeprefix("*/") or -1)
    return 0


def _total_of(answer: http.client.HTTPResponse) -> int | None:
    if answer.status == http.client.PARTIAL_CONTENT:
        total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = answer.headers.get("Content-Length", "")
    return int(total) if total.isdigit() else None


def _validator_of(answer: http.client.HTTPResponse) -> str | None:
    tag = answer.headers.get("ETag")
    if tag and not tag.startswith("W/"):  # a weak tag does not promise the same bytes
        return tag
    return answer.headers.get("Last-Modified")


def _raise_if_final(error: OSError | http.client.HTTPException, url: str, target: Path) -> None:
    """Raise what trying again cannot mend: an answer that refuses, or a disk without room."""
    if isinstance(error, urllib.error.HTTPError) and error.code < 500:
        raise DownloadError(
            f"{url} answered {error.code} {error.reason}",
            hint=f"check the address, or {_BY_HAND}",
        ) from error
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        raise DownloadError(
            f"the disk is full: {url} does not fit into {target.parent}",
            hint="free some space and run the same command to go on, or choose another folder with "
            "the variable CLIPCOUNT_HOME",
        ) from error
    if isinstance(error, PermissionError | IsADirectoryError):
        raise DownloadError(
            f"{target} cannot be written: {error.strerror}",
            hint="choose another folder with the variable CLIPCOUNT_HOME",
        ) from error


def _interrupted(part: _Part, error: OSError | http.client.HTTPException | None) -> DownloadError:
    reason = str(error) if isinstance(error, urllib.error.HTTPError) else _reason(error)
    why = f": {reason}" if reason else ""
    if not part.size_bytes:
        return DownloadError(
            f"{part.url} cannot be reached{why}", hint=f"check the connection, or {_BY_HAND}"
        )
    total = f" of {part.total_bytes}" if part.total_bytes else ""
    return DownloadError(
        f"the download of {part.url} was cut off after {part.size_bytes}{total} bytes{why}",
        hint="run the same command again: it goes on from there",
    )


def _reason(error: BaseException | None) -> str:
    return str(getattr(error, "reason", None) or error or "")
