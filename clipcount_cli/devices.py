"""Which names a device may have; api.py finds out what of it this machine has."""

from __future__ import annotations

import re

from clipcount_cli.errors import UsageError

_NAME = re.compile(r"auto|(cpu|cuda|mps)(:(0|[1-9][0-9]?))?")


def check_device(name: str) -> str:
    """Give `name` back; raises UsageError where no machine has such a device."""
    if not _NAME.fullmatch(name):
        raise UsageError(f'there is no device "{name}"', hint="use auto, cpu, cuda, cuda:0 or mps")
    return name
