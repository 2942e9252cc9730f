"""Which image trains, which validates and which tests: by split.csv, by folder, or by hash.

names.py -> [splits.py] -> custom.py
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.names import written_name
from clipcount_cli.data.samples import Sample

SPLITS = ("train", "val", "test")
_IN_WORDS = {"train": "training", "val": "validation", "test": "test"}
# What folders and tables call the three.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_FOLDER = re.compile(r"(?:obj_)?([a-z]+?)(?:_data)?\d*")  # train, train2017, obj_train_data
_FILE = re.compile(r"instances_([a-z]+?)\d*")  # instances_val2017.json
_HELD_OUT = 0.1  # of train, if a data set has no validation split
_VAL_FROM, _TEST_FROM = 0.8, 0.9  # fractions of the hash's range


def folder_split(path: PurePosixPath) -> str | None:
    """The split that the innermost folder named after one, or a COCO file's name, stands for."""
    if (named := _FILE.fullmatch(path.stem.lower())) and named[1] in SPLIT_NAMES:
        return SPLIT_NAMES[named[1]]
    for folder in reversed(path.parts[:-1]):
        named = _FOLDER.fullmatch(folder.lower())
        if named and named[1] in SPLIT_NAMES:
            return SPLIT_NAMES[named[1]]
    return None


def listed_splits(texts: Iterable[Path]) -> dict[str, str]:
    """Stem of an image -> its split, from lists called train.txt, val.txt and so on.

    YOLO and Pascal VOC keep them; a stem that is on the lists of two splits is left out.
    """
    found: dict[str, str | None] = {}
    for path in texts:
        split = SPLIT_NAMES.get(path.stem.lower())
        if split is None:
            continue
        for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            stem = PurePosixPath(written_name(line)).stem
            if found.setdefault(stem, split) != split:
                found[stem] = None
    return {stem: split for stem, split in found.items() if split is not None}


def hash_fraction(name: str) -> float:
    """Where the hash of an image's name falls, 0 to 1: the same on every machine, for good."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def hash_splits(names: Iterable[str], findings: Findings) -> dict[str, str]:
    """80 / 10 / 10 by the hash of the name; a split left empty gets one image of the largest."""
    split_of = {name: _hash_split(name) for name in names}
    for empty in SPLITS:
        held = Counter(split_of.values())
        if held[empty] or not held or max(held.values()) < 2:
            continue
        largest = max(SPLITS, key=held.__getitem__)
        candidates = (name for name, split in split_of.items() if split == largest)
        moved = max(candidates, key=hash_fraction)
        split_of[moved] = empty
        findings.refilled[empty] = (
            f"the {_IN_WORDS[empty]} split would be empty: using {moved} (choose with split.csv)"
        )
    return split_of


def hold_out(splits: Mapping[str, list[Sample]]) -> dict[str, list[Sample]]:
    """Take the tenth of train whose names hash lowest as val."""
    train = splits["train"]
    tenth = max(1, round(len(train) * _HELD_OUT)) if len(train) > 1 else 0
    by_hash = sorted(train, key=lambda sample: hash_fraction(sample.name))
    held_out = {sample.source for sample in by_hash[:tenth]}
    kept = [sample for sample in train if sample.source not in held_out]
    val = [sample for sample in train if sample.source in held_out]
    return {"train": kept, "val": val, **{k: v for k, v in splits.items() if k != "train"}}


def _hash_split(name: str) -> str:
    fraction = hash_fraction(name)
    return "train" if fraction < _VAL_FROM else "val" if fraction < _TEST_FROM else "test"
