"""What a table of prompts asks of which image, whichever way it spells their names.

data/tables.py, data/names.py -> [prompts_file.py] -> plan.py
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from clipcount_cli.data.names import Spellings, written_name
from clipcount_cli.data.tables import SPREADSHEET_SUFFIXES, read_table
from clipcount_cli.errors import DataError
from clipcount_cli.files import as_text, is_file

PROMPTS_FILE = "prompts.csv"  # looked for in the folder of a batch


@dataclass(frozen=True)
class PromptsFile:
    """The prompts of each image, under the name that the table writes."""

    path: Path
    prompts: dict[str, tuple[str, ...]]

    @property
    def digest(self) -> str:
        """The first digits of a SHA-256 over what the table says, however it is saved."""
        said = sorted((name, *prompts) for name, prompts in self.prompts.items())
        return hashlib.sha256(repr(said).encode()).hexdigest()[:16]

    def matched(
        self, names: Iterable[str], exists: Callable[[str], bool]
    ) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
        """Prompts by the image's own name, and the missing images with what may be meant.

        names: the images found; exists: whether a name that is not among them is there all the
        same. A missing image keeps the name that the table writes.
        """
        spellings = Spellings(names)
        matched: dict[str, dict[str, None]] = {}
        missing: dict[str, str] = {}
        for written, prompts in self.prompts.items():
            plain = written_name(written)
            known = spellings.find(written) or spellings.find(plain)
            if known is None:
                known = written if exists(written) else plain
                if not exists(known):
                    missing[known] = spellings.suggest(known)
            matched.setdefault(known, {}).update(dict.fromkeys(prompts))
        return {name: tuple(prompts) for name, prompts in matched.items()}, missing


def find_prompts(folder: Path) -> Path | None:
    """The table of prompts in `folder`; DataError if it is there as a spreadsheet only."""
    path = folder / PROMPTS_FILE
    if is_file(path):
        return path
    for suffix in SPREADSHEET_SUFFIXES:
        if is_file(path.with_suffix(suffix)):
            raise DataError(
                f"{path.with_suffix(suffix)} is a spreadsheet, not a CSV file",
                hint=f'open it and save it as "CSV UTF-8" under the name {PROMPTS_FILE}, '
                "or say what to count with --prompt",
            )
    return None


def read_prompts(path: Path) -> PromptsFile:
    """Read a table with the columns image,prompt; DataError names the line that lacks one."""
    prompts: dict[str, dict[str, None]] = {}
    for line, cells in read_table(path, ("image", "prompt")).rows:
        image, prompt = cells["image"], cells["prompt"]
        if not image or not prompt:
            raise DataError(f"{path}, line {line}: image or prompt is empty")
        prompts.setdefault(image.removeprefix("./"), {})[as_text(prompt)] = None
    if not prompts:
        raise DataError(f"{path} names no image", hint="add a row image,prompt for each image")
    return PromptsFile(path, {image: tuple(asked) for image, asked in prompts.items()})
