"""DIR -> samples: recognise the layout, read it, and find all that is wrong before the first step.

Data set -> samples, step 3 of 3: samples.py <- fsc147.py, carpk.py, shanghaitech.py, own.py
<- [datasets.py]. Commands call `load_dataset`; nothing else here is for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from clipcount_cli.data import carpk, custom, fsc147, shanghaitech
from clipcount_cli.data.checks import Findings, Suggest, check_samples
from clipcount_cli.data.samples import OWN, Dataset, Sample
from clipcount_cli.data.splits import SPLITS, hold_out
from clipcount_cli.errors import DataError, UsageError, quantity, shortened
from clipcount_cli.files import CHECK_PATH, exists, is_folder

TRAINING_SPLITS = ("train", "val")
_LAYOUTS = """put the images in images/, and beside it one of:
  points.csv    columns image,prompt,x,y
  counts.csv    columns image,prompt,count (eval only)
  annotations   COCO, YOLO, Pascal VOC, LabelMe, VIA, CVAT, Label Studio,
                CreateML, DotDotGoose, ImageJ, QuPath or other CSV tables
FSC-147, CARPK and ShanghaiTech are also read, laid out as published;
`clipcount count --points FILE.csv` writes a draft of points to correct"""


def load_dataset(
    root: Path, part: str | None = None, splits: Sequence[str] = TRAINING_SPLITS
) -> Dataset:
    """Read the data set in `root`, whose layout is recognised, and check what `splits` need.

    part: A or B of ShanghaiTech; splits: those about to be used, or `all`. Their images are
    looked for, and their dots held against the images' sizes. Raises DataError with all that is
    wrong at once, UsageError for a part or split that does not exist.
    """
    findings = Findings()
    read = _read(root, part, findings)
    by_split = {split: tuple(samples) for split, samples in read.splits.items()}
    dataset = Dataset(read.name, by_split, title=_folder_name(root) if read.name == OWN else "")
    _refuse_counts(dataset, root, splits)
    _check(dataset, root, splits, findings, read.suggest)
    findings.raise_if_any(root, read.title)
    used = SPLITS if "train" in splits else splits  # a training divides all images
    findings.notices += [findings.refilled[split] for split in used if split in findings.refilled]
    return replace(dataset, notices=tuple(findings.notices), warnings=tuple(findings.warnings))


def _folder_name(root: Path) -> str:
    """The name of a folder, also if it is given as `.` or `..`; a link keeps its own."""
    named = root if root.name not in ("", "..") else root.resolve()
    return named.name or str(root)


def _refuse_counts(dataset: Dataset, root: Path, splits: Sequence[str]) -> None:
    """Training needs positions."""
    if "train" in splits and any(sample.count is not None for sample in dataset.split("all")):
        raise DataError(
            f"{root} gives counts without positions, which is enough for eval, not for training",
            hint="mark the objects: points.csv with the columns image,prompt,x,y",
        )


class _Read(NamedTuple):
    """A data set as its reader leaves it."""

    name: str
    title: str
    splits: dict[str, list[Sample]]
    suggest: Suggest = lambda name: ""


def _read(root: Path, part: str | None, findings: Findings) -> _Read:
    """Read `root` in the first layout that fits."""
    if not exists(root):
        raise DataError(f"{root} does not exist", hint=CHECK_PATH)
    if not is_folder(root):
        raise DataError(f"{root} is not a folder", hint="--data takes the folder of a data set")
    if (parts := shanghaitech.find(root)) is not None:
        chosen = shanghaitech.choose(parts, part, findings)
        splits = hold_out(shanghaitech.read(parts[chosen], findings))
        return _Read(f"shanghaitech_{chosen}", f"{shanghaitech.TITLE} part {chosen}", splits)
    if part is not None:
        raise UsageError(f"--part {part} is for ShanghaiTech, and {root} is none")
    if (files := fsc147.find(root)) is not None:
        return _Read("fsc147", fsc147.TITLE, fsc147.read(files, findings))
    if (home := carpk.find(root)) is not None:
        return _Read("carpk", carpk.TITLE, hold_out(carpk.read(home, findings)))
    if (data := custom.read(root, findings)) is not None:
        return _Read(OWN, data.title, data.splits, data.suggest)
    others = custom.unrecognised(root)
    beside = f"; files of unknown format: {shortened(others, 3)}" if others else ""
    raise DataError(f"{root} holds no data set of a known layout{beside}", hint=_LAYOUTS)


def _check(
    dataset: Dataset, root: Path, splits: Sequence[str], findings: Findings, suggest: Suggest
) -> None:
    for split in splits:
        if split == "all" or split in dataset.splits:
            samples = dataset.split(split)
            if not (samples or findings.problems):
                findings.add("empty splits", split)
            check_samples(samples, root, findings, suggest)
        elif set(splits) == set(TRAINING_SPLITS):
            findings.add("empty splits", split)
        else:
            dataset.split(split)  # names the splits there are
    samples = dataset.split("all")
    if samples and not any(sample.truth for sample in samples):
        findings.add("no points at all", f"{quantity(len(samples), 'image')} without any")
    _mention_shared_classes(dataset, findings)


def _mention_shared_classes(dataset: Dataset, findings: Findings) -> None:
    """Name the classes of train that are also in test; other data sets are made so."""
    if dataset.name != "fsc147":
        return
    train, test = ({s.prompt for s in dataset.splits.get(name, ())} for name in ("train", "test"))
    if shared := sorted(train & test):
        findings.notices.append(f"classes of train that are also in test: {shortened(shared)}")
