"""Files are written whole or not at all, and nothing existing is overwritten unasked."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clipcount_cli.errors import ClipCountError, UsageError


def refuse_existing(*paths: Path | None, overwrite: bool = False) -> None:
    """Raise UsageError where an output exists already, or has no folder to stand in."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise UsageError(f"{path} is a folder, not a file to write", hint="name a file")
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists already", hint="add --overwrite to replace it")
        if not path.parent.is_dir():
            raise UsageError(
                f"{path} cannot be written: there is no folder {path.parent}",
                hint=f"make it first: mkdir {path.parent}",
            )


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it into place if the block ends well.

    Raises ClipCountError where the file system does not let it be written.
    """
    temporary = _temporary_beside(path)
    try:
        yield temporary
        _settle(temporary)
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_beside(path: Path) -> Path:
    try:
        # The suffix stays: Pillow, NumPy and matplotlib choose the format by it.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    except OSError as error:
        raise cannot_write(path, error) from error
    os.close(handle)
    return Path(name)


def _settle(written: Path) -> None:
    """Put a file on the disk itself, with the permissions that any new file would have."""
    with written.open("rb+") as file:
        os.fsync(file.fileno())
    mask = os.umask(0)
    os.umask(mask)
    written.chmod(0o666 & ~mask)  # those of a temporary file are for its owner alone


def cannot_write(path: Path, error: OSError) -> ClipCountError:
    """Word an OSError met while writing `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ClipCountError(f"no space left to write {path}", hint="free some space, run again")
    reason = error.strerror or str(error)
    return ClipCountError(f"cannot write {path}: {reason}", hint="choose another place")
