"""Fetch the pictures that rendered scenes use beyond our own drawings, and name their licences.

`python scripts/scenes fetch --material DIR` makes DIR/{fluent,noto,grounds,models} of the packages
in `PACKAGES`, in about 7 minutes: npm and apt-get must reach their registries, no root is needed,
and `pip install trimesh fonttools` reads the models and the font. `--table` prints the packages.
Nothing of it enters the repository; clipcount_cli/assets/ATTRIBUTION.md names the sources.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import tarfile
import tempfile
import unicodedata
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from scenes.models import keep_models
from scenes.pictures import LOOKS, MODELS_FOLDER

GROUND_SIDE_PX = 480  # of the shorter side: scenes crop and shrink further


@dataclass(frozen=True)
class Package:
    """Where a kind of material comes from."""

    name: str
    registry: str  # "npm" or "debian"
    version: str
    licence: str
    credit: str
    shows: str


PACKAGES = (
    Package(
        "@lobehub/fluent-emoji-3d",
        "npm",
        "1.1.0",
        "MIT",
        "Fluent Emoji, Microsoft Corporation; packaged by LobeHub",
        "soft 3-D renders of fruit, animals and things, for training",
    ),
    Package(
        "fonts-noto-color-emoji",
        "debian",
        "2.042",
        "OFL-1.1",
        "Noto Color Emoji, Google Inc.",
        "flat drawings of the same nouns, for test scenes only",
    ),
    Package(
        "scratch",
        "debian",
        "1.4.0.6",
        "CC-BY-SA-3.0 (its Media folder)",
        "Scratch 1.4, Massachusetts Institute of Technology",
        "photographs as grounds",
    ),
    Package(
        "sweethome3d-furniture",
        "debian",
        "1.8",
        "CC0, CC-BY-3.0, CC-BY-3.0-US (by library)",
        "Blend Swap contributors, Andrew Kator and Jennifer Legaz, Reallusion, Scopia",
        "3-D models of furniture, people and things, from many sides",
    ),
)

# Photos that show what scenes count, or query as absent.
UNSUITABLE = {
    *("flower-bed", "hay_field", "clothing-store", "parking-ramp", "driveway", "brick-wall1"),
    *(
        "brick-wall2",
        "brick-wall-and-stairs",
        "houses",
        "all-sports-mural",
        "party-room",
        "village",
    ),
}


def fetch(package: Package, folder: Path) -> Path:
    """Download and unpack one package below `folder`, without installing it."""
    if package.registry == "npm":
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(folder.glob("*.tgz"))) as archive:
            archive.extractall(folder, filter="data")
        return folder / "package"
    subprocess.run(["apt-get", "download", package.name], cwd=folder, check=True)
    archive_path = next(folder.glob("*.deb"))
    subprocess.run(["dpkg-deb", "-x", archive_path.name, "unpacked"], cwd=folder, check=True)
    return folder / "unpacked"


def codes() -> set[str]:
    """List the code points, in hex, of every picture that scenes show."""
    looks = (look for row in LOOKS.values() for look in row)
    return {f"{ord(unicodedata.lookup(look.emoji.upper())):x}" for look in looks}


def keep_fluent(unpacked: Path, target: Path) -> None:
    for code in sorted(codes()):
        for name in (f"{code}.webp", f"{code}-fe0f.webp"):
            source = unpacked / "assets" / name
            if source.is_file():
                shutil.copyfile(source, target / f"{code}.webp")


def keep_noto(unpacked: Path, target: Path) -> None:
    """Take the bitmaps of the wanted emoji out of the font."""
    from fontTools.ttLib import TTFont

    font = TTFont(next(unpacked.rglob("NotoColorEmoji.ttf")))
    names, bitmaps = font.getBestCmap(), font["CBDT"].strikeData[0]
    for code in sorted(codes()):
        glyph = bitmaps.get(names.get(int(code, 16)))
        if glyph is not None:
            Image.open(io.BytesIO(glyph.imageData)).convert("RGBA").save(target / f"{code}.png")


def keep_grounds(unpacked: Path, target: Path) -> None:
    for path in sorted(unpacked.rglob("Media/Backgrounds/*/*.jpg")):
        if path.stem in UNSUITABLE:
            continue
        with Image.open(path) as image:
            picture = image.convert("RGB")
        picture.thumbnail((GROUND_SIDE_PX * 3, GROUND_SIDE_PX), Image.Resampling.LANCZOS)
        picture.save(target / f"{path.stem}.png")


KEEPERS = {
    "@lobehub/fluent-emoji-3d": ("fluent", keep_fluent),
    "fonts-noto-color-emoji": ("noto", keep_noto),
    "scratch": ("grounds", keep_grounds),
    "sweethome3d-furniture": (MODELS_FOLDER, keep_models),
}


def table() -> str:
    """The packages as a Markdown table."""
    rows = ["| package | version | licence | credit | shows |", "| --- | --- | --- | --- | --- |"]
    rows.extend(
        f"| {p.registry}: `{p.name}` | {p.version} | {p.licence} | {p.credit} | {p.shows} |"
        for p in PACKAGES
    )
    return "\n".join(rows)


def lacking() -> list[str]:
    """The programs and packages that this machine lacks."""
    tools = [tool for tool in ("npm", "apt-get", "dpkg-deb") if shutil.which(tool) is None]
    return tools + [name for name in ("trimesh", "fontTools") if find_spec(name) is None]


def make(material: Path) -> None:
    """Fetch every package and keep its pictures below `material`: all of them, or nothing."""
    material.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=material.parent) as folder:
        made = Path(folder) / "made"
        for package in PACKAGES:
            name, keep = KEEPERS[package.name]
            unpacked, target = Path(folder) / f"{name}-package", made / name
            unpacked.mkdir()
            target.mkdir(parents=True)
            keep(fetch(package, unpacked), target)
            print(f"{package.name}: {sum(path.is_file() for path in target.rglob('*'))} pictures")
        made.rename(material)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--material", type=Path, metavar="DIR", help="where to put it; new")
    parser.add_argument("--table", action="store_true", help="print packages and licences")
    options = parser.parse_args()
    if options.table or options.material is None:
        print(table())
    elif options.material.exists():
        # Old pictures among new ones might show in training what is kept for tests
        parser.error(f"{options.material} exists; remove it, or name another folder")
    elif missing := lacking():
        parser.error(f"this machine lacks {', '.join(missing)}")
    else:
        make(options.material)


if __name__ == "__main__":
    main()
