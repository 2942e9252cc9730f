"""The optional packages: what each extra installs, and the hint for whoever needs it."""

from __future__ import annotations

_PACKAGES = {"heif": "pillow-heif", "tiff": "tifffile imagecodecs", "xlsx": "openpyxl"}


def install_hint(extra: str) -> str:
    """What to type to get `extra`, wherever clipcount itself was installed from.

    `pip install 'clipcount-cli[extra]'` would fetch another copy from PyPI over a checkout.
    """
    return f"run `pip install {_PACKAGES[extra]}` (the extra `clipcount-cli[{extra}]`)"
