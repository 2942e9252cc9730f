"""Files as they behave on Windows while another program has them open."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from pathlib import Path
from unittest import mock


@contextmanager
def held(*paths: Path):
    """Let nobody write, replace, rename or delete `paths`; all may read them."""
    methods = {name: getattr(Path, name) for name in ("open", "rename", "replace", "unlink")}

    def refuse(*touched):
        if {*touched} & {*paths}:
            raise PermissionError(errno.EACCES, "Permission denied")

    def open_to_read(self, mode="r", *words, **settings):
        if {*mode} & {*"wax+"}:
            refuse(self)
        return methods["open"](self, mode, *words, **settings)

    def move(name):
        def call(self, target):
            refuse(self, target)
            return methods[name](self, target)

        return call

    def unlink(self, missing_ok=False):
        refuse(self)
        return methods["unlink"](self, missing_ok=missing_ok)

    with mock.patch.multiple(
        Path, open=open_to_read, rename=move("rename"), replace=move("replace"), unlink=unlink
    ):
        yield
