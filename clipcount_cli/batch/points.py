"""`--points DIR`: positions of the objects, in the columns that `train` reads.

pictures.py writes one file per result, before its row; run.py joins them at the end.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from clipcount_cli.batch.names import result_path
from clipcount_cli.batch.rows import ResultRow
from clipcount_cli.counting.results import CountResult
from clipcount_cli.files import atomic_write, exists

COLUMNS = ("image", "prompt", "x", "y")
SUFFIX = ".csv"
JOINED = "points.csv"  # the positions of all results, as `train` looks for them


def write_points(path: Path, image: str, size: tuple[int, int], result: CountResult) -> None:
    """Write one row per object; a prompt without any gets a row with empty x and y.

    size: width and height of the image, in whose pixels positions are given.
    """
    from clipcount_cli.counting.positions import image_positions

    found = image_positions(result.density, *size).tolist()
    cells = [(f"{x:.1f}", f"{y:.1f}") for x, y in found] or [("", "")]
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        rows.writerows((image, result.prompt, *position) for position in cells)


def join_points(folder: Path, rows: Sequence[ResultRow]) -> int:
    """Join the positions of all `rows` in one file; return how many results lack their file."""
    missing = 0
    with atomic_write(folder / JOINED) as temporary, temporary.open("wb") as joined:
        joined.write(f"{','.join(COLUMNS)}\n".encode())
        for image, prompt in dict.fromkeys(row.key for row in rows if not row.failed):
            path = result_path(folder, image, prompt, SUFFIX)
            if exists(path):
                joined.write(path.read_bytes().partition(b"\n")[2])
            else:
                missing += 1
    return missing
