"""The request of `clipcount batch`, and the checks that refuse it before anything is read.

commands/batch.py -> [request.py] -> run.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clipcount_cli.batch import points, workbook
from clipcount_cli.batch.masks import require_masks
from clipcount_cli.batch.names import result_path
from clipcount_cli.batch.plan import Plan, is_image_name
from clipcount_cli.batch.prompts_file import PROMPTS_FILE
from clipcount_cli.batch.results import Targets
from clipcount_cli.batch.rows import RowFormat
from clipcount_cli.batch.shards import require_same_shard, require_shards
from clipcount_cli.counting.stacks import FIRST_PAGE, Selection
from clipcount_cli.errors import UsageError, command_line, shortened
from clipcount_cli.files import (
    CHECK_PATH,
    exists,
    is_file,
    is_folder,
    is_same_file,
    overwrites_input,
    require_distinct,
    require_replaceable,
    require_suffix,
    require_writable,
)

if TYPE_CHECKING:
    from clipcount_cli.counting.counter import Tiles

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", "")


@dataclass(frozen=True)
class BatchRequest:
    """What `clipcount batch` was requested to do."""

    sources: Sequence[str]
    csv: str  # "-": stdout
    from_file: str | None = None
    prompts: Sequence[str] = ()
    prompts_file: Path | None = None
    json_lines: Path | None = None
    heatmaps: Path | None = None
    heatmap_suffix: str = ".png"
    points: Path | None = None
    masks: Path | None = None
    report: Path | None = None
    summary: Path | None = None
    form: RowFormat = field(default_factory=RowFormat)
    resume: bool = False
    overwrite: bool = False
    fail_fast: bool = False
    tiles: Tiles = 1
    selection: Selection = FIRST_PAGE
    all_pages: bool = False  # one row per page, instead of the page of `selection`
    batch_windows: int | None = None
    workers: int | None = None
    shard: str | None = None  # "I/N"
    merge: bool = False  # `sources` are the finished CSVs of all shards

    @property
    def targets(self) -> Targets:
        return Targets(None if self.csv == "-" else Path(self.csv), self.json_lines, self.form)

    @property
    def outputs(self) -> list[Path]:
        """The files to write."""
        files = (self.targets.csv, self.json_lines, self.report, self.summary)
        return [path for path in files if path is not None]

    @property
    def own_files(self) -> list[Path]:
        """The outputs and the files kept beside them."""
        kept = (self.targets.settings, self.targets.growing)
        return [*self.outputs, *(path for path in kept if path is not None)]


def check(request: BatchRequest) -> None:
    """Refuse contradictory options and unusable output names, before anything is read."""
    if request.resume and request.overwrite:
        raise UsageError("--resume and --overwrite exclude each other", hint="leave one out")
    if request.resume and request.csv == "-":
        raise UsageError("stdout cannot be resumed", hint="name a file: --csv out.csv --resume")
    _require_sources(request)
    require_distinct(*request.outputs, inputs=_lists(request))
    _check_kinds(request)
    _check_suffixes(request)
    check_existing(request)
    for folder, option in ((request.heatmaps, "--heatmaps"), (request.points, "--points")):
        if folder and exists(folder) and not is_folder(folder):
            raise UsageError(f"{folder} is not a folder", hint=f"{option} takes a folder")


def _require_sources(request: BatchRequest) -> None:
    """Refuse a request that names no images, or a positional argument that is rather a prompt."""
    csv = ("--csv", request.csv)
    if request.merge:
        require_shards(request.sources, request.csv)
        return
    if not request.sources and request.from_file is None:
        raise UsageError(
            "missing argument 'FOLDER...'",
            hint=f"name a folder: {command_line(['clipcount', 'batch', 'photos', *csv])}",
        )
    known = [name for name in request.sources if os.path.lexists(name) or is_image_name(name)]
    unknown = [name for name in request.sources if name not in known]
    alone = len(request.sources) == 1 and request.from_file is None  # which make_plan reports
    if alone or not unknown:
        return
    hint = CHECK_PATH
    if known and not request.prompts and not any(Path(word).name != word for word in unknown):
        options = [word for name in unknown for word in ("--prompt", name)]
        command = ["clipcount", "batch", *known, *options, *csv]
        hint = f"to count {shortened(unknown, 3)}: {command_line(command)}"
    raise UsageError(f"{unknown[0]} does not exist", hint)


def _check_kinds(request: BatchRequest) -> None:
    """Refuse an output that exists, but is not a file."""
    named = (
        (request.targets.csv, "--csv counts.csv"),
        (request.json_lines, "--json-lines counts.jsonl"),
        (request.report, "--report counts.html"),
        (request.summary, "--summary totals.csv"),
    )
    for path, example in named:
        if path is not None and is_folder(path):
            raise UsageError(f"{path} is a folder", hint=f"name a file: {example}")
        if path is not None and exists(path) and not is_file(path):
            raise UsageError(f"{path} is not a file to write", hint="--csv - writes to stdout")


def _check_suffixes(request: BatchRequest) -> None:
    require_suffix(request.targets.csv, "--csv", *TABLE_SUFFIXES, workbook.SUFFIX)
    require_suffix(request.json_lines, "--json-lines", ".jsonl", ".ndjson", ".json", ".txt", "")
    require_suffix(request.report, "--report", ".html", ".htm")
    require_suffix(request.summary, "--summary", *TABLE_SUFFIXES)
    if request.targets.is_workbook:
        workbook.require_openpyxl()
        if request.form.excel or request.form.delimiter != ",":
            raise UsageError(
                "--excel and --delimiter are for CSV files", hint="leave them out for .xlsx"
            )


def check_existing(request: BatchRequest) -> None:
    """Refuse to replace what exists; called again once no other run can create it."""
    begun = request.targets.begun
    if begun and request.shard is not None and not request.overwrite:
        require_same_shard(request.targets, request.shard)
    if begun and not (request.resume or request.overwrite):
        raise UsageError(
            f"{request.csv} exists already",
            hint="continue with --resume, start again with --overwrite, or name another file",
        )
    resumed = request.resume and begun  # otherwise it was not written by this run
    require_writable(*request.outputs, overwrite=request.overwrite or resumed)


def _lists(request: BatchRequest) -> list[Path]:
    """The files that list images, and what to count in them."""
    named = [request.prompts_file, request.from_file and Path(request.from_file)]
    if len(request.sources) == 1 and not request.prompts and request.prompts_file is None:
        named.append(Path(request.sources[0], PROMPTS_FILE))
    return [path for path in named if path]


def protect_sources(request: BatchRequest, sources: Sequence[str]) -> None:
    """Refuse to overwrite an input, or to write heatmaps where they would be read as images."""
    for output in request.outputs:
        if exists(output) and any(is_same_file(Path(source), output) for source in sources):
            raise overwrites_input(output)
    if request.masks is not None:
        require_masks(request.masks, list(sources))
    if request.heatmaps is None:
        return
    place = request.heatmaps.resolve()
    for folder in filter(os.path.isdir, sources):
        if Path(folder).resolve().is_relative_to(place):
            raise UsageError(
                f"heatmaps in {request.heatmaps} would lie among the images in {folder}",
                hint=f"name another folder: --heatmaps {Path(folder, 'heatmaps')}",
            )


def check_result_files(request: BatchRequest, plan: Plan) -> None:
    """Raise UsageError if a heatmap to draw, or a file of positions, exists already.

    With --overwrite, raise ClipCountError if one of them cannot be replaced: rows of an earlier run
    must not be gone by then.
    """
    if not request.resume:
        found = filter(exists, _result_files(request, plan))
        (require_replaceable if request.overwrite else require_writable)(*found)


def _result_files(request: BatchRequest, plan: Plan) -> Iterator[Path]:
    kinds = ((request.heatmaps, request.heatmap_suffix), (request.points, points.SUFFIX))
    for folder, suffix in kinds:
        if folder is not None and is_folder(folder):
            for job in plan.jobs:
                for prompt in job.prompts:
                    yield result_path(folder, job.image, prompt, suffix)
    if request.points is not None:
        yield request.points / points.JOINED
