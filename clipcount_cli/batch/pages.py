"""Choose what is read of stacks: one page, a projection, or a job, and so rows, for each page.

plan.py -> [pages.py] -> run.py
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clipcount_cli.batch.plan import Job
from clipcount_cli.counting.images import count_pages
from clipcount_cli.counting.stacks import Selection
from clipcount_cli.errors import ImageReadError

_READERS = 8  # of headers, which take longer to arrive than to read


def select_pages(jobs: Sequence[Job], selection: Selection, all_pages: bool) -> list[Job]:
    """Jobs that read the page and channel of `selection`, or every page of that channel.

    Each of all pages is a job, named `a.tif#1`, `a.tif#2`, ...; a file of one page keeps its name.
    One that cannot be read stays one job, which fails when it is counted.
    """
    jobs = [job._replace(page=selection.page, channel=selection.channel) for job in jobs]
    if not all_pages:
        return jobs
    with ThreadPoolExecutor(_READERS) as readers:
        parts = readers.map(_split, jobs)
        return [job for pages in parts for job in pages]


def _split(job: Job) -> list[Job]:
    try:
        pages = 1 if job.fault else count_pages(Path(job.path), job.image, job.selection)
    except ImageReadError:
        return [job]
    if pages == 1:
        return [job]
    return [job._replace(image=f"{job.image}#{page}", page=page) for page in range(1, pages + 1)]
