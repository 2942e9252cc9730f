"""Files are written whole or not at all."""

import errno
import os
import signal
import stat
import sys
import threading
from pathlib import Path

import pytest
from held_files import held

from clipcount_cli import files
from clipcount_cli.errors import ClipCountError, UsageError
from clipcount_cli.files import (
    AppendOnlyFile,
    atomic_write,
    require_distinct,
    require_replaceable,
    require_suffix,
    require_writable,
)

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and signals")


def test_a_file_appears_when_its_block_ends_well(tmp_path):
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "a.txt").exists()

    assert (tmp_path / "a.txt").read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_has_the_permissions_of_any_new_file_even_if_its_writer_replaced_it(tmp_path):
    (tmp_path / "usual").touch()

    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.unlink()
        temporary.touch(mode=0o600)

    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def fail_half_way() -> None:
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()

    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_told_in_words(tmp_path):
    with (
        pytest.raises(ClipCountError, match="no space left to write"),
        atomic_write(tmp_path / "a.txt"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_existing_files_folders_and_missing_folders_are_refused(tmp_path):
    (tmp_path / "a.txt").touch()

    with pytest.raises(UsageError, match="exists already"):
        require_writable(tmp_path / "a.txt")
    with pytest.raises(UsageError, match="is a folder"):
        require_writable(tmp_path)
    with pytest.raises(UsageError, match=r"the folder .*deep does not exist"):
        require_writable(None, tmp_path / "deep" / "a.txt")
    require_writable(tmp_path / "a.txt", overwrite=True)


def test_files_of_their_own_may_be_new_or_old(tmp_path):
    (tmp_path / "a.txt").touch()

    require_distinct(tmp_path / "a.txt", None, tmp_path / "b.txt", tmp_path / "c.txt")


@pytest.mark.parametrize("name", ["a.txt", "new.txt", "x" * 300])
def test_one_file_by_two_names_is_refused(tmp_path, name):
    (tmp_path / "a.txt").touch()

    with pytest.raises(UsageError, match="is given for two outputs"):
        require_distinct(tmp_path / name, tmp_path / "." / ".." / tmp_path.name / name)


@on_posix
def test_folders_made_while_files_are_written_are_never_open_to_everybody(tmp_path):
    modes = set()
    done = threading.Event()

    def write():
        for number in range(200):
            with atomic_write(tmp_path / f"{number}.txt") as temporary:
                temporary.write_text("x")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    number = 0
    while not done.is_set():
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        modes.add(stat.S_IMODE(folder.stat().st_mode))
        number += 1
    writer.join()

    assert not any(mode & stat.S_IWOTH for mode in modes)


@on_posix
def test_a_new_file_obeys_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


@on_posix
def test_what_a_killed_writer_left_is_gone_after_the_next_write(tmp_path):
    pid = os.fork()
    if not pid:
        with atomic_write(tmp_path / "a.png") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    left = list(tmp_path.iterdir())

    with atomic_write(tmp_path / "a.png") as temporary:
        temporary.write_text("whole")

    assert len(left) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_text() == "whole"


def test_a_file_is_written_where_there_are_no_locks_and_no_inodes(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "try_lock", lambda handle: None)
    monkeypatch.setattr(os.path, "samestat", lambda one, other: False)

    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")

    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_temporary_file_that_cannot_be_deleted_does_not_hide_why_it_is_left(
    tmp_path, monkeypatch
):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)

    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "a.txt"):
        raise ZeroDivisionError


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "a.txt"

    with atomic_write(path) as first, atomic_write(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert first != second

    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["ä" * 120 + ".png", "x" * 240 + ".png"])
def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path, name):
    with atomic_write(tmp_path / name) as temporary:
        temporary.write_text("x")

    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_held_by_another_program_is_named_and_kept(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")

    with held(path):
        with pytest.raises(ClipCountError, match=r"a\.csv") as checked:
            require_replaceable(path)
        with pytest.raises(ClipCountError, match=r"a\.csv"), atomic_write(path) as temporary:
            temporary.write_bytes(b"new")
        with pytest.raises(ClipCountError, match=r"a\.csv"):
            AppendOnlyFile(path)

    assert "another program" in checked.value.hint
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_suffix_of_another_format_is_refused_with_the_possible_ones(tmp_path):
    require_suffix(tmp_path / "a.CSV", "--csv", ".csv", "")
    require_suffix(tmp_path / "a", "--csv", ".csv", "")
    require_suffix(None, "--csv", ".csv")

    with pytest.raises(
        UsageError, match=r"cannot write --density .*: \.txt is not supported"
    ) as refused:
        require_suffix(tmp_path / "b.txt", "--density", ".npy")

    assert refused.value.hint == "name it like b.npy (possible: .npy)"
