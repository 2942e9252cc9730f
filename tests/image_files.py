"""Write deep images without an image library: TIFFs of any sample type and tag, 16-bit PNGs."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}


def tiff(
    samples: np.ndarray,
    order: str = "<",
    planar: bool = False,
    deflate: bool = False,
    photometric: int | None = None,
    tags: dict[int, list[int] | str] | None = None,
) -> io.BytesIO:
    """Write (H, W) or (H, W, C) samples as a TIFF of one page, one strip per plane."""
    samples = samples[..., None] if samples.ndim == 2 else samples
    height, width, channels = samples.shape
    planes = list(np.moveaxis(samples, 2, 0)) if planar else [samples]
    stored = samples.dtype.newbyteorder(order)
    strips = [plane.astype(stored).tobytes() for plane in planes]
    if deflate:
        strips = [zlib.compress(strip) for strip in strips]
    starts = np.cumsum([8, *(len(strip) for strip in strips)])
    written: dict[int, list[int] | str] = {
        256: [width],
        257: [height],
        258: [8 * samples.dtype.itemsize] * channels,
        259: [8 if deflate else 1],
        262: [(2 if channels >= 3 else 1) if photometric is None else photometric],
        273: [int(start) for start in starts[:-1]],
        277: [channels],
        278: [height],
        279: [len(strip) for strip in strips],
        284: [2 if planar else 1],
        339: [FORMATS[samples.dtype.kind]] * channels,
    }
    if channels == 4:
        written[338] = [2]  # unassociated alpha
    written |= tags or {}
    magic = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", int(starts[-1]))
    return io.BytesIO(magic + b"".join(strips) + _directory(written, order, int(starts[-1])))


def _directory(tags: dict[int, list[int] | str], order: str, starts_at: int) -> bytes:
    entries, beyond = b"", b""
    beyond_at = starts_at + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        kind, number = (2, len(value) + 1) if isinstance(value, str) else (4, len(value))
        if isinstance(value, str):
            data = value.encode() + b"\0"
        else:
            data = struct.pack(f"{order}{number}I", *value)
        if len(data) > 4:
            beyond += data
            data = struct.pack(f"{order}I", beyond_at + len(beyond) - len(data))
        entries += struct.pack(f"{order}HHI", tag, kind, number) + data.ljust(4, b"\0")
    return struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + beyond


def png16(samples: np.ndarray, colour_type: int, transparent: tuple[int, ...] = ()) -> io.BytesIO:
    """Write (H, W, C) uint16 as PNG; Pillow itself writes no 16-bit colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    key = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    body = chunk(b"IHDR", header) + key + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + body)
