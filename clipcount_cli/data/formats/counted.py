"""counts.csv: how many objects an image holds, without their positions; enough to evaluate.

annotated.py <- [counted.py] <- dotdotgoose.py
"""

from __future__ import annotations

from clipcount_cli.data.checks import Findings
from clipcount_cli.data.formats.annotated import AnnotatedImage
from clipcount_cli.data.tables import Table
from clipcount_cli.errors import shortened

TITLE = "counts"
COLUMNS = ("image", "prompt", "count")


def read_table(table: Table, findings: Findings) -> list[AnnotatedImage]:
    """The images of a table in its order. A row without a count: the object is there, uncounted."""
    table.require(COLUMNS)
    number = table.numbers(["count"])
    images: dict[str, AnnotatedImage] = {}
    uncounted: list[str] = []
    for line, cells in table.rows:
        name, prompt, count = (cells[column] for column in COLUMNS)
        if not name or not prompt:
            findings.add(f"rows of {table.path.name} without image or prompt", f"line {line}")
            continue
        image = images.setdefault(name, AnnotatedImage(name, table.path))
        if not count:
            image.uncounted.add(prompt)
            uncounted.append(f"{name} ({prompt})")
            continue
        try:
            value = whole(number(count))
        except ValueError:
            kind = f"rows of {table.path.name} whose count is not a whole number of 0 or more"
            findings.add(kind, f"line {line} ({count!r})")
            continue
        if image.counts.setdefault(prompt, value) != value:
            kind = f"prompts with two different counts in {table.path.name}"
            findings.add(kind, f"line {line} ({name}, {prompt})")
    if uncounted:
        findings.notices.append(f"rows without a count are left out: {shortened(uncounted)}")
    return list(images.values())


def whole(number: float) -> int:
    """A count as an integer; ValueError if it is negative or has a fraction."""
    if number < 0 or not number.is_integer():
        raise ValueError(f"{number} is not a whole number of 0 or more")
    return int(number)
