"""Keep a stack open while its pages are read one by one.

images.py -> [open_stacks.py] -> batch/pipeline.py. To open a TIFF takes a walk over all its pages,
0.1 s for a thousand of them: as long as counting in a small page.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

from clipcount_cli.counting.images import DecodedImage, OpenImage, read_image
from clipcount_cli.counting.stacks import Selection

_MAX_KEPT_PIXELS = 4_000_000  # of a page, which stays in memory; a larger one takes longer anyway


class _Kept(NamedTuple):
    """A stack that no thread is reading."""

    image: OpenImage
    page: int  # read last, from 1
    channel: int | None


class OpenStacks:
    """Reads images for several threads, each of which has an open stack for itself.

    Only the file read last is kept open, and only while its pages are read in ascending order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._idle: list[_Kept] = []

    def read(self, path: Path, name: str, selection: Selection) -> DecodedImage:
        """Decode an image, or a page of one: see `read_image`."""
        if not isinstance(selection.page, int):
            return read_image(path, name, selection)
        image = self._take(path, selection.page, selection.channel) or OpenImage(path, name)
        try:
            decoded = image.read(name, selection)
        except BaseException:
            image.close()
            raise
        width, height = decoded.size
        if decoded.pages > 1 and height * width <= _MAX_KEPT_PIXELS:
            self._give_back(path, _Kept(image, selection.page, selection.channel))
        else:
            image.close()
        return decoded

    def close(self) -> None:
        """Close the files that are open; further ones may be read."""
        with self._lock:
            self._close_idle()

    def _take(self, path: Path, page: int, channel: int | None) -> OpenImage | None:
        with self._lock:
            if path != self._path:
                self._close_idle()
                self._path = path
            for place, kept in enumerate(self._idle):
                if kept.channel == channel and kept.page < page:
                    return self._idle.pop(place).image
        return None

    def _give_back(self, path: Path, kept: _Kept) -> None:
        with self._lock:
            if path == self._path:
                self._idle.append(kept)
                return
        kept.image.close()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().image.close()
