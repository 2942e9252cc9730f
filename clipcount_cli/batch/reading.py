"""Read the image of a job and resize it: what a worker does, a thread or a process of its own.

pipeline.py, reading_processes.py -> [reading.py] -> counting/images.py, counting/windows.py
Torch is not imported here, so that such a process starts quickly.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from clipcount_cli.batch.plan import Job
from clipcount_cli.counting.images import DecodedImage
from clipcount_cli.counting.notices import Notice
from clipcount_cli.counting.open_stacks import OpenStacks
from clipcount_cli.counting.windows import Pixels
from clipcount_cli.errors import ClipCountError, ImageReadError


class Prepared(NamedTuple):
    """What is known of an image once it is read and resized."""

    size: tuple[int, int]  # width and height of the upright image
    tiles: int
    notices: tuple[Notice, ...]  # for every prompt
    shown: Pixels | None = None  # what `on_result` is given

    @classmethod
    def of(
        cls, photo: DecodedImage, tiles: int, notice: Notice | None, shown: Pixels | None = None
    ) -> Prepared:
        """notice: what to know about the number of tiles."""
        notices = (*photo.notices, *([] if notice is None else [notice]))
        return cls(photo.size, tiles, notices, shown)


def read(job: Job, stacks: OpenStacks) -> DecodedImage:
    """Decode the image of a job. Raises ImageReadError."""
    if job.fault:
        raise ImageReadError(f"{job.image}: {job.fault}")
    return stacks.read(Path(job.path), job.image, job.selection)


def fault_of(error: BaseException) -> str:
    """Why an image failed, in words that are the same in every run."""
    if isinstance(error, ClipCountError):
        return error.with_hint
    return re.sub(r" at 0x[0-9a-fA-F]+", "", f"{type(error).__name__}: {error}")
