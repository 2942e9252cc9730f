"""Files are written whole or not at all, and nothing existing is overwritten unasked."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from clipcount_cli.errors import ClipCountError, UsageError

# Unlike Path.is_dir and its like before Python 3.14, these answer False for a name that is too long
# or lies in a locked folder: whoever opens it then words the reason.
is_folder, is_file, exists = os.path.isdir, os.path.isfile, os.path.exists
TEMPORARY_PREFIX = ".tmp-"  # how the name of an unfinished file begins


def require_distinct(*paths: Path | None) -> None:
    """Raise UsageError if two of `paths` are one file: one would be lost."""
    named = [path for path in paths if path is not None]
    for first, second in itertools.combinations(named, 2):
        if is_same_file(first, second):
            raise UsageError(f"{first} has two purposes", hint="give each a file of its own")


def is_same_file(first: Path, second: Path) -> bool:
    """Whether both name one file, by whatever links; also one that is yet to be written."""
    try:
        return first.samefile(second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)


def require_writable(*paths: Path | None, overwrite: bool = False) -> None:
    """Raise UsageError if an output exists already, or its folder does not."""
    for path in paths:
        if path is None:
            continue
        if is_folder(path):
            raise UsageError(f"{path} is a folder, not a file to write", hint="name a file")
        if exists(path) and not overwrite:
            raise UsageError(f"{path} exists already", hint="add --overwrite to replace it")
        if not is_folder(path.parent):
            raise UsageError(
                f"{path} cannot be written: there is no folder {path.parent}",
                hint=f"make it first: mkdir -p {shlex.quote(str(path.parent))}",
            )


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it into place if the block ends well.

    Raises ClipCountError if the file system refuses it.
    """
    temporary = _temporary_beside(path)
    try:
        yield temporary
        _settle(temporary)
        temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left unfinished in `folder`; nobody else may be writing."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        with suppress(OSError):
            leftover.unlink()


def _temporary_beside(path: Path) -> Path:
    try:
        # The suffix stays: Pillow, NumPy and matplotlib choose the format by it.
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=TEMPORARY_PREFIX, suffix=path.suffix
        )
    except OSError as error:
        raise write_error(path, error) from error
    os.close(handle)
    return Path(name)


def _settle(written: Path) -> None:
    """Put a file on the disk itself, with the permissions that any new file would have."""
    with written.open("rb+") as file:
        os.fsync(file.fileno())
    mask = os.umask(0)
    os.umask(mask)
    written.chmod(0o666 & ~mask)  # those of a temporary file are for its owner alone


def write_error(path: Path, error: OSError) -> ClipCountError:
    """Word an OSError met while writing `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ClipCountError(f"no space left to write {path}", hint="free some space, run again")
    reason = error.strerror or str(error)
    return ClipCountError(f"cannot write {path}: {reason}", hint="choose another place")


class AppendOnlyFile:
    """A file, or stdout if `path` is None, that grows by whole flushed pieces."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._stream: Any = sys.stdout.buffer if path is None else path.open("ab", buffering=0)

    def append(self, piece: bytes) -> None:
        """Put `piece` on disk as a whole; if that fails, the file stays as it was.

        Raises BrokenPipeError if nobody reads stdout any more: the command ends silently.
        """
        size = None if self.path is None else os.fstat(self._stream.fileno()).st_size
        try:
            rest = memoryview(piece)
            while rest:
                rest = rest[self._stream.write(rest) :]
            self._stream.flush()
        except OSError as error:
            if self.path is None and isinstance(error, BrokenPipeError):
                raise
            failure = write_error(self.path or Path("stdout"), error)
            if size is not None:
                os.ftruncate(self._stream.fileno(), size)
                failure.hint = "whole rows are kept; free some space, then run again with --resume"
            raise failure from error

    def close(self) -> None:
        if self.path is not None:
            os.fsync(self._stream.fileno())
            self._stream.close()


def as_text(name: str) -> str:
    r"""A path or prompt from the system as text any file can hold: undecodable bytes as `\xNN`.

    A literal `\xNN` has its backslash written `\x5c`, so that `as_name` undoes all of it.
    """
    literal = re.sub(r"\\(?=x[0-9a-f]{2})", r"\\x5c", name).replace("\0", r"\x00")
    try:
        return literal.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a surrogate pair, as Windows allows in names
        return literal.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")


def as_name(text: str) -> str:
    r"""The path that `as_text` wrote: `\xNN` becomes that byte again."""
    return re.sub(r"\\x(5c|[89a-f][0-9a-f])", _undo_escape, text)


def _undo_escape(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return "\\" if code == ord("\\") else chr(0xDC00 + code)  # PEP 383
