"""Choose what to read of a stack: one page, a projection, or each page as a job of its own.

plan.py -> [pages.py] -> run.py
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clipcount_cli.batch.plan import Job, Plan
from clipcount_cli.counting.images import count_pages
from clipcount_cli.counting.page_names import page_name
from clipcount_cli.counting.stacks import Selection
from clipcount_cli.errors import ImageReadError

_READERS = 8  # threads that read headers, mostly waiting for the disk


def select_pages(plan: Plan, selection: Selection, all_pages: bool) -> list[Job]:
    """Make each job read the page and channel of `selection`, or split it into all pages.

    With `all_pages`, each page is a job named `a.tif#1`, `a.tif#2`, ...; a file of one page keeps
    its name. A file that cannot be read stays one job, which fails when it is counted; so does a
    page that the prompts name and the file lacks.
    """
    jobs = [job._replace(page=selection.page, channel=selection.channel) for job in plan.jobs]
    if not all_pages:
        return jobs
    with ThreadPoolExecutor(_READERS) as readers:
        parts = readers.map(lambda job: [*_split(job, plan.page_prompts.get(job.image, {}))], jobs)
        return [job for pages in parts for job in pages]


def _split(job: Job, page_prompts: Mapping[int, tuple[str, ...]]) -> Iterator[Job]:
    """One job per page that something is counted in."""
    try:
        pages = 1 if job.fault else count_pages(Path(job.path), job.image, job.selection)
    except ImageReadError:
        all_prompts = [job.prompts, *page_prompts.values()]
        yield job._replace(prompts=tuple(dict.fromkeys(itertools.chain(*all_prompts))))
        return
    for page in sorted({*range(1, pages + 1), *page_prompts}):
        general = job.prompts if page <= pages else ()
        if prompts := tuple(dict.fromkeys((*general, *page_prompts.get(page, ())))):
            part = job._replace(prompts=prompts)
            is_whole = pages == page == 1
            yield part if is_whole else part._replace(image=page_name(job.image, page), page=page)
