"""Names of single pages of a stack, `a.tif#3`, as in the rows of `batch --page all`.

Everything that writes or reads such names uses these functions.
"""

from __future__ import annotations

import re

from clipcount_cli.files import is_file

_PAGE = re.compile(r"(.+)#([1-9]\d*)", re.DOTALL)


def page_name(image: str, page: int) -> str:
    """The name of a page (from 1) of an image."""
    return f"{image}#{page}"


def split_page(name: str) -> tuple[str, int] | None:
    """The image and the page in a name that `page_name` made, or None.

    Only for names that no file has: a file may be called `a.tif#3`.
    """
    named = _PAGE.fullmatch(name)
    return (named[1], int(named[2])) if named else None


def page_hint(name: str) -> str | None:
    """How to count in a page that `name` names, if its file exists; else None."""
    named = split_page(name)
    return f"count in {named[0]} with --page {named[1]}" if named and is_file(named[0]) else None
