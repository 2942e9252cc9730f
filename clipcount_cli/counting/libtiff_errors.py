"""Collect the errors that libtiff reports while Pillow decodes, instead of letting it print them.

libtiff reports errors to one function of the process and continues: a fax with unreadable lines
is then delivered as a sound image. If the library is out of reach (linked statically into Pillow,
as on Windows), it prints as before.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_heard = threading.local()


def _hear(_module: bytes | None, form: bytes | None, _arguments: int | None) -> None:
    """Keep a message up to its first number: the arguments are a C va_list."""
    text = (form or b"").decode("ascii", "replace").partition("%")[0].strip(" ,.:;(")
    reports: list[str] | None = getattr(_heard, "reports", None)
    if reports is not None and text:
        reports.append(text)


class _LibtiffErrors:
    """Takes libtiff's error and warning handlers while any thread decodes a TIFF."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners = 0
        self._previous: list[tuple[Any, Any]] = []
        self._handlers = {"TIFFSetErrorHandler": _Handler(_hear), "TIFFSetWarningHandler": None}

    @contextmanager
    def __call__(self) -> Iterator[list[str]]:
        """Yield the list to which this thread's errors are added, in libtiff's words."""
        reports: list[str] = []
        outer = getattr(_heard, "reports", None)
        _heard.reports = reports
        self._listen()
        try:
            yield reports
        finally:
            self._leave()
            _heard.reports = outer

    def _listen(self) -> None:
        with self._lock:
            self._listeners += 1
            if self._listeners == 1:
                self._previous = [
                    (setter, setter(ctypes.cast(handler, ctypes.c_void_p) if handler else None))
                    for setter, handler in self._setters()
                ]

    def _leave(self) -> None:
        with self._lock:
            self._listeners -= 1
            if self._listeners == 0:
                for setter, previous in self._previous:
                    setter(previous)

    def _setters(self) -> Iterator[tuple[Any, Any]]:
        try:
            pillow = importlib.import_module("PIL._imaging").__file__
            library = ctypes.CDLL(pillow)  # finds what Pillow was linked with
            for name, handler in self._handlers.items():
                setter = getattr(library, name)
                setter.restype, setter.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
                yield setter, handler
        except (OSError, AttributeError):
            return


libtiff_errors = _LibtiffErrors()
