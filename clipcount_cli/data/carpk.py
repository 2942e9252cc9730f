"""CARPK (Hsieh et al., ICCV 2017): cars on parking lots seen from above, one box per line."""

from __future__ import annotations

from pathlib import Path

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.samples import Sample, as_points
from clipcount_cli.errors import DataError

TITLE = "CARPK"
PROMPT = "car"
_HOMES = (".", "data", "CARPK_devkit/data", "CARPK", "CARPK/CARPK_devkit/data")
_FOLDERS = ("Annotations", "Images", "ImageSets")


def find(root: Path) -> Path | None:
    """The folder under `root` that holds CARPK's three, or None."""
    homes = (root / home for home in _HOMES)
    return next((home for home in homes if _is_home(home)), None)


def _is_home(folder: Path) -> bool:
    """Whether a folder holds the three, and lists of images, which Pascal VOC keeps elsewhere."""
    lists = (folder / "ImageSets" / f"{split}.txt" for split in ("train", "test"))
    return all((folder / name).is_dir() for name in _FOLDERS) and any(map(Path.is_file, lists))


def read(home: Path, findings: Findings) -> dict[str, list[Sample]]:
    """The samples of CARPK's own two splits, train and test."""
    return {split: _read_split(home, split, findings) for split in ("train", "test")}


def _read_split(home: Path, split: str, findings: Findings) -> list[Sample]:
    path = home / "ImageSets" / f"{split}.txt"
    if not path.is_file():
        raise DataError(f"{home} looks like CARPK, but has no ImageSets/{split}.txt")
    names = _read_text(path).split()
    samples = (_sample(home, name, findings) for name in names)
    return [sample for sample in samples if sample is not None]


def _sample(home: Path, name: str, findings: Findings) -> Sample | None:
    image = next((p for p in _pictures(home, name) if p.is_file()), _pictures(home, name)[0])
    boxes = home / "Annotations" / f"{name}.txt"
    if not boxes.is_file():
        findings.add("images without annotation", boxes.name)
        return None
    centres: list[tuple[float, float]] = []
    for number, line in enumerate(_read_text(boxes).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            x1, y1, x2, y2 = (float(word) for word in line.split()[:4])
            (centre,) = as_points([[(x1 + x2) / 2, (y1 + y2) / 2]])
        except ValueError:
            findings.add("unreadable annotation lines", f"{boxes.name}:{number}")
            continue
        centres.append((float(centre[0]), float(centre[1])))
    return Sample(image.name, image, PROMPT, as_points(centres), "carpk")


def _read_text(path: Path) -> str:
    """A byte that is no UTF-8 spoils its line, not the reading."""
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _pictures(home: Path, name: str) -> list[Path]:
    return [home / "Images" / f"{name}{suffix}" for suffix in (".png", ".jpg")]
