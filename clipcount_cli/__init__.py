"""Count what a prompt names in a photograph.

`from clipcount_cli import load_counter` is the Python door; `clipcount` is the same on a shell.
Importing this package stays light: torch is loaded when a counter is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipcount_cli.version import __version__

__all__ = ["CountResult", "Counter", "__version__", "load_counter"]

if TYPE_CHECKING:
    from clipcount_cli.api import Counter, load_counter
    from clipcount_cli.counting.counter import CountResult


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from clipcount_cli import api  # 4 s: torch and open_clip, paid only when a counter is asked for

    return getattr(api, name)
