"""Which addresses a download may open: http and https only, at every hop, and no downgrade.

Weights files: [web.py] -> download.py. A server chooses where its redirects and forms lead, so each
of them is checked before it is followed, and the opener knows no other scheme in the first place.
"""

from __future__ import annotations

import http.client
import ssl
import string
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote, urljoin, urlsplit

from clipcount_cli.errors import DownloadError, UsageError

SCHEMES = ("http", "https")
TIMEOUT_S = 30


def require_web_address(url: str) -> None:
    """Raise UsageError if `url`, which the user gave, is not an http or https address."""
    if not _is_web_address(url):
        raise UsageError(
            f"{url} is not an http or https address", hint="use --url https://HOST/PATH"
        )


def next_address(url: str, target: str) -> str:
    """The address that a redirect or form at `url` leads to.

    Raises DownloadError if it is not http or https, or leaves https for http.
    """
    try:
        address = urljoin(url, target)
    except ValueError:
        address = target
    if not _is_web_address(address):
        raise DownloadError(
            f"{url} leads to {address}, which is not an http or https address; it was not opened",
            hint="check the address",
        )
    if urlsplit(url).scheme == "https" and urlsplit(address).scheme != "https":
        raise DownloadError(
            f"{url} leads from https to {address}, which is not encrypted; it was not opened",
            hint="check the address, or name the new one with --url if you trust it",
        )
    return address


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        return parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a malformed IPv6 address, an impossible port, a label too long
        return False


def new_opener() -> urllib.request.OpenerDirector:
    """An opener for http and https alone, with cookies, that checks each redirect."""
    opener = urllib.request.OpenerDirector()
    proxies = urllib.request.getproxies()
    for handler in (
        urllib.request.ProxyHandler({k: v for k, v in proxies.items() if k in SCHEMES}),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPCookieProcessor(),
        _CheckedRedirects(),
        _KeepRangeErrors(),
    ):
        opener.add_handler(handler)
    return opener


def open_address(
    opener: urllib.request.OpenerDirector, url: str, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    """Request `url`; raises DownloadError for a forbidden redirect, else OSError as urllib does."""
    request = urllib.request.Request(quote(url, safe=string.punctuation), headers=dict(headers))
    return cast(http.client.HTTPResponse, opener.open(request, timeout=TIMEOUT_S))


def unreachable(url: str) -> str | None:
    """Why the host of `url` cannot be reached, or None if it responds at all."""
    try:
        with open_address(new_opener(), url, {}):
            return None
    except urllib.error.HTTPError:
        return None
    except (OSError, http.client.HTTPException, DownloadError) as error:
        # A certificate that is unknown here may be known to the client that connects next.
        untrusted = isinstance(getattr(error, "reason", error), ssl.SSLError)
        return None if untrusted else reason_of(error)


def reason_of(error: BaseException) -> str:
    """The words of a network failure, without the names and numbers that wrap them."""
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason)


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to an address that may be opened."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        if target := headers.get("location") or headers.get("uri"):
            next_address(req.full_url, target)
        fp.close()  # or urllib would read the page that comes with it, however long it is
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _KeepRangeErrors(urllib.request.HTTPErrorProcessor):
    """Returns a response 416, which states how long the file is, instead of raising it."""

    def http_response(self, request: Any, response: Any) -> Any:
        if response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return response
        return super().http_response(request, response)

    https_response = http_response
