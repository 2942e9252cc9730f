"""DIR -> samples: recognise the layout, read it, and find all that is wrong before the first step.

Data set -> samples, step 3 of 3: samples.py <- fsc147.py, carpk.py, shanghaitech.py, custom.py
<- [datasets.py]. Commands call `load_dataset`; nothing else here is for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipcount_cli.data import carpk, fsc147, shanghaitech
from clipcount_cli.data import custom as own
from clipcount_cli.data.checks import Findings, check_samples
from clipcount_cli.data.samples import Dataset, Sample
from clipcount_cli.errors import DataError, UsageError, shortened

TRAINING_SPLITS = ("train", "val")
_HELD_OUT = 0.1  # of train, where a data set has no validation split
_LAYOUTS = """known layouts:
  FSC-147       annotation_FSC147_384.json, Train_Test_Val_FSC_147.json, ImageClasses_FSC147.txt,
                images_384_VarV2/
  CARPK         Annotations/, Images/, ImageSets/
  ShanghaiTech  part_A/ and part_B/, each with train_data/ and test_data/
  own data      images/ with points.csv (image,prompt,x,y) or annotations.json (COCO)"""


def load_dataset(
    root: Path, part: str | None = None, splits: Sequence[str] = TRAINING_SPLITS
) -> Dataset:
    """Read the data set in `root`, whose layout is recognised, and check what `splits` need.

    part: A or B of ShanghaiTech; splits: those about to be used, or `all`. Their pictures are
    looked for, and their dots held against the pictures' sizes. Raises DataError with all that is
    wrong at once, UsageError for a part or split that does not exist.
    """
    findings = Findings()
    name, title, read = _read(root, part, findings)
    dataset = Dataset(name, {split: tuple(samples) for split, samples in read.items()})
    _check(dataset, root, splits, findings)
    findings.raise_if_any(root, title)
    return Dataset(name, dataset.splits, tuple(findings.notices))


def _read(
    root: Path, part: str | None, findings: Findings
) -> tuple[str, str, dict[str, list[Sample]]]:
    """Name, title and samples of whatever lies in `root`."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder", hint="--data takes the folder of a data set")
    if (parts := shanghaitech.find(root)) is not None:
        chosen = shanghaitech.choose(parts, part, findings)
        read = _hold_out(shanghaitech.read(parts[chosen], findings))
        return f"shanghaitech_{chosen}", f"{shanghaitech.TITLE} part {chosen}", read
    if part is not None:
        raise UsageError(f"--part {part} is for ShanghaiTech, and {root} is none")
    if (files := fsc147.find(root)) is not None:
        return "fsc147", fsc147.TITLE, fsc147.read(files, findings)
    if (home := carpk.find(root)) is not None:
        return "carpk", carpk.TITLE, _hold_out(carpk.read(home, findings))
    if (tables := own.find(root)) is not None:
        return "own", own.TITLE, own.read(tables, findings)
    raise DataError(f"{root} holds no data set of a known layout", hint=_LAYOUTS)


def _hold_out(splits: dict[str, list[Sample]]) -> dict[str, list[Sample]]:
    """Take the tenth of train whose names hash lowest as val."""
    train = splits["train"]
    tenth = max(1, round(len(train) * _HELD_OUT)) if len(train) > 1 else 0
    held_out = {sample.image for sample in sorted(train, key=_hash_share)[:tenth]}
    return {
        "train": [sample for sample in train if sample.image not in held_out],
        "val": [sample for sample in train if sample.image in held_out],
        "test": splits["test"],
    }


def _hash_share(sample: Sample) -> float:
    return own.hash_share(sample.name)


def _check(dataset: Dataset, root: Path, splits: Sequence[str], findings: Findings) -> None:
    for split in splits:
        if split == "all" or split in dataset.splits:
            samples = dataset.split(split)
            if not samples:
                findings.add("empty splits", split)
            check_samples(samples, root, findings)
        elif set(splits) == set(TRAINING_SPLITS):
            findings.add("empty splits", split)
        else:
            dataset.split(split)  # names the splits there are
    samples = dataset.split("all")
    if samples and not any(len(sample.points_px) for sample in samples):
        findings.add("no dots at all", f"{len(samples)} images without any")
    _mention_shared_classes(dataset, findings)


def _mention_shared_classes(dataset: Dataset, findings: Findings) -> None:
    """Say which classes of train also stand in test; benchmarks of one class are made so."""
    if dataset.name not in ("fsc147", "own"):
        return
    train, test = ({s.prompt for s in dataset.splits.get(name, ())} for name in ("train", "test"))
    if shared := sorted(train & test):
        findings.notices.append(f"classes of train that also stand in test: {shortened(shared)}")
