"""Find everything that is wrong with a data set before the first step, and report it at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipcount_cli.data.samples import Protocol, Sample, Source, by_image
from clipcount_cli.data.units import in_fractions, look_like_percent
from clipcount_cli.errors import DataError, ImageReadError, quantity, shortened

if TYPE_CHECKING:
    from clipcount_cli.counting.frames import Header

_HEADER_READERS = 16  # threads; the disk or network is what they wait for

# How far outside, as a share of the side, a dot may lie before a published set counts as broken.
# FSC-147's evaluation clamps such dots; ShanghaiTech has some a tenth of the width outside
# (ServiceNow/LCFCN#16), which its evaluation counts all the same.
_MARGIN: dict[Protocol, float] = {"fsc147": 0.02, "carpk": 0.02, "shanghaitech": 0.25, "own": 0.01}

_ROUNDING_PX = 1e-3  # of float32 at the sides of the largest images

Suggest = Callable[[str], str]  # the name of a missing image -> what may be meant


@dataclass
class Findings:
    """What readers and checks find: problems refuse the data set, notices are only printed."""

    problems: dict[str, list[str]] = field(default_factory=dict)  # kind -> items
    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refilled: dict[str, str] = field(default_factory=dict)  # split -> notice on what fills it

    def add(self, kind: str, item: str) -> None:
        """Note that `item`, a file or a line of one, has a problem of this kind."""
        self.problems.setdefault(kind, []).append(item)

    def take(self, others: Findings) -> None:
        """Add what was found elsewhere."""
        for kind, items in others.problems.items():
            self.problems.setdefault(kind, []).extend(items)
        self.notices += others.notices
        self.warnings += others.warnings
        self.refilled |= others.refilled

    def raise_if_any(self, root: Path, layout: str) -> None:
        """Raise one DataError that lists all problems, by kind and with names."""
        if not self.problems:
            return
        kinds = sorted(self.problems.items())
        lines = [f"- {kind} ({len(items)}): {shortened(items)}" for kind, items in kinds]
        raise DataError(
            "\n".join([f"{root} has errors (read as {layout}):", *lines]),
            hint="correct or remove what is listed; nothing has been started",
        )


def read_json(path: Path) -> Any:
    """The content of a JSON file; DataError with file and position if it is not one."""
    try:
        return json.loads(path.read_bytes())  # which recognises UTF-8 and UTF-16
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read as JSON: {error}",
            hint="export it again; a file that was cut off ends in the middle",
        ) from error


def read_headers(sources: Iterable[Source]) -> dict[Source, Header]:
    """The headers of all pages that exist and can be read; each file is opened once."""
    pages_of: dict[Path, list[int]] = {}
    for path, page in sources:
        pages_of.setdefault(path, []).append(page)
    with ThreadPoolExecutor(_HEADER_READERS) as pool:
        found = pool.map(_read_headers, pages_of, pages_of.values())
        return {
            (path, page): header
            for path, headers in zip(pages_of, found, strict=True)
            for page, header in headers.items()
        }


def _read_headers(path: Path, pages: Sequence[int]) -> dict[int, Header]:
    from clipcount_cli.counting import images

    try:
        return images.read_headers(path, pages)
    except ImageReadError:
        return {}


def check_samples(
    samples: Sequence[Sample],
    root: Path,
    findings: Findings,
    suggest: Suggest = lambda name: "",
) -> None:
    """Look for each image, for its stated size and for dots outside it; pixels are not read.

    suggest: the name of a missing image -> what may be meant. A file that exists but is unreadable
    is reported when its pixels are read.
    """
    groups = by_image(samples)
    firsts = [group[0] for group in groups]
    headers = read_headers(first.source for first in firsts)
    clamped: dict[str, int] = {}
    for group in groups:
        first = group[0]
        if header := headers.get(first.source):
            _check_size(first, header, findings)
            clamped[first.name] = sum(_check_dots(sample, header, findings) for sample in group)
        elif not first.image.is_file():
            findings.add("missing images", relative(first.image, root) + suggest(first.name))
        elif first.page and (lacking := _lacking(first, first.page)):
            findings.add("pages that do not exist", lacking)
    _mention_clamped(clamped, samples, findings)
    _mention_pages([first for first in firsts if first.page is None], headers, root, findings)
    _mention_channels([first for first in firsts if first.page], headers, root, findings)
    _check_units(samples, headers, findings)


def _lacking(sample: Sample, page: int) -> str | None:
    """How to report a page that its file lacks; None if the file may only be damaged."""
    header = _read_headers(sample.image, [1]).get(1)
    if header is None or page <= header.pages:
        return None
    return f"{sample.name} (of {quantity(header.pages, 'page')})"


def _check_size(sample: Sample, header: Header, findings: Findings) -> None:
    stated = sample.stated_size
    if stated is None or stated == header.size:
        return
    place = f"{sample.name} ({stated[0]} x {stated[1]} stated, {header.size[0]} x {header.size[1]}"
    if stated == header.stored_size:
        findings.add(
            "images annotated as they are stored, not upright as EXIF turns them",
            f"{place} upright; save the image upright, or annotate it so)",
        )
    else:
        findings.add("images of another size than the annotations state", f"{place})")


def _check_dots(sample: Sample, header: Header, findings: Findings) -> int:
    """Note dots far outside the image; how many lie just outside."""
    size = header.size
    side = np.array(size, dtype=np.float64)
    points_px = sample.points_px
    beyond = np.maximum(-points_px, points_px - side)  # (K, 2), positive outside
    gross = (beyond > side * _MARGIN[sample.protocol] + _ROUNDING_PX).any(axis=1)
    if gross.any():
        x, y = points_px[gross][0]
        more = f", {gross.sum()} such points" if gross.sum() > 1 else ""
        place = f"{sample.name} (x {x:g}, y {y:g} in {size[0]} x {size[1]}{more})"
        as_stored = size != header.stored_size and (points_px <= header.stored_size).all()
        turned = ", but inside it as it is stored, before EXIF turns it" if as_stored else ""
        findings.add(f"points outside their image{turned}", place)
        return 0
    return int((beyond > 0).any(axis=1).sum())


def _check_units(
    samples: Sequence[Sample], headers: Mapping[Source, Header], findings: Findings
) -> None:
    points: dict[Source, np.ndarray] = {}
    for sample in samples:
        if sample.source in headers:
            known = points.get(sample.source, np.zeros((0, 2), np.float32))
            points[sample.source] = np.concatenate([known, sample.points_px])
    name_of = {sample.source: sample.name for sample in samples}
    fractions = in_fractions(points)
    if samples and samples[0].protocol != "own" and len(fractions) < len(points):
        fractions = []  # a published set may have stray dots, but is in pixels
    for source in fractions:
        kind = "images whose positions all lie in 0 to 1: pixels are needed, not fractions"
        findings.add(kind, name_of[source])
    if look_like_percent(points, {source: headers[source].size for source in points}):
        findings.warnings.append(
            "all positions lie in 0 to 100, although the images are larger: "
            "are they percent? Pixels of the upright image are needed"
        )


def _mention_clamped(
    clamped: Mapping[str, int], samples: Sequence[Sample], findings: Findings
) -> None:
    if total := sum(clamped.values()):
        published = samples[0].protocol != "own"
        reason = ", as in the published evaluation" if published else ""
        names = [f"{name} ({number})" for name, number in clamped.items() if number]
        findings.notices.append(
            f"points just outside their image ({total}) are moved to its edge{reason}: "
            + shortened(names)
        )


def _mention_pages(
    samples: Sequence[Sample], headers: Mapping[Source, Header], root: Path, findings: Findings
) -> None:
    """Warn of pages that are not read; samples: those that name no page."""
    names = [
        f"{relative(sample.image, root)} ({headers[sample.source].pages})"
        for sample in samples
        if sample.source in headers and headers[sample.source].pages > 1
    ]
    if names:
        findings.warnings.append(
            f"only the first page of images with several pages is read: {shortened(names)}; "
            "a name such as a.tif#3 selects a page"
        )


def _mention_channels(
    samples: Sequence[Sample], headers: Mapping[Source, Header], root: Path, findings: Findings
) -> None:
    """Warn of pages whose number depends on the channel; samples: those that name a page."""
    channels = {s.image: headers[s.source].channels for s in samples if s.source in headers}
    names = [f"{relative(image, root)} ({n})" for image, n in channels.items() if n > 1]
    if names:
        findings.warnings.append(
            f"pages of images that store channels as pages are numbered across all channels, "
            f"not as `batch --channel N` numbers them: {shortened(names)}"
        )


def relative(path: Path, root: Path) -> str:
    """`path` as seen from `root`, with `/`; as it is where it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
