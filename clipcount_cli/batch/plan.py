"""The plan of a batch: which images, in which order, and what to count in each.

commands -> [plan.py] -> run.py -> pipeline.py
Only folders and lists of prompts are opened, so that planning a hundred thousand images takes
seconds.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from clipcount_cli.batch.passed_over import passed_over_by_suffix, passed_over_notice
from clipcount_cli.batch.prompts_file import PROMPTS_FILE, find_prompts, read_prompts
from clipcount_cli.batch.rows import Key
from clipcount_cli.config import GENERIC_PROMPT
from clipcount_cli.counting.images import IMAGE_SUFFIXES
from clipcount_cli.counting.page_names import page_hint, split_page
from clipcount_cli.counting.prompts import refuse_empty
from clipcount_cli.counting.stacks import Page, Selection
from clipcount_cli.errors import ClipCountError, DataError, UsageError, quantity, shortened
from clipcount_cli.files import CHECK_PATH, as_name, as_text, exists, is_folder, read_error

FOLDER_PROMPTS = "names of sub-folders"  # recorded for a run without prompts
_MAX_NAMED = 3  # examples in a message


class Job(NamedTuple):
    """One image and what to count in it."""

    image: str  # its name in the results
    path: str
    prompts: tuple[str, ...]
    fault: str = ""  # why it cannot be counted, if that is known without opening it
    counted_before: tuple[str, ...] = ()  # other prompts of the image, counted by an earlier run
    page: Page | None = None  # of a stack, from 1
    channel: int | None = None

    @property
    def selection(self) -> Selection:
        """The page and channel to read of the image file."""
        return Selection(self.page, self.channel)


PagePrompts = Mapping[str, Mapping[int, tuple[str, ...]]]  # image -> page (from 1) -> prompts


@dataclass(frozen=True)
class Plan:
    """All jobs in the order of their rows, notices about them, and what resuming compares."""

    jobs: list[Job]
    notices: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)  # files of other kinds, by suffix
    page_prompts: PagePrompts = field(default_factory=dict)  # beside those of all pages of an image

    def shard(self, number: int, of: int) -> Plan:
        """Every `of`-th image, beginning with the `number`-th (from 1)."""
        return self.with_jobs(self.jobs[number - 1 :: of])

    def with_jobs(self, jobs: list[Job]) -> Plan:
        """The same plan for other jobs."""
        return replace(self, jobs=jobs)

    def without(self, done: Iterable[Key]) -> list[Job]:
        """The jobs without the rows `done`; of an image, only some prompts may be left."""
        have = set(done)
        missing = []
        for job in self.jobs:
            before = tuple(p for p in job.prompts if (job.image, p) in have)
            left = tuple(p for p in job.prompts if p not in before)
            missing.append(job._replace(prompts=left, counted_before=before))
        return [job for job in missing if job.prompts]

    def positions(self) -> dict[Key, int]:
        """The position of each row in the finished file."""
        keys = ((job.image, prompt) for job in self.jobs for prompt in job.prompts)
        return {key: position for position, key in enumerate(keys)}


class Found(NamedTuple):
    """An image on disk, before it is known what to count in it."""

    name: str
    path: str
    folder: str = ""  # the sub-folder it lies in; empty at the top
    fault: str = ""


def read_list(source: str) -> list[str]:
    """Read paths from a file (`-`: stdin), one per line or separated by NUL (`find -print0`)."""
    if source == "-" and sys.stdin is None:
        raise DataError("stdin is closed", hint="pipe paths into it, or name a file of paths")
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise read_error(Path(source), error) from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(line) for line in lines if line.strip()]


def is_image_name(name: str) -> bool:
    """Whether a path, or a page `a.tif#3` of one, has the suffix of an image."""
    page = split_page(name)
    return Path(page[0] if page else name).suffix.lower() in IMAGE_SUFFIXES


def make_plan(
    sources: Sequence[str],
    prompts: Sequence[str] = (),
    prompts_file: Path | None = None,
    left_out: Sequence[Path] = (),
    own_files: Sequence[Path] = (),
    all_pages: bool = False,
) -> Plan:
    """Find the images under `sources` (folders and images) and choose what is counted in each.

    left_out: folders to skip, because the run writes images there; own_files: other files that it
    reads or writes; all_pages: the table of prompts may name single pages, `a.tif#3`.
    """
    folder = sources[0] if len(sources) == 1 and is_folder(sources[0]) else None
    others: list[str] = []
    if folder is None:
        _check_single(sources)
        found = _find_given(sources, left_out, others)
    else:
        found = find_images(folder, left_out, others)
    plan = _with_prompts(found, folder, prompts, prompts_file, all_pages)
    where = None if folder is None else as_text(os.path.realpath(folder))
    if folder is not None and not prompts:
        own_files = [*own_files, prompts_file or Path(folder, PROMPTS_FILE)]
    passed_over = passed_over_by_suffix(others, own_files)
    notices = plan.notices if not passed_over else [*plan.notices, passed_over_notice(passed_over)]
    return replace(
        plan,
        notices=notices,
        settings={"folder": where, **plan.settings},
        passed_over=passed_over,
    )


def _check_single(sources: Sequence[str]) -> None:
    if len(sources) == 1 and not os.path.lexists(sources[0]):
        raise DataError(f"{sources[0]} does not exist", hint=page_hint(sources[0]) or CHECK_PATH)


def _find_given(sources: Sequence[str], left_out: Sequence[Path], others: list[str]) -> list[Found]:
    """Images named one by one, and those in folders among them, in the order given.

    What is named twice, `a.jpg ./a.jpg`, is counted once, under its first name.
    """
    found: dict[str, Found] = {}
    for source in sources:
        if is_folder(source):
            start = source.rstrip("/" + os.sep) or source
            for image in find_images(source, left_out, others):
                name = f"{as_text(start)}/{image.name}"
                found.setdefault(_place(image.path), image._replace(name=name))
        else:
            found.setdefault(_place(source), Found(as_text(source), source))
    return list(found.values())


def _place(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links, slowly


def find_images(
    folder: str, left_out: Sequence[Path] = (), others: list[str] | None = None
) -> list[Found]:
    """Every image under `folder`, in natural order; hidden files are left out.

    others: receives the paths of files whose names are not those of images.

    A folder that cannot be searched is returned with its `fault`, one with an image's name as an
    image that cannot be read. Links are followed, but never back into a parent folder.
    """
    shut = frozenset(os.path.realpath(path) for path in left_out)
    return _in_natural_order(_search(folder, shut, [] if others is None else others))


def _in_natural_order(found: Iterable[Found]) -> list[Found]:
    from natsort import natsort_keygen, ns  # 30 ms: paid only by `batch`

    natural = natsort_keygen(alg=ns.PATH | ns.IGNORECASE)
    return sorted(found, key=lambda image: (natural(image.name), image.name))


def _search(top: str, shut: frozenset[str], others: list[str]) -> Iterator[Found]:
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", (_identity(top),))]
    while waiting:
        inner, above = waiting.pop()
        place = os.path.join(top, inner)  # noqa: PTH118 - pathlib would lose 2 s in 100,000
        try:
            entries = list(os.scandir(place))
        except OSError as error:
            if not inner:
                raise DataError(f"cannot search {top}: {error.strerror}") from error
            yield _found(inner, place, f"the folder cannot be searched: {error.strerror}")
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{inner}/{entry.name}" if inner else entry.name
            named_as_image = os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122
            if _is_folder(entry):
                itself = _identity(entry.path)
                if itself not in above and os.path.realpath(entry.path) not in shut:
                    waiting.append((name, (*above, itself)))
            elif not named_as_image:
                others.append(entry.path)
            if named_as_image:
                yield _found(name, entry.path)


def _found(name: str, path: str, fault: str = "") -> Found:
    return Found(as_text(name), path, as_text(name.rpartition("/")[0].rpartition("/")[2]), fault)


def _identity(path: str) -> tuple[int, int]:
    try:
        facts = os.stat(path)  # noqa: PTH116
    except OSError:
        return (-1, -1)
    return (facts.st_dev, facts.st_ino)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _with_prompts(
    found: list[Found],
    folder: str | None,
    prompts: Sequence[str],
    prompts_file: Path | None,
    all_pages: bool,
) -> Plan:
    if prompts and prompts_file is not None:
        raise UsageError("--prompt and --prompts exclude each other", hint="leave one out")
    if prompts:
        return _same_prompts(found, prompts)
    if prompts_file is None and folder is not None:
        prompts_file = find_prompts(Path(folder))
    if prompts_file is not None:
        return _listed_prompts(found, folder, prompts_file, all_pages)
    return _folder_prompts(found)


def _same_prompts(found: list[Found], prompts: Sequence[str]) -> Plan:
    wanted = tuple(dict.fromkeys(as_text(prompt) for prompt in prompts))
    refuse_empty(wanted, hint='name what to count: --prompt "red apples"')
    named = ", ".join(f'"{prompt}"' for prompt in wanted)
    return Plan(
        [Job(image.name, image.path, wanted, image.fault) for image in found],
        [f"counting {named} in every image"],
        {"prompts": list(wanted)},
    )


def _folder_prompts(found: list[Found]) -> Plan:
    jobs = [
        Job(image.name, image.path, (image.folder or GENERIC_PROMPT,), image.fault)
        for image in found
    ]
    names = list(dict.fromkeys(image.folder for image in found if image.folder))
    notices = []
    if names:
        named = _examples(names, "sub-folders")
        notices.append(f"using the names of sub-folders as prompts: {named}")
    if loose := sum(not image.folder for image in found):
        notices.append(
            f'counting "{GENERIC_PROMPT}" in {quantity(loose, "image")} without a prompt '
            "(set one with --prompt)"
        )
    return Plan(jobs, notices, {"prompts": FOLDER_PROMPTS})


def _listed_prompts(found: list[Found], folder: str | None, path: Path, all_pages: bool) -> Plan:
    table = read_prompts(path)
    by_name = {image.name: image for image in found}

    def exists_unsearched(name: str) -> bool:
        return folder is not None and exists(Path(folder, as_name(name)))

    matched = table.matched(by_name, exists_unsearched, all_pages)
    listed, missing = matched.prompts, matched.missing
    notices = [f"counting what {path} names: {quantity(len(listed), 'image')}"]
    where = "do not exist" if folder is not None else "are not among the images given"
    if missing:
        names = shortened([f'"{name}"{meant}' for name, meant in missing.items()], _MAX_NAMED)
        if len(missing) == len(listed):
            raise DataError(f"{path} names only images that {where}: {names}")
        notices.append(f"{path} names images that {where}: {names}")
    if unnamed := [image.name for image in found if image.name not in listed]:
        notices.append(f"{path} does not name {_examples(unnamed, 'images')}: left out")
    if folder is not None:
        for name in listed:
            by_name.setdefault(name, Found(name, str(Path(folder, as_name(name)))))
    wanted = [image for name, image in by_name.items() if name in listed]
    jobs = [
        Job(image.name, image.path, listed[image.name], image.fault)
        for image in (wanted if folder is None else _in_natural_order(wanted))
    ]
    said = f"{as_text(path.name)}, sha256 {table.digest}"
    return Plan(jobs, notices, {"prompts": said}, page_prompts=matched.pages)


def _examples(names: Sequence[str], noun: str) -> str:
    return shortened([f'"{name}"' for name in names], _MAX_NAMED, noun)


def nothing_to_count(sources: Sequence[str], passed_over: Counter[str]) -> ClipCountError:
    """The error for a search that found no images."""
    others = f"; {passed_over_notice(passed_over)}" if passed_over else ""
    return ClipCountError(
        f"no image in {', '.join(sources) or 'an empty list'}{others}",
        hint="supported are .jpg, .png, .tif, .webp, .heic and others that Pillow reads",
    )
