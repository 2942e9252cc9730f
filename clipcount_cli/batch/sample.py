"""Digests of a few images, which distinguish a moved folder from one with other images.

run.py -> [sample.py]: recorded in the settings of a run, compared if it resumes in another folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from clipcount_cli.batch.plan import Job
from clipcount_cli.files import is_file

_READ_BYTES = 1 << 20  # of each image


def sample_digests(jobs: Sequence[Job], names: Sequence[str] = ()) -> dict[str, str]:
    """Digests of the images `names`, or of the first, the middle and the last one.

    Images that cannot be read are left out.
    """
    wanted = {*names}
    chosen = [job for job in jobs if job.image in wanted]
    if not chosen and jobs:
        chosen = [jobs[place] for place in sorted({0, len(jobs) // 2, len(jobs) - 1})]
    digests = {job.image: _digest(Path(job.path)) for job in chosen}
    return {name: digest for name, digest in digests.items() if digest}


def _digest(path: Path) -> str:
    if not is_file(path):  # reading a pipe could block
        return ""
    try:
        with path.open("rb") as file:
            data = file.read(_READ_BYTES)
            return hashlib.sha256(b"%d " % path.stat().st_size + data).hexdigest()[:16]
    except OSError:
        return ""
