"""ShanghaiTech (Zhang et al., CVPR 2016): crowds, in parts A (dense) and B (streets).

Layouts in the wild: `part_A/` or `part_A_final/`, also one folder deeper; `ground-truth/` or
`ground_truth/`. DIR may be one part alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.mat_files import load_variable
from clipcount_cli.data.samples import Sample, as_points
from clipcount_cli.errors import DataError, UsageError

TITLE = "ShanghaiTech"
PROMPT = "people"
PARTS = ("A", "B")
_TRUTHS = ("ground-truth", "ground_truth")


def find(root: Path) -> dict[str, Path] | None:
    """The folder of each part under `root`, or None if there is no part."""
    homes = [root, root / "ShanghaiTech", root / "ShanghaiTech_Crowd_Counting_Dataset"]
    for home in homes:
        found = {part: path for part in PARTS if (path := _part_folder(home, part)) is not None}
        if found:
            return found
    if _is_part(root):
        return {"B" if root.resolve().name.lower().startswith("part_b") else "A": root}
    return None


def choose(found: dict[str, Path], part: str | None, findings: Findings) -> str:
    """The part to read: the requested one, else the only one, else A with a notice."""
    if part is None:
        if len(found) > 1:
            findings.notices.append("reading part A of ShanghaiTech; --part B takes the other")
        return next(iter(found))
    if part.upper() not in found:
        raise UsageError(f"there is no part {part} here", hint=f"there is part {', '.join(found)}")
    return part.upper()


def read(part: Path, findings: Findings) -> dict[str, list[Sample]]:
    """The samples of the part's own two splits, train and test."""
    return {split: _read_split(part / f"{split}_data", findings) for split in ("train", "test")}


def _part_folder(home: Path, part: str) -> Path | None:
    names = (f"part_{part}", f"part_{part}_final", f"part_{part.lower()}")
    return next((home / name for name in names if _is_part(home / name)), None)


def _is_part(folder: Path) -> bool:
    return (folder / "train_data" / "images").is_dir() or (folder / "test_data" / "images").is_dir()


def _read_split(folder: Path, findings: Findings) -> list[Sample]:
    from natsort import natsorted

    truths = next((folder / name for name in _TRUTHS if (folder / name).is_dir()), None)
    if truths is None:
        if not folder.is_dir():
            return []  # a split may be absent; requesting it reports that it is empty
        raise DataError(f"{folder} has no folder ground-truth/ or ground_truth/")
    images = {path.stem: path for path in (folder / "images").glob("[!.]*.jpg")}
    named = {path.stem.removeprefix("GT_") for path in truths.glob("GT_*.mat")}
    samples: list[Sample] = []
    for stem in natsorted(images.keys() | named):
        image = images.get(stem, folder / "images" / f"{stem}.jpg")
        if stem in named:
            samples.append(_sample(image, truths / f"GT_{stem}.mat", findings))
        else:
            findings.add("images without ground truth", f"{folder.name}/images/{image.name}")
    return samples


def _sample(image: Path, truth: Path, findings: Findings) -> Sample:
    try:
        points_px = as_points(load_variable(truth, "image_info")[0, 0][0, 0][0])
    except Exception as error:  # damaged files make scipy raise many kinds of errors
        findings.add("unreadable ground truth", f"{truth.name} ({error})")
        points_px = np.zeros((0, 2), np.float32)
    return Sample(image.name, image, PROMPT, points_px, "shanghaitech")
