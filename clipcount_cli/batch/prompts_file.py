"""Read a table of prompts, and find the images it names, however it spells them.

data/tables.py, data/names.py -> [prompts_file.py] -> plan.py
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from clipcount_cli.counting.page_names import split_page
from clipcount_cli.data.names import Spellings, written_name
from clipcount_cli.data.tables import SPREADSHEET_SUFFIXES, read_table
from clipcount_cli.errors import DataError
from clipcount_cli.files import as_text, is_file

PROMPTS_FILE = "prompts.csv"  # looked for in the folder of a batch


@dataclass(frozen=True)
class Matched:
    """The prompts of a table for the images found, under their own names."""

    prompts: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of all pages of an image
    pages: dict[str, dict[int, tuple[str, ...]]] = field(default_factory=dict)  # of one, from 1
    missing: dict[str, str] = field(default_factory=dict)  # name as written -> what may be meant

    def add(self, image: str, prompts: Iterable[str], page: int | None = None) -> None:
        """Add `prompts` of an image, or of one of its pages only."""
        before = self.prompts.setdefault(image, ())
        if page is None:
            self.prompts[image] = _joined(before, prompts)
        else:
            of_page = self.pages.setdefault(image, {})
            of_page[page] = _joined(of_page.get(page, ()), prompts)


def _joined(prompts: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*prompts, *others]))


@dataclass(frozen=True)
class PromptsFile:
    """The prompts of each image, by the name in the table."""

    path: Path
    prompts: dict[str, tuple[str, ...]]

    @property
    def digest(self) -> str:
        """The first digits of a SHA-256 of the table's content, independent of its file format."""
        content = sorted((name, *prompts) for name, prompts in self.prompts.items())
        return hashlib.sha256(repr(content).encode()).hexdigest()[:16]

    def matched(
        self, names: Iterable[str], exists: Callable[[str], bool], all_pages: bool = False
    ) -> Matched:
        """Find the images that the table names.

        names: the images found; exists: whether a name that is not among them exists on
        disk; all_pages: whether `a.tif#3` is a page of `a.tif`.
        """
        spellings = Spellings(names)
        matched = Matched()
        for written, prompts in self.prompts.items():
            plain = written_name(written)
            known = spellings.find(written) or spellings.find(plain)
            page = None
            if known is None and (named := split_page(plain)) and not exists(written):
                page = (spellings.find(named[0]), named[1])
            if page is not None and page[0] is not None and all_pages:
                matched.add(page[0], prompts, page[1])
                continue
            if known is None:
                known = written if exists(written) else plain
                if not exists(known):
                    is_page = page is not None and page[0] is not None
                    meant = " (to count in a page: --page all)" if is_page else None
                    matched.missing[known] = meant or spellings.suggest(known)
            matched.add(known, prompts)
        return matched


def find_prompts(folder: Path) -> Path | None:
    """The table of prompts in `folder`, if any; DataError if it is only there as a spreadsheet."""
    path = folder / PROMPTS_FILE
    if is_file(path):
        return path
    for suffix in SPREADSHEET_SUFFIXES:
        if is_file(path.with_suffix(suffix)):
            raise DataError(
                f"{path.with_suffix(suffix)} is a spreadsheet, not a CSV file",
                hint=f'open it and save it as "CSV UTF-8" under the name {PROMPTS_FILE}, '
                "or name what to count with --prompt",
            )
    return None


def read_prompts(path: Path) -> PromptsFile:
    """Read a table with the columns image,prompt; DataError names a line that lacks either."""
    prompts: dict[str, dict[str, None]] = {}
    for line, cells in read_table(path, ("image", "prompt")).rows:
        image, prompt = cells["image"], cells["prompt"]
        if not image or not prompt:
            raise DataError(f"{path}, line {line}: image or prompt is empty")
        prompts.setdefault(image.removeprefix("./"), {})[as_text(prompt)] = None
    if not prompts:
        raise DataError(f"{path} names no image", hint="add a row `image,prompt` for each image")
    return PromptsFile(path, {image: tuple(of_image) for image, of_image in prompts.items()})
