"""Read one variable of a MATLAB file, whose compressed parts may inflate without end.

[mat_files.py] -> shanghaitech.py. Format: "MAT-File Level 5 File Format", MathWorks.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

MAX_BYTES = 32 << 20  # inflated; 12,000 points take 200 kB
_HEADER_BYTES = 128
_TAG_BYTES = 8
_COMPRESSED = 15  # the type of an element that holds another one, deflated


def load_variable(path: Path, name: str) -> Any:
    """The variable `name`; ValueError if the file is no MAT file of level 5, or inflates too far.

    KeyError if there is no such variable; scipy raises other exceptions for damaged files.
    """
    from scipy.io import loadmat

    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    order = {b"IM": "<", b"MI": ">"}.get(data[_HEADER_BYTES - 2 : _HEADER_BYTES])
    if order is None:
        raise ValueError("not a MAT file of level 5")
    if len(data) + _inflated_bytes(data, order) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES >> 20} MiB, for a list of points")
    return loadmat(BytesIO(data), variable_names=[name])[name]


def _inflated_bytes(data: bytes, order: str) -> int:
    """How many bytes the compressed elements of a MAT file inflate to, at most `MAX_BYTES` each."""
    total, place = 0, _HEADER_BYTES
    while place + _TAG_BYTES <= len(data) and total <= MAX_BYTES:
        kind, size = struct.unpack_from(f"{order}II", data, place)
        place += _TAG_BYTES
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            total += len(inflater.decompress(data[place : place + size], MAX_BYTES + 1))
        place += size
    return total
