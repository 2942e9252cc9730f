"""Files are written whole or not at all, and nothing existing is overwritten unasked."""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from clipcount_cli.errors import ClipCountError, DataError, UsageError
from clipcount_cli.locks import try_lock

_MAX_STEM_BYTES = 200  # of a temporary name; file systems allow 255 in all

# Unlike Path.is_dir and its like before Python 3.14, these return False for a name that is too long
# or lies in a locked folder; opening it then reports the reason.
is_folder, is_file, exists = os.path.isdir, os.path.isfile, os.path.exists
CHECK_PATH = "check the spelling and the folder"  # the hint for a path that does not exist
TEMPORARY_PREFIX = ".tmp-"  # how the name of an unfinished file begins


def require_distinct(*outputs: Path | None, inputs: Sequence[Path | None] = ()) -> None:
    """Raise UsageError if two of these paths are one file: an output would be lost."""
    written, read = ([path for path in paths if path is not None] for paths in (outputs, inputs))
    _require_different(written, "outputs")
    for output, source in itertools.product(written, read):
        if is_same_file(output, source):
            raise overwrites_input(output)
    _require_different(read, "inputs")


def _require_different(paths: Sequence[Path], kind: str) -> None:
    for first, second in itertools.combinations(paths, 2):
        if is_same_file(first, second):
            raise UsageError(f"{first} is given for two {kind}", hint="give each its own file")


def overwrites_input(output: Path) -> UsageError:
    """The error for an output that is an input, too."""
    return UsageError(f"{output} is an input, and would be overwritten", hint="name another file")


def is_same_file(first: Path, second: Path) -> bool:
    """Whether both name one file, links resolved; also for a file that does not exist yet."""
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
            raise UsageError(f"{path} is a folder", hint="name a file")
        if exists(path) and not overwrite:
            raise UsageError(f"{path} exists already", hint="add --overwrite to replace it")
        require_folder(path)


def require_folder(path: Path) -> None:
    """Raise UsageError if the folder in which to write `path` does not exist."""
    folder = path.parent
    if exists(folder) and not is_folder(folder):
        raise UsageError(f"cannot write {path}: {folder} is not a folder", hint="name another file")
    if not is_folder(folder):
        raise UsageError(
            f"cannot write {path}: the folder {folder} does not exist",
            hint=f"create the folder {folder}, or name another file",
        )


def require_suffix(path: Path | None, option: str, *suffixes: str) -> None:
    """Raise UsageError if the suffix of `path` is not one that `option` writes."""
    if path is not None and path.suffix.lower() not in suffixes:
        known = [suffix for suffix in suffixes if suffix]
        raise UsageError(
            f"cannot write {option} {path}: {unsupported(path)}",
            hint=f"name it like {path.stem}{known[0]} (possible: {', '.join(known)})",
        )


def unsupported(path: Path) -> str:
    """Why the format of an output cannot be chosen by its name."""
    return f"{path.suffix} is not supported" if path.suffix else "it has no suffix"


def require_replaceable(*paths: Path | None) -> None:
    """Raise ClipCountError if an existing file cannot be replaced; nothing is changed.

    On Windows that is the case while another program, such as Excel, has it open.
    """
    for path in paths:
        if path is None or not exists(path):
            continue
        try:
            with path.open("rb+"):
                pass
            path.rename(path)  # Windows refuses this for a file that is open for reading, too
        except OSError as error:
            raise write_error(path, error) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it into place if the block ends well.

    Files left by a killed writer are deleted by the next one. Raises ClipCountError if the file
    system does not let the file be written.
    """
    try:
        temporary, handle = _temporary_beside(path)
    except OSError as error:
        raise write_error(path, error) from error
    mode = os.fstat(handle).st_mode
    if sys.platform == "win32":
        os.close(handle)  # an open file cannot be moved there
    try:
        yield temporary
        _settle(temporary, mode)
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):  # once moved, its name may be another writer's
            temporary.unlink()
        if isinstance(error, OSError):
            raise write_error(path, error) from error
        raise
    finally:
        if sys.platform != "win32":
            os.close(handle)
    sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Delete unfinished files of killed processes in `folder`; no other process may be writing."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        with suppress(OSError):
            leftover.unlink()


def _temporary_beside(path: Path) -> tuple[Path, int]:
    """Create a file that no other process writes to, locked until its handle is closed."""
    stem = os.fsdecode(os.fsencode(path.stem)[:_MAX_STEM_BYTES])
    for number in itertools.count():
        # The suffix stays: Pillow, NumPy and matplotlib choose the format by it.
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{number}-{stem}{path.suffix}")
        _remove_abandoned(temporary)
        try:
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        locked = try_lock(handle)  # without locks nobody takes it for abandoned
        if locked is None or (locked and _is_open_as(handle, temporary)):
            break
        os.close(handle)
    return temporary, handle


def _remove_abandoned(temporary: Path) -> None:
    """Delete a temporary file whose writer was killed, so that its lock is free."""
    with suppress(OSError), temporary.open("rb+") as file:
        if try_lock(file.fileno()):
            temporary.unlink()


def _is_open_as(handle: int, path: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _settle(written: Path, mode: int) -> None:
    """Flush a file to the disk itself, with the permissions that it was created with."""
    with written.open("rb+") as file:
        os.fsync(file.fileno())
    if written.stat().st_mode != mode:  # its writer replaced it
        written.chmod(stat.S_IMODE(mode))


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk itself; Windows does so on its own."""
    if sys.platform != "win32":
        with suppress(OSError):  # not every file system knows it
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def read_error(path: Path, error: OSError) -> DataError:
    """The error for an OSError raised while reading a table or list."""
    if is_folder(path):
        return DataError(f"{path} is a folder", hint="name a file")
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} does not exist", hint=CHECK_PATH)
    if isinstance(error, PermissionError):
        return DataError(f"{path} may not be read", hint="check its permissions")
    return DataError(f"{path} cannot be read: {error.strerror or error}", hint=CHECK_PATH)


def write_error(path: Path, error: OSError) -> ClipCountError:
    """The error for an OSError raised while writing `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ClipCountError(f"no space left to write {path}", hint="free some space, run again")
    reason = error.strerror or str(error)
    if isinstance(error, PermissionError) and exists(path):
        return ClipCountError(
            f"cannot write {path}: {reason}",
            hint="if another program (Excel?) has it open, close it there and run again; "
            "or name another file",
        )
    return ClipCountError(f"cannot write {path}: {reason}", hint="choose another place")


class AppendOnlyFile:
    """A file, or stdout if `path` is None, that grows by whole flushed pieces."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        try:
            self._stream: Any = sys.stdout.buffer if path is None else path.open("ab", buffering=0)
        except OSError as error:
            raise write_error(path or Path("stdout"), error) from error

    def append(self, piece: bytes) -> None:
        """Write `piece` to disk as a whole; if that fails, the file stays as it was.

        Raises BrokenPipeError if nothing reads stdout any more: the command ends silently.
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
            sync_folder(self.path.parent)


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
