"""Merge annotations by image, however often and under whichever names it is listed.

recognise.py, names.py -> [pictures.py] -> custom.py. An object listed twice at the same place, in
one file or in two spellings of an image's name, counts once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from clipcount_cli.config import GENERIC_PROMPT
from clipcount_cli.counting.page_names import page_name
from clipcount_cli.data.checks import Findings, read_headers, relative
from clipcount_cli.data.formats.annotated import TWO_SIZES, UNNAMED, AnnotatedImage, Point
from clipcount_cli.data.names import ImageIndex, Located, written_name
from clipcount_cli.data.samples import Sample, Source, as_points
from clipcount_cli.data.splits import SPLIT_NAMES, folder_split
from clipcount_cli.errors import quantity, shortened

IMAGES = "images"
_PLACE_DECIMALS = 1  # of a pixel: nearer points are one object, listed twice
_BESIDE = (IMAGES, "JPEGImages", "data")  # where exporters put images, seen from annotations
# folders whose names do not describe what their images show
_STRUCTURAL = {*(folder.lower() for folder in _BESIDE), "image", "labels", "annotations", "default"}

Key = tuple[str, int]  # the real path of an image file, and the page of it, from 1


@dataclass
class Picture:
    """One image, and everything that is annotated in it."""

    name: str  # as it is called first
    path: Path
    exact: bool  # False: found by the last parts of its name only
    also: list[str] = field(default_factory=list)  # what it is called elsewhere
    points: dict[str, dict[Path, list[Point]]] = field(default_factory=dict)  # by prompt and file
    counts: dict[str, int] = field(default_factory=dict)
    uncounted: set[str] = field(default_factory=set)
    size: tuple[int, int] | None = None  # (width, height) as stated
    split: str | None = None
    in_fractions: bool = False
    respelt: dict[str, str] = field(default_factory=dict)  # prompts under their first spelling
    page: int | None = None  # of a stack, from 1, if the name has one

    @property
    def source(self) -> Source:
        return self.path, self.page or 1

    @property
    def key(self) -> Key:
        return os.path.realpath(self.path), self.page or 1

    @property
    def prompts(self) -> list[str]:
        return list(dict.fromkeys([*self.points, *self.counts]))

    def take(self, image: AnnotatedImage, findings: Findings) -> None:
        """Add the content of one annotation file."""
        for prompt, points in image.points.items():
            by_source = self.points.setdefault(self._known(prompt), {})
            by_source.setdefault(image.source, []).extend(points)
        for prompt, count in image.counts.items():
            if self.counts.setdefault(self._known(prompt), count) != count:
                kind = f"prompts with two different counts in {image.source.name}"
                findings.add(kind, f"{self.name} ({prompt})")
        self.uncounted |= image.uncounted
        if self.size and image.size and self.size != image.size:
            findings.add(TWO_SIZES, f"{self.name} ({image.source.name})")
        self.size = self.size or image.size
        self.split = self.split or image.split
        self.in_fractions = image.in_fractions

    def _known(self, prompt: str) -> str:
        """The first spelling of a prompt here: case and spaces make no other one."""
        for known in self.prompts:
            if known.casefold().split() == prompt.casefold().split():
                if known != prompt:
                    self.respelt[prompt] = known
                return known
        return prompt


def gather(
    images: Iterable[AnnotatedImage], index: ImageIndex, findings: Findings
) -> dict[Key, Picture]:
    """One picture per image file or page of one, in the order of the annotations."""
    homes = _Homes(index)
    pictures: dict[Key, Picture] = {}
    for image in images:
        name, found = _locate(image, index, homes.of(image))
        path = found.path if found else homes.of(image)[0] / name
        exact, page = (found.exact, found.page) if found else (True, None)
        if image.page is not None:
            name, page = page_name(name, image.page), image.page
        picture = Picture(name, path, exact, page=page)
        known = pictures.setdefault(picture.key, picture)
        if known is not picture:
            known.also.append(name)
            if not (known.exact or picture.exact) and known.name != name:
                kind = "names that fit one and the same image"
                findings.add(kind, f"{known.name} and {name} ({relative(path, index.root)})")
        known.take(image, findings)
    _mention_respelt(pictures.values(), findings)
    _mention_repeated(pictures.values(), findings)
    return pictures


class _Homes:
    """The folders in which an annotation file's images are looked for, the likeliest first."""

    def __init__(self, index: ImageIndex) -> None:
        self._root = index.root
        self._by_split: dict[str | None, list[Path]] = {}
        for folder in index.folders:
            split = folder_split(PurePosixPath(relative(folder / "x", self._root)))
            self._by_split.setdefault(split, []).append(folder)
        self._known: dict[Path, list[Path]] = {}

    def of(self, image: AnnotatedImage) -> list[Path]:
        source = image.source
        if source not in self._known:
            beside = source.parent
            split = folder_split(PurePosixPath(relative(source, self._root)))
            homes = [] if beside == self._root else [beside]
            homes += [self._root / IMAGES, self._root]
            homes += [home / name for home in (beside, beside.parent) for name in _BESIDE]
            homes += self._by_split.get(split, []) if split else []
            self._known[source] = list(dict.fromkeys(homes))
        return self._known[source]


def _locate(
    image: AnnotatedImage, index: ImageIndex, homes: Sequence[Path]
) -> tuple[str, Located | None]:
    """What an image is called, and where it is; by its stem if it was renamed since."""
    name = written_name(image.name)
    found = index.find(name, homes) if name else None
    if found is not None:
        return (relative(found.path, index.root) if Path(name).is_absolute() else name), found
    found = index.find_stem(image.stem, homes) if image.stem or not name else None
    if found is not None:
        inside = index.root / IMAGES
        return relative(
            found.path, inside if found.path.is_relative_to(inside) else index.root
        ), found
    return name or image.stem, None


def _mention_respelt(pictures: Iterable[Picture], findings: Findings) -> None:
    respelt = {pair: None for picture in pictures for pair in picture.respelt.items()}
    if respelt:
        listed = shortened([f'"{prompt}" = "{known}"' for prompt, known in respelt])
        findings.notices.append(
            f"prompts of one image that differ only in case or spaces are one: {listed}"
        )


def _mention_repeated(pictures: Iterable[Picture], findings: Findings) -> None:
    repeated = []
    for picture in pictures:
        if picture.also:
            others = sorted(set(picture.also) - {picture.name})
            repeated.append(
                f"{picture.name} (also as {', '.join(others)})" if others else picture.name
            )
    if repeated:
        findings.notices.append(
            f"images listed twice or more, each taken as one ({len(repeated)}): "
            + shortened(repeated)
        )


def name_unnamed(pictures: Iterable[Picture], root: Path, findings: Findings) -> None:
    """Give objects without a class the name of their image's sub-folder, else "objects"."""
    named: dict[str, int] = {}
    for picture in pictures:
        if UNNAMED in picture.points:
            prompt = _folder_prompt(picture, root)
            for source, points in picture.points.pop(UNNAMED).items():
                picture.points.setdefault(prompt, {}).setdefault(source, []).extend(points)
                named[prompt] = named.get(prompt, 0) + len(points)
    if named:
        shown = shortened([f'"{prompt}" ({number})' for prompt, number in named.items()])
        findings.notices.append(
            f"objects without a class are named by the sub-folder of their image, else "
            f'"{GENERIC_PROMPT}": {shown}'
        )


def _folder_prompt(picture: Picture, root: Path) -> str:
    folder = PurePosixPath(relative(picture.path, root)).parent.name
    structural = folder.lower() in _STRUCTURAL or folder.lower() in SPLIT_NAMES
    return GENERIC_PROMPT if structural else folder or GENERIC_PROMPT


def add_negatives(pictures: Sequence[Picture], findings: Findings) -> None:
    """An image that was annotated and has no object shows none of the classes in use."""
    used = sorted(
        {prompt for p in pictures for prompt, found in p.points.items() if any(found.values())}
    )
    bare = [picture for picture in pictures if not (picture.prompts or picture.uncounted)]
    for picture in bare:
        for prompt in used:
            picture.points[prompt] = {}
    if bare and used:
        findings.notices.append(
            f"{quantity(len(bare), 'image')} without any object, taken as showing no "
            f"{shortened(used)}: " + shortened([picture.name for picture in bare])
        )


def to_pixels(pictures: Sequence[Picture]) -> None:
    """Turn fractions of width and height into pixels of the upright image."""
    headers = read_headers(picture.source for picture in pictures)
    for picture in pictures:
        header = headers.get(picture.source)
        width, height = header.size if header else (1, 1)  # reading its pixels reports the reason
        for by_source in picture.points.values():
            for source, points in by_source.items():
                by_source[source] = [(x * width, y * height) for x, y in points]


def to_samples(pictures: dict[Key, Picture], findings: Findings) -> dict[Key, list[Sample]]:
    """One sample per prompt of each picture; objects listed twice are counted once."""
    doubled: list[str] = []
    samples = {key: [*_samples(picture, doubled, findings)] for key, picture in pictures.items()}
    if doubled:
        findings.notices.append(
            f"objects listed twice at the same place count once: {shortened(doubled)}"
        )
    return samples


def _samples(picture: Picture, doubled: list[str], findings: Findings) -> Iterator[Sample]:
    for prompt in picture.prompts:
        by_source = picture.points.get(prompt, {})
        distinct = {source: _distinct(points) for source, points in by_source.items()}
        merged = {place: point for points in distinct.values() for place, point in points.items()}
        if any(points.keys() != merged.keys() for points in distinct.values()):
            files = ", ".join(source.name for source in distinct)
            kind = "images that two files annotate differently"
            findings.add(kind, f"{picture.name} ({prompt}: {files})")
        if more := sum(map(len, by_source.values())) - len(merged):
            doubled.append(f"{picture.name} ({more})")
        yield Sample(
            picture.name,
            picture.path,
            prompt,
            as_points([*merged.values()]),
            stated_size=picture.size,
            count=picture.counts.get(prompt),
            uncounted=frozenset(picture.uncounted),
            page=picture.page,
        )


def _distinct(points: Iterable[Point]) -> dict[Point, Point]:
    """Points by their place, which two that were rounded differently share."""
    places: dict[Point, Point] = {}
    for x, y in points:
        places.setdefault((round(x, _PLACE_DECIMALS), round(y, _PLACE_DECIMALS)), (x, y))
    return places
