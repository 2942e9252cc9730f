"""`--masks DIR`: find the mask of each image.

plan.py -> [masks.py]; counting/masks.py reads them, pictures.py counts inside their regions.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path, PurePosixPath

from clipcount_cli.batch.plan import Job, Plan
from clipcount_cli.errors import UsageError, shortened
from clipcount_cli.files import CHECK_PATH, as_name, exists, is_file, is_folder

SUFFIXES = (".png", ".tif", ".tiff")


def find_mask(folder: Path, image: str) -> Path | None:
    """The mask of `image`: `<stem>.png` or `.tif` in the image's own sub-folder, else in `folder`.

    A page, `a.tif#3`, may have a mask of its own, `a#3.png`; otherwise all pages use `a.png`.
    """
    name = PurePosixPath(as_name(image))
    inner = "" if name.is_absolute() or ".." in name.parts else name.parent
    page = name.suffix.partition("#")[2]
    stems = ([f"{name.stem}#{page}"] if page else []) + [name.stem]
    for place, stem, suffix in itertools.product((folder / inner, folder), stems, SUFFIXES):
        mask = place / f"{stem}{suffix}"
        if is_file(mask):
            return mask
    return None


def with_masks(plan: Plan, folder: Path) -> Plan:
    """Mark the images without a mask as failed; raises UsageError if none has one."""
    jobs = [_checked(job, folder) for job in plan.jobs]
    unmasked = [job.image for job in jobs if job.fault]
    if unmasked and len(unmasked) == len(jobs):
        raise UsageError(
            f"{folder} has no mask for any of the images: {shortened(unmasked, 3)}",
            hint="a mask is named after its image: a.png or a.tif for a.jpg",
        )
    return plan.with_jobs(jobs)


def _checked(job: Job, folder: Path) -> Job:
    if job.fault or find_mask(folder, job.image) is not None:
        return job
    stem = PurePosixPath(job.image).stem
    return job._replace(fault=f"no mask {stem}.png or {stem}.tif in {os.fspath(folder)}")


def require_masks(folder: Path, sources: list[str]) -> None:
    """Raise UsageError if `folder` is not a folder, or its masks would be counted as images."""
    if not exists(folder):
        raise UsageError(f"{folder} does not exist", hint=CHECK_PATH)
    if not is_folder(folder):
        raise UsageError(f"{folder} is not a folder", hint="--masks takes a folder of masks")
    for source in filter(os.path.isdir, sources):
        if Path(source).resolve().is_relative_to(folder.resolve()):
            raise UsageError(
                f"the masks in {folder} lie among the images in {source}",
                hint="move them to a folder of their own",
            )
