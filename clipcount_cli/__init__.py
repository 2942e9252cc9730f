"""Count what a prompt names in an image.

`from clipcount_cli import load_counter` is for Python; `clipcount` is the same in a shell.
Importing this package is fast: torch is imported together with the first counter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipcount_cli.version import __version__

__all__ = ["CountResult", "Counter", "Counts", "__version__", "load_counter"]

if TYPE_CHECKING:
    from clipcount_cli.api import Counter, load_counter
    from clipcount_cli.counting.counter import CountResult, Counts


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from clipcount_cli import api  # seconds: torch, imported only if a counter is needed

    return getattr(api, name)
