"""The user's own data: images, and annotations of them in any known format.

recognise.py, pictures.py, splits.py -> [custom.py] -> datasets.py
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clipcount_cli.counting.page_names import page_name
from clipcount_cli.data.checks import Findings, relative
from clipcount_cli.data.formats import counted, voc, yolo
from clipcount_cli.data.names import ImageIndex, written_name
from clipcount_cli.data.pictures import (
    IMAGES,
    Key,
    Picture,
    add_negatives,
    gather,
    name_unnamed,
    to_pixels,
    to_samples,
)
from clipcount_cli.data.recognise import (
    PARSERS,
    SPLIT_TABLE,
    YAML_SUFFIXES,
    Listing,
    Reading,
    list_files,
    read_annotations,
)
from clipcount_cli.data.samples import Sample
from clipcount_cli.data.splits import (
    SPLIT_NAMES,
    SPLITS,
    folder_split,
    hash_splits,
    hold_out,
    listed_splits,
)
from clipcount_cli.data.tables import read_table
from clipcount_cli.errors import DataError, quantity, shortened

TITLE = "own data"


@dataclass(frozen=True)
class CustomData:
    """A user's own data set as it was read."""

    title: str
    splits: dict[str, list[Sample]]
    suggest: Callable[[str], str]  # the name of a missing image -> what may be meant


def read(root: Path, findings: Findings) -> CustomData | None:
    """The samples by split, or None if `root` holds no annotations of a known format."""
    listing = list_files(root)
    reading = read_annotations(listing, findings)
    if reading is None:
        return None
    findings.take(reading.findings)
    index = ImageIndex(root, listing.images)
    pictures = gather(reading.images, index, findings)
    in_order = list(pictures.values())
    name_unnamed(in_order, root, findings)
    add_negatives(in_order, findings)
    if any(picture.in_fractions for picture in in_order):
        to_pixels(in_order)
    samples = to_samples(pictures, findings)
    if not (any(samples.values()) or findings.problems):
        raise DataError(
            f"{reading.files[0]} is read as {reading.title}, but names no object in any image",
            hint="annotate at least one object; without any, there is nothing to count",
        )
    findings.notices.insert(0, _summary(reading, root, samples))
    _mention_unlisted(listing, in_order, findings)
    with_samples = {key: picture for key, picture in pictures.items() if samples[key]}
    split_of = _choose_splits(listing, reading, with_samples, index, findings)
    splits = {
        split: [sample for key in pictures if split_of.get(key) == split for sample in samples[key]]
        for split in SPLITS
        if split in split_of.values()
    }
    if {"train", "test"} <= splits.keys() and not (listing.root / SPLIT_TABLE).is_file():
        splits = splits if "val" in splits else hold_out(splits)
    return CustomData(f"{TITLE}, {reading.title}", splits, index.suggest)


def unrecognised(root: Path) -> list[str]:
    """The files of `root` that might hold annotations, but of none that `read` recognises."""
    suffixes = (suffix for parsed, _, _ in PARSERS for suffix in parsed)
    return [relative(path, root) for path in list_files(root).of(*suffixes)]


def _summary(reading: Reading, root: Path, samples: dict[Key, list[Sample]]) -> str:
    """What was recognised, in one line."""
    shown = [same_image for same_image in samples.values() if same_image]
    flat = [sample for same_image in shown for sample in same_image]
    number = len(reading.files)
    files = relative(reading.files[0], root) if number == 1 else f"{number} files"
    prompts = sorted({sample.prompt for sample in flat})
    objects = sum(sample.truth for sample in flat)
    return (
        f"{root} is read as {reading.title} ({files}): {quantity(len(shown), 'image')}, "
        f"{quantity(objects, 'object')}; "
        f"prompts: {shortened(prompts)}"
    )


def _mention_unlisted(listing: Listing, pictures: Iterable[Picture], findings: Findings) -> None:
    """Name the images beside annotated ones that no annotation names."""
    listed = {os.path.realpath(picture.path) for picture in pictures}
    folders = {picture.path.parent for picture in pictures} | {listing.root / IMAGES}
    unlisted = [
        relative(path, listing.root)
        for path in listing.images
        if path.parent in folders and os.path.realpath(path) not in listed
    ]
    if unlisted:
        findings.notices.append(f"images without annotation are left out: {shortened(unlisted)}")


def _choose_splits(
    listing: Listing,
    reading: Reading,
    pictures: dict[Key, Picture],
    index: ImageIndex,
    findings: Findings,
) -> dict[Key, str]:
    """The split of each picture: by split.csv, else by the layout, else by hash."""
    table = listing.root / SPLIT_TABLE
    if table.is_file():
        return _read_splits(table, pictures, index, findings)
    stated = _stated_splits(listing, reading, pictures)
    if set(stated.values()) - {"train"}:  # a folder `train` alone may as well show trains
        if left_out := [picture.name for key, picture in pictures.items() if key not in stated]:
            findings.notices.append(
                f"images outside the folders train, val and test are left out: "
                f"{shortened(left_out)}"
            )
        return stated
    if reading.title == counted.TITLE:
        return dict.fromkeys(pictures, "test")
    return _hashed_splits(pictures, listing.root, findings)


def _hashed_splits(pictures: dict[Key, Picture], root: Path, findings: Findings) -> dict[Key, str]:
    """The split of each picture by its name. Pages of a file share one, if there are files enough.

    Pages of a stack look alike: val and test would hold images much like those of train.
    """
    files = {key: _hashed_name(picture, root) for key, picture in pictures.items()}
    pages = Counter(path for path, _ in pictures)
    names = files
    if len(set(files.values())) < len(SPLITS) and max(pages.values(), default=1) > 1:
        names = {
            (path, page): page_name(name, page) if pages[path] > 1 else name
            for (path, page), name in files.items()
        }
        findings.warnings.append(
            "pages of one file are divided among train, val and test, so errors on val and test "
            "may be lower than on other files"
        )
    split_of = hash_splits(dict.fromkeys(names.values()), findings)
    return {key: split_of[name] for key, name in names.items()}


def _stated_splits(
    listing: Listing, reading: Reading, pictures: dict[Key, Picture]
) -> dict[Key, str]:
    """Splits as annotations, data.yaml or the names of folders state them."""
    folders: dict[Path, str] = {}
    lists: dict[str, str] = {}
    if reading.title == yolo.TITLE:
        folders = yolo.splits(listing.of(*YAML_SUFFIXES))
    if reading.title in (yolo.TITLE, voc.TITLE):
        lists = listed_splits(listing.of(".txt"))
    stated = {}
    for key, picture in pictures.items():
        path = PurePosixPath(relative(picture.path, listing.root))
        split = (
            picture.split
            or folders.get(picture.path.parent.resolve())
            or lists.get(picture.path.stem)
            or folder_split(path)
        )
        if split is not None:
            stated[key] = split
    return stated


def _hashed_name(picture: Picture, root: Path) -> str:
    """What is hashed: the same for all spellings of a name, on every system."""
    inside = root / IMAGES if picture.path.is_relative_to(root / IMAGES) else root
    return unicodedata.normalize("NFC", relative(picture.path, inside))


def _read_splits(
    path: Path, pictures: dict[Key, Picture], index: ImageIndex, findings: Findings
) -> dict[Key, str]:
    homes = [path.parent / IMAGES, path.parent]
    by_name = {picture.name: [key] for key, picture in pictures.items()}
    pages_of: dict[str, list[Key]] = {}
    for key in pictures:
        pages_of.setdefault(key[0], []).append(key)
    split_of: dict[Key, str] = {}
    for line, cells in read_table(path, ("image", "split")).rows:
        name = written_name(cells["image"])
        split = SPLIT_NAMES.get(cells["split"].lower())
        found = index.find(name, homes)
        if found is None:
            keys = by_name.get(name, [])
        else:
            real = os.path.realpath(found.path)
            keys = [(real, found.page)] if found.page else pages_of.get(real, [])
        if split is None:
            kind = f"rows of {path.name} whose split is not {', '.join(SPLITS)}"
            findings.add(kind, f"line {line} ({cells['split']!r})")
        elif found is None and not keys:
            missing = f"{IMAGES}/{name} (in {path.name}){index.suggest(name)}"
            findings.add("missing images", missing)
        elif others := {split_of.setdefault(key, split) for key in keys} - {split}:
            findings.add("images in two splits", f"{name} ({', '.join([*others, split])})")
    for key, picture in pictures.items():
        if key not in split_of:
            findings.add(f"images without a split in {path.name}", picture.name)
    return {key: split for key, split in split_of.items() if key in pictures}
