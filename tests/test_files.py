"""Files are written whole or not at all."""

import errno
import os

import pytest

from clipcount_cli.errors import ClipCountError, UsageError
from clipcount_cli.files import atomic_write, require_distinct, require_writable


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
    with pytest.raises(UsageError, match="no folder"):
        require_writable(None, tmp_path / "deep" / "a.txt")
    require_writable(tmp_path / "a.txt", overwrite=True)


def test_files_of_their_own_may_be_new_or_old(tmp_path):
    (tmp_path / "a.txt").touch()

    require_distinct(tmp_path / "a.txt", None, tmp_path / "b.txt", tmp_path / "c.txt")


@pytest.mark.parametrize("name", ["a.txt", "new.txt", "x" * 300])
def test_one_file_by_two_names_is_refused(tmp_path, name):
    (tmp_path / "a.txt").touch()

    with pytest.raises(UsageError, match="two purposes"):
        require_distinct(tmp_path / name, tmp_path / "." / ".." / tmp_path.name / name)
