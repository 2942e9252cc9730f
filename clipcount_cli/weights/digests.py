"""Whether a weights file is as it was written: by its own header, and by the record beside it.

Weights files, step 2: registry.py -> [digests.py] -> checkpoint.py -> cache.py. Every file carries
the sha256 of itself, so that damage is found wherever it is copied to. A file that was installed,
or comes with the package, also has a record `NAME.json` beside it: it is what was installed then.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from clipcount_cli.errors import WeightsError
from clipcount_cli.files import atomic_write

HEADER_LIMIT_BYTES = 100_000_000  # the safetensors format's own
_ZEROS = b"0" * 64
UNSEALED = {
    "clipcount_sha256": _ZEROS.decode()
}  # metadata of a file that `seal` is about to complete
_SEAL = re.compile(rb'(?<="clipcount_sha256":")[0-9a-f]{64}(?=")')
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 1 << 20


def seal(path: Path) -> None:
    """Complete a file that was written with `UNSEALED`: its digest replaces the zeros.

    It is the sha256 of the file as it was with the zeros.
    """
    found = _SEAL.search(_read_header(path))
    if found is None or found[0] != _ZEROS:
        raise ValueError(f"{path} was not written to be sealed")
    sealed = compute_digest(path)
    with path.open("rb+") as file:
        file.seek(found.start())
        file.write(sealed.encode())


def verified_digest(path: Path) -> str:
    """sha256 of an intact weights file.

    Raises WeightsError if its header or its record differs. A file of an earlier version
    may have neither.
    """
    try:
        header = _read_header(path)
        actual, unsealed = hashlib.sha256(header), hashlib.sha256(_SEAL.sub(_ZEROS, header, 1))
        for block in _blocks(path, len(header)):
            actual.update(block)
            unsealed.update(block)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if (recorded := read_record(path)) not in (None, actual.hexdigest()):
        raise _damaged(path, f"expected sha256 {recorded}, got {actual.hexdigest()}")
    sealed = _SEAL.search(header)
    if sealed and sealed[0].decode() != unsealed.hexdigest():
        raise _damaged(path, "its bytes do not match the digest in its header")
    return actual.hexdigest()


def compute_digest(path: Path) -> str:
    """sha256 of any file; raises WeightsError if it cannot be read."""
    computed = hashlib.sha256()
    try:
        for block in _blocks(path):
            computed.update(block)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    return computed.hexdigest()


def read_record(path: Path) -> str | None:
    """The sha256 recorded beside a weights file, if there is one."""
    try:
        recorded = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, TypeError, LookupError):
        return None
    return recorded if isinstance(recorded, str) and _DIGEST.fullmatch(recorded) else None


def write_record(path: Path) -> None:
    """Record the digest of a weights file that was just installed."""
    with atomic_write(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"sha256": compute_digest(path)}) + "\n", encoding="utf-8")


def _damaged(path: Path, how: str) -> WeightsError:
    return WeightsError(
        f"{path} is damaged: {how}; the file was left as it is",
        hint="get the file again, or install it again",
    )


def _read_header(path: Path) -> bytes:
    with path.open("rb") as file:
        length = file.read(8)
        return length + file.read(min(int.from_bytes(length, "little"), HEADER_LIMIT_BYTES))


def _blocks(path: Path, start: int = 0) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(_BLOCK_BYTES):
            yield block
