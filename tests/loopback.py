"""A small web server on loopback that serves one file as badly as a test asks for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DRIVE_PAGE = """<!DOCTYPE html><html><body>
<form id="download-form" action="/confirmed" method="get">
<input type="submit" value="Download anyway"/>
<input type="hidden" name="id" value="17D"><input type="hidden" name="confirm" value="t">
<input type="hidden" name="uuid" value="a-b"></form></body></html>"""


@dataclass
class FileServer:
    """What is served, and what was asked. Changing a field changes the next answer."""

    content: bytes = b""
    etag: str | None = '"first"'
    ranges: bool = True  # False: answers every request with the whole file
    says_length: bool = True
    status: int = 200
    cuts: list[int] = field(default_factory=list)  # answer i breaks off after so many bytes
    page: str | None = None  # shown at every address but /confirmed
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    held_back: threading.Event | None = None  # the answer waits for it
    redirects: dict[str, tuple[int, str]] = field(default_factory=dict)  # path -> status, address
    extent: str | None = None  # a Content-Range of its own making
    length: str | None = None  # a Content-Length of its own making
    redirect_length: str | None = None  # the Content-Length of a redirect's page, which never comes
    base: str = ""

    @property
    def url(self) -> str:
        return f"{self.base}/models/head.ckpt"

    @property
    def offsets(self) -> list[str | None]:
        return [wanted for _, wanted in self.asked]


@contextmanager
def serving(content: bytes = b"", **fields: Any) -> Iterator[FileServer]:
    """Serve `content` until the block ends."""
    served = FileServer(content, **fields)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    served.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(served: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            served.asked.append((self.path, wanted))
            if served.held_back is not None:
                served.held_back.wait(10)
            path = self.path.partition("?")[0]
            if served.status != 200:
                self.send_error(served.status)
            elif path in served.redirects:
                status, address = served.redirects[path]
                self._answer(status, b"", {"Location": address}, served.redirect_length)
            elif served.page is not None and not self.path.startswith("/confirmed"):
                self._answer(200, served.page.encode(), {"Content-Type": "text/html"})
            else:
                self._send_file(wanted)

        def _send_file(self, wanted: str | None) -> None:
            total = len(served.content)
            known = self.headers.get("If-Range") in (None, served.etag)
            start = int(wanted[len("bytes=") : -1]) if wanted and served.ranges and known else 0
            headers = {"ETag": served.etag} if served.etag else {}
            if start >= total > 0:
                self._answer(416, b"", {"Content-Range": f"bytes */{total}"})
                return
            if start:
                whole = f"bytes {start}-{total - 1}/{total}"
                headers["Content-Range"] = whole if served.extent is None else served.extent
            self._answer(206 if start else 200, served.content[start:], headers)

        def _answer(
            self, status: int, body: bytes, headers: dict[str, str], length: str | None = None
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if served.says_length:
                self.send_header("Content-Length", length or served.length or str(len(body)))
            self.end_headers()
            is_file = "Content-Type" not in headers
            self.wfile.write(body[: served.cuts.pop(0)] if served.cuts and is_file else body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
