"""Recognise the annotations in a folder by their content, and read them.

tables.py, names.py, formats/ -> [recognise.py] -> custom.py
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from clipcount_cli.data.checks import Findings, read_json, relative
from clipcount_cli.data.formats import (
    coco,
    counted,
    createml,
    cvat,
    dotdotgoose,
    imagej,
    label_studio,
    labelme,
    tabular,
    via,
    via3,
    voc,
    yolo,
)
from clipcount_cli.data.formats.annotated import AnnotatedImage
from clipcount_cli.data.formats.safe_xml import read_xml
from clipcount_cli.data.tables import SPREADSHEET_SUFFIXES, read_table
from clipcount_cli.errors import DataError, shortened

POINTS, COCO, COUNTS, SPLIT_TABLE = "points.csv", "annotations.json", "counts.csv", "split.csv"
_NO_ANNOTATIONS = (COUNTS, SPLIT_TABLE, "prompts.csv")  # tables of another purpose
YAML_SUFFIXES = (".yaml", ".yml")
_FILES_SHOWN = 3


class FileFormat(NamedTuple):
    """How the files of one format are recognised once they are parsed, and read."""

    title: str
    recognises: Callable[[Any], bool]
    read: Callable[[Any, Path, Findings], list[AnnotatedImage]]


def _of_table(
    read: Callable[[Any, Findings], list[AnnotatedImage]],
) -> Callable[[Any, Path, Findings], list[AnnotatedImage]]:
    return lambda table, _, findings: read(table, findings)


_DOTDOTGOOSE_COUNTS = FileFormat(
    counted.TITLE, dotdotgoose.recognises_counts, _of_table(dotdotgoose.read_counts)
)
# Suffixes -> what parses such files, and the formats they may be in.
PARSERS: tuple[tuple[tuple[str, ...], Callable[[Path], Any], tuple[FileFormat, ...]], ...] = (
    (
        (".json",),
        read_json,
        (
            FileFormat(coco.TITLE, coco.recognises, coco.read),
            FileFormat(via.TITLE, via.recognises, via.read),
            FileFormat(via3.TITLE, via3.recognises, via3.read),
            FileFormat(labelme.TITLE, labelme.recognises, labelme.read),
            FileFormat(label_studio.TITLE, label_studio.recognises, label_studio.read),
            FileFormat(createml.TITLE, createml.recognises, createml.read),
        ),
    ),
    (
        (".xml",),
        read_xml,
        (
            FileFormat(cvat.TITLE, cvat.recognises, cvat.read),
            FileFormat(voc.TITLE, voc.recognises, voc.read),
        ),
    ),
    (
        (dotdotgoose.SUFFIX,),
        read_json,
        (FileFormat(dotdotgoose.TITLE, dotdotgoose.recognises, dotdotgoose.read),),
    ),
    (
        (".csv", ".tsv"),
        read_table,
        (
            _DOTDOTGOOSE_COUNTS,
            FileFormat(via.TITLE, via.recognises_table, _of_table(via.read_table)),
            FileFormat(tabular.TITLE, tabular.recognises_table, _of_table(tabular.read_table)),
            FileFormat(imagej.TITLE, imagej.recognises_table, _of_table(imagej.read_table)),
        ),
    ),
)
# If a folder holds several, the first of these is read.
PRIORITY = (
    *(coco.TITLE, yolo.TITLE, cvat.TITLE, voc.TITLE, via.TITLE, via3.TITLE, labelme.TITLE),
    *(label_studio.TITLE, createml.TITLE, dotdotgoose.TITLE, tabular.TITLE, imagej.TITLE),
    counted.TITLE,
)


@dataclass
class Listing:
    """The files below a folder, hidden ones left out, in the order of their paths."""

    root: Path
    images: list[Path] = field(default_factory=list)
    by_suffix: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def of(self, *suffixes: str) -> list[Path]:
        """The files with one of `suffixes`."""
        return [path for suffix in suffixes for path in self.by_suffix.get(suffix, [])]


@dataclass
class Reading:
    """All annotations of one format in a folder."""

    title: str
    files: list[Path] = field(default_factory=list)
    images: list[AnnotatedImage] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)


def list_files(root: Path) -> Listing:
    """Every file below `root`; links are followed, but never back into a folder they lie in."""
    from clipcount_cli.counting.images import IMAGE_SUFFIXES

    listing = Listing(root)
    for path in _walk(root, frozenset()):
        suffix = path.suffix.lower()
        listing.by_suffix[suffix].append(path)
        if suffix in IMAGE_SUFFIXES:
            listing.images.append(path)
    return listing


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot search {folder}: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), above | {real})
        else:
            yield Path(entry.path)


def read_annotations(listing: Listing, findings: Findings) -> Reading | None:
    """What is annotated in a folder, or None if nothing of a known format is there.

    points.csv and annotations.json in the folder itself come before all others, counts.csv (there
    or beside the images) after them. Raises DataError if these cannot be read, or if nothing can.
    """
    root = listing.root
    counts = next((p for p in (root / COUNTS, root / "images" / COUNTS) if p.is_file()), None)
    named = [path for path in (root / POINTS, root / COCO, counts) if path and path.is_file()]
    if len(named) > 1:
        read, *others = (relative(path, root) for path in named)
        findings.notices.append(f"{read} is read, {' and '.join(others)} beside it is not")
    if named and named[0] != counts:
        return _read_named(named[0])
    readings, faults = _read_all(listing)
    if counts:
        readings.pop(counted.TITLE, None)  # counts.csv comes before other tables of counts
    if chosen := next((readings[title] for title in PRIORITY if title in readings), None):
        _mention_others(chosen, readings, root, findings)
        suffixes = {path.suffix.lower() for path in chosen.files}
        for path, error in faults:
            if path.suffix.lower() in suffixes:
                chosen.findings.add("files that cannot be read", str(error))
        return chosen
    if counts:
        return _read_counts(counts)
    if faults:
        raise faults[0][1]
    _refuse_workbooks(listing)
    return None


def _mention_others(
    chosen: Reading, readings: dict[str, Reading], root: Path, findings: Findings
) -> None:
    for other in readings.values():
        if other is not chosen:
            names = ", ".join(relative(path, root) for path in other.files[:_FILES_SHOWN])
            findings.notices.append(
                f"{chosen.title} is read, {other.title} beside it is not: {names}"
            )


def _refuse_workbooks(listing: Listing) -> None:
    if books := listing.of(*SPREADSHEET_SUFFIXES):
        names = shortened([relative(path, listing.root) for path in books])
        raise DataError(
            f"{listing.root} holds a spreadsheet, which is not a CSV file: {names}",
            hint=f'open it and save it as "CSV UTF-8", under the name {POINTS} or {COUNTS}',
        )


def _read_named(path: Path) -> Reading:
    """Read points.csv or annotations.json, which must be annotations."""
    _, parse, formats = next(each for each in PARSERS if path.suffix in each[0])
    parsed = parse(path)
    file_format = next((each for each in formats if each.recognises(parsed)), None)
    reading = Reading(file_format.title if file_format else coco.TITLE, [path])
    if file_format is not None:
        reading.images = file_format.read(parsed, path, reading.findings)
    elif path.name == POINTS:
        parsed.require(("image", "prompt", "x", "y"))
    else:
        reading.images = coco.read(parsed, path, reading.findings)  # raises if a list is missing
    return reading


def _read_counts(path: Path) -> Reading:
    table = read_table(path)
    reading = Reading(counted.TITLE, [path])
    if dotdotgoose.recognises_counts(table):
        reading.images = dotdotgoose.read_counts(table, reading.findings)
    else:
        reading.images = counted.read_table(table, reading.findings)
    return reading


def _read_all(listing: Listing) -> tuple[dict[str, Reading], list[tuple[Path, DataError]]]:
    """All annotations by format, and the files that look like some but cannot be read."""
    readings: dict[str, Reading] = {}
    faults: list[tuple[Path, DataError]] = []
    for suffixes, parse, formats in PARSERS:
        for path in listing.of(*suffixes):
            if path.name in _NO_ANNOTATIONS:
                continue
            try:
                parsed = parse(path)
                for each in formats:
                    if each.recognises(parsed):
                        reading = readings.setdefault(each.title, Reading(each.title))
                        reading.images += each.read(parsed, path, reading.findings)
                        reading.files.append(path)
                        break
            except DataError as error:
                faults.append((path, error))
    labels = yolo.find(listing.images, listing.of(".txt"))
    if labels:
        reading = readings[yolo.TITLE] = Reading(yolo.TITLE, list(labels.values()))
        configs = listing.of(*YAML_SUFFIXES)
        try:
            reading.images = yolo.read(labels, listing.root, configs, reading.findings)
            for path in yolo.unmatched(labels, listing.of(".txt")):
                name = relative(path, listing.root)
                reading.findings.add("missing images", f"the one that {name} labels")
        except DataError as error:
            faults.append((reading.files[0], error))
            del readings[yolo.TITLE]
    return {title: reading for title, reading in readings.items() if reading.files}, faults
