"""Two runs never write one file."""

import os
import sys

import pytest

from clipcount_cli.errors import UsageError
from clipcount_cli.locks import exclusive

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be unlinked there")


def test_a_second_run_on_any_of_the_files_is_refused(tmp_path):
    files = [tmp_path / name for name in ("a.csv", "b.jsonl", "c.html")]

    for shared in files:
        with (
            exclusive(*files),
            pytest.raises(UsageError, match=f"another run is writing .*{shared.name}"),
            exclusive(tmp_path / "other.csv", shared),
        ):
            pass


def test_locks_leave_nothing_behind(tmp_path):
    with exclusive(tmp_path / "a.csv", tmp_path / "b.csv"):
        pass
    with pytest.raises(KeyError), exclusive(tmp_path / "a.csv"):
        raise KeyError

    assert list(tmp_path.iterdir()) == []


@on_posix
def test_who_waited_for_a_lock_that_was_deleted_does_not_share_the_file(tmp_path, monkeypatch):
    """One run opens the lock file, the other deletes it as it ends, a third makes a new one."""
    path = tmp_path / "a.csv"
    outer, third = exclusive(path), exclusive(path)
    opened = os.open
    entered: list[str] = []

    def slow_open(name, *words, **settings):
        handle = opened(name, *words, **settings)
        if str(name).endswith(".lock") and not entered:
            entered.append(name)
            outer.__exit__(None, None, None)
            third.__enter__()
        return handle

    outer.__enter__()
    monkeypatch.setattr("os.open", slow_open)
    with pytest.raises(UsageError, match="another run is writing"), exclusive(path):
        pass
    monkeypatch.undo()

    assert entered
    third.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_one_file_by_two_names_is_locked_once(tmp_path):
    (tmp_path / "folder").mkdir()

    with exclusive(tmp_path / "a.csv", tmp_path / "folder" / ".." / "a.csv"):
        pass
