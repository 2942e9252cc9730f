"""Find the image that a table means, although it spells the name in its own way.

tables.py -> [names.py]. Tables travel between systems: `\\` for `/`, composed or decomposed
accents, `.JPG` for `.jpg`, and paths of the machine that wrote them.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from clipcount_cli.counting.page_names import split_page

_SIMILAR = 0.75  # share of common characters from which a name is suggested
_FOREIGN = re.compile(r"[A-Za-z]:/|/|\.\./|[a-z][a-z0-9+.-]+://")  # a path of another place
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


def written_name(cell: str) -> str:
    """The name in `cell` with `/` between folders and without a leading `./`."""
    name = cell.strip().replace("\\", "/")
    while name.startswith("./"):
        name = name[2:]
    return name


def without_escapes(name: str) -> str:
    """The path in a name that is a web address, or is escaped like one with `%20`."""
    path = name.partition("?")[0] if "://" in name else name
    return unquote(path) if _ESCAPE.search(path) else path


def spelling(name: str) -> str:
    """What all spellings of one name have in common: composed accents, a lower-case suffix."""
    stem, dot, suffix = unicodedata.normalize("NFC", name).rpartition(".")
    return stem + dot + suffix.lower()


class Spellings:
    """Known names, to be found under another spelling."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(dict.fromkeys(names))
        self._exact = set(self.names)
        self._by_spelling: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            self._by_spelling[spelling(name)].append(name)

    def find(self, name: str) -> str | None:
        """The known name that `name` is, or spells otherwise; None if there is none, or several."""
        if name in self._exact:
            return name
        found = self._by_spelling.get(spelling(name), [])
        return found[0] if len(found) == 1 else None

    def suggest(self, name: str) -> str:
        """` (did you mean "x"?)` if a similar name is known, else nothing."""
        key = spelling(name).casefold()
        whole = {known.casefold(): known for known in self.names}
        bases = {PurePosixPath(known).name: whole[known] for known in whole}
        for similar_to, names in ((key, whole), (PurePosixPath(key).name, bases)):
            if matches := difflib.get_close_matches(similar_to, names, 1, _SIMILAR):
                return f' (did you mean "{names[matches[0]]}"?)'
        return ""


class Located(NamedTuple):
    """Where an image is."""

    path: Path
    exact: bool  # False: only the last parts of the name fit
    page: int | None = None  # from 1, if the name has one


class ImageIndex:
    """The images below a folder, found by the names that annotations use."""

    def __init__(self, root: Path, images: Sequence[Path]) -> None:
        self.root = root
        self._paths = list(images)
        self.folders = list(dict.fromkeys(path.parent for path in images))
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in images:
            for name in {spelling(path.stem), spelling(path.name)}:
                self._by_stem[name].append(path)
        self._spellings = Spellings(path.relative_to(root).as_posix() for path in images)
        self._by_base: dict[str, list[str]] = defaultdict(list)
        for name in self._spellings.names:
            self._by_base[spelling(PurePosixPath(name).name)].append(name)

    def find(self, name: str, homes: Sequence[Path]) -> Located | None:
        """The image called `name` in one of `homes`, else the one whose path ends most alike.

        `a.tif#3` is a page of `a.tif`, unless a file has that name.
        """
        written = list(dict.fromkeys([name, without_escapes(name)]))
        for each in written:
            if (found := self._find(each, homes)) is not None:
                return found
        for file, page in filter(None, map(split_page, written)):
            if (found := self._find(file, homes)) is not None:
                return found._replace(page=page)
        return None

    def _find(self, name: str, homes: Sequence[Path]) -> Located | None:
        for home in homes:
            if os.path.isfile(home / name):  # noqa: PTH113 - False for names no system allows
                inside = self._inside(home / name)  # as the other images, however `name` begins
                return Located(self.root / inside if inside else home / name, True)
        for home in homes:
            inside = self._inside(home / name)
            if inside and (known := self._spellings.find(inside)) is not None:
                return Located(self.root / known, True)
        if "/" in name and not _FOREIGN.match(name):
            return None
        known = self._most_alike(name)
        return None if known is None else Located(self.root / known, False)

    def _inside(self, path: Path) -> str | None:
        """`path` as seen from the folder, with `/`; None if it is elsewhere."""
        try:
            inside = os.path.relpath(path, self.root).replace(os.sep, "/")
        except ValueError:  # another drive of Windows
            return None
        return None if inside.startswith("../") else inside

    def find_stem(self, stem: str, homes: Sequence[Path]) -> Located | None:
        """The image called `stem`, with or without its suffix, in `homes`, else anywhere.

        Without a stem: the only image in the first of `homes`.
        """
        if not stem:
            found = [path for path in self._paths if path.parent == homes[0]]
        else:
            everywhere = self._by_stem.get(spelling(stem), [])
            near = [path for path in everywhere if path.parent in homes]
            found = near if len(near) == 1 else everywhere
        return Located(found[0], True) if len(found) == 1 else None

    def suggest(self, name: str) -> str:
        """` (did you mean "x"?)` if an image has a similar name."""
        return self._spellings.suggest(name)

    def _most_alike(self, name: str) -> str | None:
        parts = PurePosixPath(spelling(name)).parts
        shared = {
            known: _shared_tail(parts, PurePosixPath(spelling(known)).parts)
            for known in self._by_base.get(parts[-1] if parts else "", ())
        }
        best = [known for known, length in shared.items() if length == max(shared.values())]
        return best[0] if len(best) == 1 else None


def _shared_tail(first: Sequence[str], second: Sequence[str]) -> int:
    pairs = zip(reversed(first), reversed(second), strict=False)
    return next(
        (n for n, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second))
    )
