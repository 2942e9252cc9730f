"""Locks between processes: on an open file, and on the outputs of a run."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from clipcount_cli.errors import ClipCountError, UsageError

if sys.platform == "win32":

    def try_lock(handle: int) -> bool | None:  # noqa: ARG001
        """Lock an open file until it is closed: None, since Windows locks bytes, not files."""
        return None

else:
    import fcntl

    def try_lock(handle: int) -> bool | None:
        """Lock an open file until it is closed, or its process dies.

        False if another one holds it; None if the file system knows no locks.
        """
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
        return True


@contextmanager
def exclusive(*paths: Path) -> Iterator[None]:
    """Keep other runs from writing any of `paths`; raises UsageError if one is writing."""
    with ExitStack() as held:
        for path in sorted({path.parent.resolve() / path.name for path in paths}):
            held.enter_context(_locked(path))
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout  # 40 ms: paid only by a run that writes

    beside = path.with_name(f".{path.name}.lock")
    lock = FileLock(beside)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"another run is writing {path}", hint="wait for it, or name another file"
        ) from None
    except OSError as error:
        raise ClipCountError(
            f"cannot write {beside}: {error.strerror or error}", hint="choose another place"
        ) from error
    try:
        yield
    finally:
        # Before the release: a run that opened this file meanwhile sees that it is no longer linked
        # and makes its own. Windows keeps open files, and filelock deletes them there.
        if sys.platform != "win32":
            with suppress(OSError):
                beside.unlink()
        lock.release()
