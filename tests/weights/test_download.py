"""Downloads against a server on loopback that misbehaves as real ones do."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest
from loopback import DRIVE_PAGE, serving

from clipcount_cli.errors import DownloadError, UsageError
from clipcount_cli.weights.download import fetch

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads.ckpt"


def leftovers(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_file_arrives_whole_and_leaves_nothing_beside_it(target):
    with serving(CONTENT) as server:
        digest = fetch(server.url, target, DIGEST)

    assert digest == DIGEST
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == [target.name]


def test_progress_is_told_up_to_the_total(target):
    told = []
    with serving(CONTENT) as server:
        fetch(server.url, target, report=lambda done, total: told.append((done, total)))

    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_download_cut_off_half_way_goes_on_by_range(target):
    with serving(CONTENT, cuts=[HALF]) as server:
        fetch(server.url, target, DIGEST)

    assert server.offsets == [None, f"bytes={HALF}-"]
    assert target.read_bytes() == CONTENT


def test_next_call_goes_on_where_the_last_one_gave_up(target):
    with serving(CONTENT, cuts=[HALF, 0]) as server:
        with pytest.raises(DownloadError, match=f"cut off after {HALF} of {len(CONTENT)}") as got:
            fetch(server.url, target)
        assert "same command" in (got.value.hint or "")
        assert not target.exists()
        fetch(server.url, target, DIGEST)

    assert server.offsets[-1] == f"bytes={HALF}-"
    assert target.read_bytes() == CONTENT


def test_file_that_changed_on_the_server_is_fetched_from_its_beginning(target):
    newer = CONTENT[::-1]
    with serving(CONTENT, cuts=[HALF, 0]) as server:
        with pytest.raises(DownloadError):
            fetch(server.url, target)
        server.content, server.etag = newer, '"second"'
        fetch(server.url, target)

    assert target.read_bytes() == newer


def test_part_of_another_address_is_not_continued(target):
    with serving(CONTENT, cuts=[HALF, 0]) as server:
        with pytest.raises(DownloadError):
            fetch(server.url, target)
        fetch(f"{server.base}/other.ckpt", target)

    assert server.offsets[-1] is None


def test_server_without_range_sends_it_all_again(target):
    with serving(CONTENT, cuts=[HALF], ranges=False) as server:
        fetch(server.url, target, DIGEST)

    assert len(server.asked) == 2
    assert target.read_bytes() == CONTENT


def test_server_that_does_not_say_the_length_is_believed_at_its_end(target):
    with serving(CONTENT, says_length=False) as server:
        assert fetch(server.url, target, DIGEST) == DIGEST


def test_part_that_was_whole_already_is_only_verified(target):
    with serving(CONTENT, cuts=[HALF, 0]) as server:
        with pytest.raises(DownloadError):
            fetch(server.url, target)
        part = target.with_name(f"{target.name}.part")
        part.write_bytes(CONTENT)

        assert fetch(server.url, target) == DIGEST


def test_wrong_hash_says_expected_and_got_and_deletes_the_file(target):
    with serving(CONTENT) as server, pytest.raises(DownloadError) as got:
        fetch(server.url, target, "0" * 64)

    assert f"expected sha256 {'0' * 64}" in str(got.value)
    assert f"got {DIGEST}" in str(got.value)
    assert "deleted" in str(got.value)
    assert leftovers(target) == []


def test_missing_file_is_named_with_what_to_do(target):
    with serving(status=404) as server, pytest.raises(DownloadError, match="404 Not Found") as got:
        fetch(server.url, target)

    assert len(server.asked) == 1
    assert "--checkpoint" in (got.value.hint or "")
    assert leftovers(target) == []


def test_server_error_is_tried_no_more_than_needed(target):
    with serving(status=503) as server, pytest.raises(DownloadError, match="503"):
        fetch(server.url, target)


def test_nobody_listening_is_said_so(target):
    with serving() as server:
        url = server.url
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch(url, target)


def test_drive_page_for_large_files_is_confirmed(target):
    with serving(CONTENT, page=DRIVE_PAGE) as server:
        fetch(f"{server.base}/uc?id=17D", target, DIGEST)

    assert server.asked[-1][0] == "/confirmed?id=17D&confirm=t&uuid=a-b"
    assert target.read_bytes() == CONTENT


def test_download_behind_a_confirmation_goes_on_by_range(target):
    with serving(CONTENT, page=DRIVE_PAGE, cuts=[HALF]) as server:
        fetch(f"{server.base}/uc?id=17D", target, DIGEST)

    assert server.offsets[-1] == f"bytes={HALF}-"
    assert target.read_bytes() == CONTENT


def test_web_page_without_a_file_behind_it_is_refused(target):
    page = "<html>Quota exceeded</html>"
    with serving(page=page) as server, pytest.raises(DownloadError, match="web page instead"):
        fetch(server.url, target)

    assert leftovers(target) == []


def test_full_disk_is_reported_and_what_arrived_is_kept(target, monkeypatch):
    plain_open = Path.open

    def fill_up(path, mode="r", *args, **kwargs):
        if mode == "ab" and path.exists() and path.stat().st_size >= HALF:
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain_open(path, mode, *args, **kwargs)

    with serving(CONTENT) as server:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", fill_up)
            with pytest.raises(DownloadError, match="disk is full") as got:
                fetch(server.url, target)
        assert "CLIPCOUNT_HOME" in (got.value.hint or "")
        fetch(server.url, target, DIGEST)

    assert server.offsets == [None, f"bytes={HALF}-"]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_folder_that_cannot_be_written_names_the_variable_that_moves_it(
    target, monkeypatch, number
):
    def refuse(*_args, **_kwargs):
        raise OSError(number, "refused")

    monkeypatch.setattr(Path, "write_text", refuse)
    with serving(CONTENT) as server, pytest.raises(DownloadError, match="cannot be written") as got:
        fetch(server.url, target)

    assert "CLIPCOUNT_HOME" in (got.value.hint or "")
    assert len(server.asked) == 1


def test_address_of_a_local_file_is_not_a_download(target):
    with pytest.raises(UsageError, match="not an http"):
        fetch(Path(__file__).as_uri(), target)
