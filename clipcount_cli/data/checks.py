"""Everything that is wrong with a data set, found before the first step and told in one message."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from clipcount_cli.data.samples import Protocol, Sample, by_image
from clipcount_cli.errors import DataError, shortened

_HEADER_READERS = 16  # threads; the disk or network is what they wait for
_EXIF_ORIENTATION = 0x0112
_LYING_ORIENTATIONS = range(5, 9)  # turned by a quarter, so width and height change places

# How far outside, as a share of the side, a dot may lie before a published set counts as broken.
# FSC-147's evaluation clamps such dots; ShanghaiTech has some a tenth of the width outside
# (ServiceNow/LCFCN#16), which its evaluation counts all the same.
_MARGIN: dict[Protocol, float] = {"fsc147": 0.02, "carpk": 0.02, "shanghaitech": 0.25, "own": 0.0}


@dataclass
class Findings:
    """What readers and checks find: problems refuse the data set, notices are only said."""

    problems: dict[str, list[str]] = field(default_factory=dict)  # kind -> items
    notices: list[str] = field(default_factory=list)
    clamped: list[str] = field(default_factory=list)  # pictures with dots just outside

    def add(self, kind: str, item: str) -> None:
        """Note that `item`, a file or a line of one, has a problem of this kind."""
        self.problems.setdefault(kind, []).append(item)

    def raise_if_any(self, root: Path, layout: str) -> None:
        """Raise one DataError that lists all problems, by kind and with names."""
        if not self.problems:
            return
        kinds = sorted(self.problems.items())
        lines = [f"- {kind} ({len(items)}): {shortened(items)}" for kind, items in kinds]
        raise DataError(
            "\n".join([f"{root} is broken, read as {layout}:", *lines]),
            hint="mend or remove what is listed; nothing has been started",
        )


def read_json(path: Path) -> Any:
    """The content of a JSON file; DataError with file and position if it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error


def read_table(path: Path, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV file; DataError if it lacks one of `columns`.

    Of each row only `columns` are kept, stripped; further columns of the file are left alone.
    """
    columns = tuple(columns)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            missing = [name for name in columns if name not in header]
            if missing:
                raise DataError(
                    f"{path} lacks the column {', '.join(missing)}: its first line is "
                    f"{','.join(header)!r}",
                    hint=f"the first line has to name {','.join(columns)}",
                )
            return [
                (reader.line_num, {name: (row[name] or "").strip() for name in columns})
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error


def upright_size(path: Path) -> tuple[int, int] | None:
    """(width, height) from a picture's header, EXIF orientation applied; None if unreadable."""
    try:
        with Image.open(path) as image:
            lying = image.getexif().get(_EXIF_ORIENTATION) in _LYING_ORIENTATIONS
            return image.size[::-1] if lying else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def check_samples(samples: Sequence[Sample], root: Path, findings: Findings) -> None:
    """Look for each picture, and for dots outside it; headers are read, pixels are not.

    A file that is there but unreadable is left to whoever reads its pixels, and says why.
    """
    groups = by_image(samples)
    with ThreadPoolExecutor(_HEADER_READERS) as pool:
        sizes = list(pool.map(_size_if_there, (group[0].image for group in groups)))
    for group, size in zip(groups, sizes, strict=True):
        if size == "missing":
            findings.add("missing images", relative(group[0].image, root))
        elif size is not None:
            for sample in group:
                _check_dots(sample, size, findings)
    if findings.clamped:
        findings.notices.append(
            "dots just outside their image are kept, as the published evaluation keeps them: "
            + shortened(findings.clamped)
        )


def _size_if_there(path: Path) -> tuple[int, int] | Literal["missing"] | None:
    return upright_size(path) if path.is_file() else "missing"


def _check_dots(sample: Sample, size: tuple[int, int], findings: Findings) -> None:
    side = np.array(size, dtype=np.float64)
    points_px = sample.points_px
    beyond = np.maximum(-points_px, points_px - side)  # (K, 2), positive outside
    gross = (beyond > side * _MARGIN[sample.protocol]).any(axis=1)
    if gross.any():
        x, y = points_px[gross][0]
        more = f", {gross.sum()} such dots" if gross.sum() > 1 else ""
        place = f"{sample.name} (x {x:g}, y {y:g} in {size[0]} x {size[1]}{more})"
        findings.add("dots outside their image", place)
    elif (beyond > 0).any():
        findings.clamped.append(sample.name)


def relative(path: Path, root: Path) -> str:
    """`path` as seen from `root`, with `/`; as it is where it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
