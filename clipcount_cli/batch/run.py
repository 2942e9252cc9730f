"""Many images become rows, in order, on disk as they come; one bad image never stops the rest.

commands -> plan.py (what to count) -> [run.py] -> pipeline.py (counts) -> results.py (rows on disk)
Beside them processes.py (several processes), shards.py (job arrays) and report.py (one page).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from clipcount_cli import console, distributed
from clipcount_cli.batch import processes as sharing
from clipcount_cli.batch.plan import Plan, make_plan, nothing_to_count, read_list
from clipcount_cli.batch.prompts_file import PROMPTS_FILE
from clipcount_cli.batch.report import Thumbnails, write_report
from clipcount_cli.batch.results import COLUMNS, ResultRow, ResultsFile, Settings, Targets
from clipcount_cli.batch.shards import merge, parse_shard
from clipcount_cli.counting.images import IMAGE_SUFFIXES
from clipcount_cli.errors import ClipCountError, ExitCode, InterruptedRunError, UsageError
from clipcount_cli.files import (
    as_text,
    exists,
    is_file,
    is_folder,
    is_same_file,
    require_distinct,
    require_writable,
)
from clipcount_cli.interrupts import Interruption, interruptible

if TYPE_CHECKING:
    from clipcount_cli.batch.pipeline import Outcome, Pipeline
    from clipcount_cli.batch.processes import ShareOut
    from clipcount_cli.counting.counter import Counter, Tiles

BATCH_WINDOWS = {"cuda": 64}  # windows a network call, by device
BATCH_WINDOWS_ELSEWHERE = 8
MAX_WORKERS_PER_GPU = 16
_PROMPTS_CHECKED = 200  # for what the weights cannot read of them
_PROMPTS_SHOWN = 3
_STOPPING = "ending: images in flight are finished (once more: end at once)"

LoadCounter = Callable[[], "Counter"]


@dataclass(frozen=True)
class BatchRequest:
    """What `clipcount batch` was asked to do."""

    sources: Sequence[str]
    csv: str  # "-": stdout
    from_file: str | None = None
    prompts: Sequence[str] = ()
    prompts_file: Path | None = None
    json_lines: Path | None = None
    heatmaps: Path | None = None
    report: Path | None = None
    excel: bool = False
    resume: bool = False
    overwrite: bool = False
    fail_fast: bool = False
    tiles: Tiles = 1
    batch_windows: int | None = None
    workers: int | None = None
    shard: str | None = None  # "I/N"
    merge: bool = False  # `sources` are the finished CSVs of all shards

    @property
    def targets(self) -> Targets:
        return Targets(None if self.csv == "-" else Path(self.csv), self.json_lines, self.excel)

    @property
    def outputs(self) -> list[Path]:
        """The files to write."""
        return [p for p in (self.targets.csv, self.json_lines, self.report) if p is not None]


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    rows: int
    failed: int
    csv: str

    @property
    def sentence(self) -> str:
        sentence = f"{self.rows} rows in {self.csv}" if self.csv != "-" else f"{self.rows} rows"
        return f"{sentence}, {self.failed} of them failed" if self.failed else sentence

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.SOME_IMAGES_FAILED if self.failed else ExitCode.OK


def run(request: BatchRequest, load: LoadCounter) -> Summary:
    """Count all that `request` names; `load` is called once it is known that there is work.

    Raises UsageError, DataError, WeightsError before the first row, InterruptedRunError after the
    last one that was begun.
    """
    if request.merge:
        return _merge(request)
    with interruptible(_STOPPING) as interruption:
        if distributed.world_size() == 1:
            return _lead(request, load, interruption, sharing.alone)
        with sharing.joined() as team:
            if distributed.is_first():
                return _lead(request, load, interruption, team.lead)
            console.set_verbosity(quiet=True)
            team.assist(lambda: default_pipeline(request, load()), lambda: interruption.requested)
    return Summary(0, 0, request.csv)


def _lead(
    request: BatchRequest, load: LoadCounter, interruption: Interruption, share_out: ShareOut
) -> Summary:
    """Plan, count with whoever helps, and write every row."""
    _check(request)
    plan = _plan(request)
    with request.targets.locked():
        counter = load()
        _report_plan(plan, counter)
        pipeline = default_pipeline(request, counter)
        results = ResultsFile(request.targets, plan.positions())
        settings = _settings(request, plan, pipeline)
        (results.resume if request.resume else results.start)(settings)
        todo = plan.without(row.key for row in results.kept)
        writer = _Writer(request, results, counter.label)
        shared = share_out(pipeline, todo, lambda: interruption.requested)
        with results, writer, closing(shared) as outcomes:
            writer.write(outcomes)
        writer.check_complete(interruption.requested)
        if request.report is not None:
            rows = writer.streamed if request.csv == "-" else request.targets.read()
            write_report(request.report, rows, settings)
    return Summary(writer.rows, writer.failed, request.csv)


def _merge(request: BatchRequest) -> Summary:
    if request.resume or request.shard or request.heatmaps or request.report:
        raise UsageError(
            "--merge only joins rows", hint="leave out --resume, --shard, --heatmaps and --report"
        )
    _check(request)
    _spare_sources(request, request.sources)
    with request.targets.locked():
        rows = merge(request.sources, request.targets)
    return Summary(len(rows), sum(row.failed for row in rows), request.csv)


def _check(request: BatchRequest) -> None:
    """Refuse what makes no sense or would overwrite something, before anything is read."""
    if request.resume and request.overwrite:
        raise UsageError("--resume and --overwrite exclude each other", hint="leave one out")
    if request.resume and request.csv == "-":
        raise UsageError("stdout cannot be resumed", hint="name a file: --csv out.csv --resume")
    require_distinct(*request.outputs, *_lists(request))
    for path in request.outputs:
        if exists(path) and not is_file(path):
            raise UsageError(f"{path} is not a file to write", hint="--csv - writes to stdout")
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise UsageError(f"{path} is named like a photograph", hint="name it like out.csv")
    csv = request.targets.csv
    there = csv is not None and exists(csv)
    if there and not (request.resume or request.overwrite):
        hint = "go on with --resume, start anew with --overwrite, or name another file"
        raise UsageError(f"{csv} exists already", hint=hint)
    resumed = request.resume and there  # else what stands there is of no run known here
    require_writable(*request.outputs, overwrite=request.overwrite or resumed)
    if request.heatmaps and exists(request.heatmaps) and not is_folder(request.heatmaps):
        raise UsageError(f"{request.heatmaps} is not a folder", hint="--heatmaps takes a folder")


def _lists(request: BatchRequest) -> list[Path]:
    """The files that say which images, and what to count in them."""
    asked = [request.prompts_file, request.from_file and Path(request.from_file)]
    if len(request.sources) == 1 and not request.prompts and request.prompts_file is None:
        asked.append(Path(request.sources[0], PROMPTS_FILE))
    return [path for path in asked if path]


def _spare_sources(request: BatchRequest, sources: Sequence[str]) -> None:
    """Refuse to write over what is to be read, or heatmaps where they would be read."""
    for output in request.outputs:
        if exists(output) and any(is_same_file(Path(source), output) for source in sources):
            raise UsageError(
                f"{output} is to be read, and would be overwritten", hint="name another file"
            )
    if request.heatmaps is None:
        return
    place = request.heatmaps.resolve()
    for folder in filter(os.path.isdir, sources):
        if Path(folder).resolve().is_relative_to(place):
            raise UsageError(
                f"heatmaps in {request.heatmaps} would lie among the photographs in {folder}",
                hint=f"name another folder: --heatmaps {Path(folder, 'heatmaps')}",
            )


def _plan(request: BatchRequest) -> Plan:
    sources = list(request.sources)
    if request.from_file is not None:
        sources += read_list(request.from_file)
    _spare_sources(request, sources)
    left_out = [request.heatmaps] if request.heatmaps is not None else []
    plan = make_plan(sources, request.prompts, request.prompts_file, left_out)
    if not plan.jobs:
        raise nothing_to_count(sources)
    if request.shard is not None:  # a part may be empty: the others can be joined with it
        plan = plan.shard(*parse_shard(request.shard))
    if request.heatmaps is not None and not (request.overwrite or request.resume):
        _refuse_existing_heatmaps(request.heatmaps, plan)
    return plan


def _refuse_existing_heatmaps(folder: Path, plan: Plan) -> None:
    from clipcount_cli.batch.pictures import heatmap_path

    if not is_folder(folder):
        return
    for job in plan.jobs:
        require_writable(
            *(p for p in (heatmap_path(folder, job.image, t) for t in job.prompts) if exists(p))
        )


def _report_plan(plan: Plan, counter: Counter) -> None:
    """Say what is counted, and what of it these weights cannot see."""
    for text in plan.notices:
        console.notice(text)
    prompts = dict.fromkeys(prompt for job in plan.jobs for prompt in job.prompts)
    unread = (counter.unread_part(prompt) for prompt in islice(prompts, _PROMPTS_CHECKED))
    for text in islice(filter(None, unread), _PROMPTS_SHOWN):
        console.warn(text)


def default_pipeline(request: BatchRequest, counter: Counter) -> Pipeline:
    """The pipeline that `request` asks for; what it leaves open is chosen for this machine."""
    from clipcount_cli.batch.pictures import Pictures
    from clipcount_cli.batch.pipeline import Pipeline

    drawn = request.heatmaps is not None or request.report is not None
    return Pipeline(
        counter,
        request.batch_windows or BATCH_WINDOWS.get(counter.device.type, BATCH_WINDOWS_ELSEWHERE),
        request.workers or _default_workers(counter.device.type),
        request.tiles,
        Pictures(request.heatmaps, request.report is not None) if drawn else None,
        keep_size=request.heatmaps is not None,
    )


def _default_workers(device: str) -> int:
    """One for each core that this process has to itself; a GPU is fed by fewer than many have."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    share = max(1, cores // distributed.local_world_size())
    return share if device == "cpu" else min(MAX_WORKERS_PER_GPU, share)


def _settings(request: BatchRequest, plan: Plan, pipeline: Pipeline) -> Settings:
    """All that decides what is in the rows: kept beside the CSV, compared by --resume."""
    counter = pipeline.counter
    return {
        "weights": counter.label,
        "weights_sha256": counter.sha256,
        "device": counter.device.type,
        "precision": counter.precision,
        **plan.settings,
        "columns": list(COLUMNS),
        "excel": request.excel,
        "tiles": request.tiles,
        "batch_windows": pipeline.batch_windows,
        "shard": request.shard,
        "rows": len(plan.positions()),
    }


class _Writer:
    """Puts outcomes on disk as rows, and keeps count of them."""

    def __init__(self, request: BatchRequest, results: ResultsFile, weights: str) -> None:
        self.request, self.results, self.weights = request, results, weights
        self.rows, self.failed = results.kept_in_plan, 0
        self.thumbnails = Thumbnails(request.report, results.kept) if request.report else None
        self.streamed: list[ResultRow] = []  # what the report needs and no file holds

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.thumbnails is not None:
            self.thumbnails.close()

    def write(self, outcomes: Iterator[Outcome]) -> None:
        """Write each outcome as it comes, its pictures first."""
        with console.progress("counting", self.results.planned, "rows") as bar:
            bar.restart(self.rows)
            for outcome in outcomes:
                rows = rows_of(outcome, self.weights)
                if self.thumbnails is not None:
                    self.thumbnails.append(outcome)
                self.results.append(rows)
                if self.request.csv == "-" and self.request.report is not None:
                    self.streamed += rows
                self.rows += len(rows)
                self.failed += sum(row.failed for row in rows)
                bar.advance(len(rows), f"{self.failed} failed" if self.failed else "")
                if self.request.fail_fast and outcome.fault:
                    raise ClipCountError(
                        f"stopped at the first failure: {outcome.fault}", hint=self._how_to_go_on()
                    )

    def check_complete(self, interrupted: bool) -> None:
        """Raise InterruptedRunError where rows are missing."""
        if self.rows < self.results.planned:
            reason = "interrupted" if interrupted else "a process of this run ended early"
            raise InterruptedRunError(
                f"{reason}: {self.rows} of {self.results.planned} rows are in {self.request.csv}",
                hint=self._how_to_go_on(),
            )

    def _how_to_go_on(self) -> str | None:
        if self.request.csv == "-":
            return None
        return "to go on, run the same command with --resume (and without --overwrite)"


def rows_of(outcome: Outcome, weights: str) -> list[ResultRow]:
    """An outcome as rows, one for each prompt."""
    job = outcome.job
    if outcome.fault:
        message = as_text(outcome.fault)
        return [
            ResultRow(job.image, p, None, "failed", message, None, None, weights)
            for p in job.prompts
        ]
    width, height = outcome.size
    return [
        ResultRow(job.image, prompt, round(count, 2), "ok", note, width, height, weights)
        for prompt, count, note in zip(job.prompts, outcome.counts, outcome.notes, strict=True)
    ]


def print_summary(summary: Summary) -> None:
    """Say how the run ended, failures above all."""
    (console.warn if summary.failed else console.notice)(summary.sentence)
