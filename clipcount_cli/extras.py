"""The optional packages: what each extra installs, and the hint that names it."""

from __future__ import annotations

_PACKAGES = {"heif": "pillow-heif", "tiff": "tifffile imagecodecs", "xlsx": "openpyxl"}


def install_hint(extra: str) -> str:
    """The command that installs `extra`, wherever clipcount itself was installed from.

    `pip install 'clipcount-cli[extra]'` would fetch another copy from PyPI over a checkout.
    """
    return f"run `pip install {_PACKAGES[extra]}` (the extra `clipcount-cli[{extra}]`)"
