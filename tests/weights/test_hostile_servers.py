"""What a hostile server sends: not followed, not kept, not believed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from loopback import DRIVE_PAGE, serving

from clipcount_cli.errors import DownloadError, UsageError
from clipcount_cli.weights import download, web
from clipcount_cli.weights.download import fetch

CONTENT = bytes(range(256)) * 256
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SECRET = Path(__file__).as_uri()
ELSEWHERE = [SECRET, "ftp://127.0.0.1/file", "data:text/plain,weights", "javascript:alert(1)"]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads.ckpt"


@pytest.mark.parametrize("address", ELSEWHERE)
def test_form_that_leads_out_of_the_web_is_not_followed(target, address):
    page = DRIVE_PAGE.replace("/confirmed", address)

    with serving(page=page) as server, pytest.raises(DownloadError, match="was not opened") as got:
        fetch(server.url, target)

    assert address in str(got.value)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("address", ELSEWHERE[:2])
def test_redirect_that_leads_out_of_the_web_is_not_followed(target, address, status):
    with (
        serving(redirects={"/models/head.ckpt": (status, address)}) as server,
        pytest.raises(DownloadError, match="was not opened"),
    ):
        fetch(server.url, target)

    assert list(target.parent.iterdir()) == []


def test_redirect_behind_a_form_is_checked_too(target):
    with (
        serving(page=DRIVE_PAGE, redirects={"/confirmed": (302, SECRET)}) as server,
        pytest.raises(DownloadError, match="was not opened"),
    ):
        fetch(server.url, target)


def test_redirect_within_the_web_is_followed(target):
    with serving(CONTENT, redirects={"/models/head.ckpt": (302, "/moved.ckpt")}) as server:
        assert fetch(server.url, target, DIGEST) == DIGEST

    assert [path for path, _ in server.asked] == ["/models/head.ckpt", "/moved.ckpt"]


def test_page_of_a_redirect_is_not_read(target):
    redirects = {"/models/head.ckpt": (302, "/moved.ckpt")}

    with serving(CONTENT, redirects=redirects, redirect_length="1000000000000") as server:
        assert fetch(server.url, target, DIGEST) == DIGEST


def test_redirects_in_a_circle_end_in_one_line(target):
    with (
        serving(redirects={"/models/head.ckpt": (302, "/models/head.ckpt")}) as server,
        pytest.raises(DownloadError, match="redirects in a circle, or without end"),
    ):
        fetch(server.url, target)

    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("address", ["http://host/file", "http://other/file"])
def test_no_hop_leaves_https_for_http(address):
    with pytest.raises(DownloadError, match="from https to http"):
        web.next_address("https://host/file", address)


@pytest.mark.parametrize(
    ("url", "leads_to", "address"),
    [
        ("https://host/a/b", "c", "https://host/a/c"),
        ("https://host/a", "//other/c", "https://other/c"),
        ("http://host/a", "https://host/a", "https://host/a"),
        ("http://host/a", "?b=1", "http://host/a?b=1"),
    ],
)
def test_hop_is_resolved_as_a_browser_does(url, leads_to, address):
    assert web.next_address(url, leads_to) == address


@pytest.mark.parametrize(
    "url",
    [
        *ELSEWHERE,
        *("http://", "http:///file", "http://[::1/file", "http://host:99999/file", "file"),
        f"http://{'a' * 70}/file",
    ],
)
def test_address_that_is_not_of_the_web_is_refused_before_anything(target, url):
    with pytest.raises(UsageError, match="not an http or https address"):
        fetch(url, target)


@pytest.mark.parametrize("states_length", [True, False])
def test_file_beyond_the_size_limit_is_not_kept(target, monkeypatch, states_length):
    monkeypatch.setattr(download, "MAX_FILE_BYTES", len(CONTENT) - 1)

    with (
        serving(CONTENT, says_length=states_length) as server,
        pytest.raises(DownloadError, match="sends more than"),
    ):
        fetch(server.url, target)

    assert list(target.parent.iterdir()) == []


def test_endless_page_is_read_to_its_limit_only(target):
    page = "<!-- " + "x" * 1_000_000 + DRIVE_PAGE

    with serving(page=page) as server, pytest.raises(DownloadError, match="web page instead"):
        fetch(server.url, target)


@pytest.mark.parametrize("markup", ["<![x", "<!" * 1000, "</form", "<form id=download-form>", "\0"])
def test_broken_markup_is_a_web_page_without_a_file(target, markup):
    with serving(page=markup) as server, pytest.raises(DownloadError, match="web page instead"):
        fetch(server.url, target)


@pytest.mark.parametrize(
    "extent",
    ["", "bytes", "bytes x-y/z", "bytes */9", "bytes -5-9/9", f"bytes {'9' * 5000}-1/2", "3-4/5"],
)
def test_malformed_content_range_is_named(target, extent):
    with serving(CONTENT, cuts=[1000], extent=extent) as server:
        with pytest.raises(DownloadError, match="Content-Range"):
            fetch(server.url, target)
        server.extent = None

        assert fetch(server.url, target) == DIGEST


@pytest.mark.parametrize("length", ["abc", "²", "-1", "9" * 5000])
def test_malformed_content_length_is_as_good_as_none(target, length):
    with serving(CONTENT, length=length) as server:
        assert fetch(server.url, target, DIGEST) == DIGEST
