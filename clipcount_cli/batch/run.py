"""Count in many images and write rows as they come, in order; a bad image does not stop the rest.

request.py -> plan.py (what to count) -> [run.py] -> pipeline.py (counts) -> results.py (rows on
disk); beside it processes.py (several processes), summary.py (totals) and report.py (one page).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from clipcount_cli import console, distributed
from clipcount_cli.batch import processes
from clipcount_cli.batch.masks import with_masks
from clipcount_cli.batch.pages import select_pages
from clipcount_cli.batch.plan import Plan, make_plan, nothing_to_count, read_list
from clipcount_cli.batch.points import join_points
from clipcount_cli.batch.report import Thumbnails, write_report
from clipcount_cli.batch.request import (
    BatchRequest,
    check,
    check_existing,
    check_result_files,
    protect_sources,
)
from clipcount_cli.batch.results import ResultsFile, Settings
from clipcount_cli.batch.rows import ResultRow
from clipcount_cli.batch.sample import sample_digests
from clipcount_cli.batch.shards import merge, parse_shard
from clipcount_cli.batch.summary import (
    COLUMNS,
    MAX_PROMPTS_SHOWN,
    Total,
    summary_table,
    totals,
    write_summary,
)
from clipcount_cli.errors import (
    ClipCountError,
    ExitCode,
    InterruptedRunError,
    UsageError,
    quantity,
    shortened,
)
from clipcount_cli.files import as_text, require_replaceable
from clipcount_cli.interrupts import Interruption, interruptible
from clipcount_cli.locks import exclusive

if TYPE_CHECKING:
    from clipcount_cli.batch.pipeline import Outcome, Pipeline
    from clipcount_cli.batch.processes import ShareOut
    from clipcount_cli.counting.counter import Counter

BATCH_WINDOWS = {"cuda": 64}  # windows per network call, by device
BATCH_WINDOWS_ELSEWHERE = 8
MAX_WORKERS_PER_GPU = 16
_PROMPTS_CHECKED = 200  # for parts that the weights cannot read
_PROMPTS_SHOWN = 3
_STOPPING = "stopping once the current images are finished (interrupt again to stop at once)"

LoadCounter = Callable[[], "Counter"]


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    rows: int
    failed: int
    csv: str
    totals: tuple[Total, ...] = ()
    remarks: int = 0  # rows that are ok, but have a message
    first_fault: str = ""
    hint: str | None = None  # how to count the failed rows again

    @classmethod
    def of(cls, rows: Sequence[ResultRow], csv: str, hint: str | None) -> Summary:
        failed = [row for row in rows if row.failed]
        return cls(
            len(rows),
            len(failed),
            csv,
            tuple(totals(rows)),
            sum(bool(row.message) for row in rows) - len(failed),
            failed[0].message if failed else "",
            hint if failed and csv != "-" else None,
        )

    @property
    def sentence(self) -> str:
        place = f" in {self.csv}" if self.csv != "-" else ""
        if not self.failed:
            return quantity(self.rows, "row") + place
        first = "" if self.failed == 1 else ", first"
        return f"{self.failed} of {quantity(self.rows, 'row')}{place} failed{first}: " + (
            self.first_fault
        )

    @property
    def remark(self) -> str:
        """The sentence about rows with a message; empty if there is none."""
        if not self.remarks:
            return ""
        have = "has a remark" if self.remarks == 1 else "have remarks"
        place = f" of {self.csv}" if self.csv != "-" else ""
        rows = quantity(self.rows, "row")
        return f"{self.remarks} of {rows} {have}: see the column message{place}"

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.SOME_IMAGES_FAILED if self.failed else ExitCode.OK


def run(request: BatchRequest, load: LoadCounter) -> Summary:
    """Count all that `request` names; `load` is called once it is known that there is work.

    Raises UsageError, DataError or WeightsError before the first row, InterruptedRunError after the
    last row of an interrupted run.
    """
    if request.merge:
        return _merge(request)
    with interruptible(_STOPPING) as interruption:
        if distributed.world_size() == 1:
            return _lead(request, load, interruption, processes.alone)
        with processes.joined() as team:
            if distributed.is_first():
                return _lead(request, load, interruption, team.lead)
            console.set_verbosity(quiet=True)
            team.assist(lambda: default_pipeline(request, load()), lambda: interruption.requested)
    return Summary(0, 0, request.csv)


def _lead(
    request: BatchRequest, load: LoadCounter, interruption: Interruption, share_out: ShareOut
) -> Summary:
    """Plan the run, count, and write every row."""
    check(request)
    plan = _plan(request)
    with exclusive(*request.outputs):
        check_existing(request)  # another run may have ended in the meantime
        require_replaceable(*request.outputs)
        counter = load()
        _report_plan(plan, counter)
        pipeline = default_pipeline(request, counter)
        results = ResultsFile(request.targets, plan.positions())
        settings = dict(_settings(request, plan, pipeline))
        (results.resume if request.resume else results.start)(settings)
        _report_dropped(results.dropped)
        todo = plan.without(row.key for row in results.kept)
        writer = _Writer(request, results, counter.label)
        shared = share_out(pipeline, todo, lambda: interruption.requested)
        with results, writer, closing(shared) as outcomes:
            writer.write(_recording_size(outcomes, pipeline, results, settings))
        writer.check_complete(interruption.requested)
        return _finish(request, results, writer.all_rows(), settings)


def _recording_size(
    outcomes: Iterator[Outcome], pipeline: Pipeline, results: ResultsFile, settings: dict[str, Any]
) -> Iterator[Outcome]:
    """Pass outcomes on, and record the batch size if a full memory has halved it.

    The last digits of a count depend on it, so --resume compares it.
    """
    for outcome in outcomes:
        if pipeline.batch_windows != settings["batch_windows"]:
            settings["batch_windows"] = pipeline.batch_windows
            results.save_settings(settings)
        yield outcome


def _finish(
    request: BatchRequest, results: ResultsFile, rows: Sequence[ResultRow], settings: Settings
) -> Summary:
    """Write the outputs that are made from all rows together."""
    again = "--resume instead of --overwrite" if request.overwrite else "--resume"
    hint = f"fix the images and run the same command with {again}"
    summary = Summary.of(rows, request.csv, hint)
    results.finish(rows)
    results.save_settings({**settings, "written": len(rows)})
    if request.summary is not None:
        write_summary(request.summary, summary.totals, request.form)
    if request.points is not None and (missing := join_points(request.points, rows)):
        console.warn(
            f"positions of {quantity(missing, 'row')} are missing in {request.points}: "
            "count again with --overwrite"
        )
    if request.report is not None:
        write_report(request.report, rows, settings, request.targets.csv)
    return summary


def _merge(request: BatchRequest) -> Summary:
    if request.resume or request.shard or request.heatmaps or request.report:
        raise UsageError(
            "--merge only joins rows", hint="leave out --resume, --shard, --heatmaps and --report"
        )
    check(request)
    protect_sources(request, request.sources)
    with exclusive(*request.outputs):
        check_existing(request)
        require_replaceable(*request.outputs)
        rows = merge(request.sources, request.targets)
        hint = "run the shards of the failed rows again with --resume, then merge with --overwrite"
        summary = Summary.of(rows, request.csv, hint)
        if request.summary is not None:
            write_summary(request.summary, summary.totals, request.form)
    return summary


def _plan(request: BatchRequest) -> Plan:
    sources = list(request.sources)
    if request.from_file is not None:
        sources += read_list(request.from_file)
    protect_sources(request, sources)
    folders = (request.heatmaps, request.points, request.masks)
    left_out = [folder for folder in folders if folder is not None]
    plan = make_plan(
        sources,
        request.prompts,
        request.prompts_file,
        left_out,
        request.own_files,
        request.all_pages,
    )
    if not plan.jobs:
        raise nothing_to_count(sources, plan.passed_over)
    plan = plan.with_jobs(select_pages(plan, request.selection, request.all_pages))
    if request.masks is not None:
        plan = with_masks(plan, request.masks)
    if request.shard is not None:  # a part may be empty: the others can be joined with it
        plan = plan.shard(*parse_shard(request.shard))
    check_result_files(request, plan)
    return plan


def _report_plan(plan: Plan, counter: Counter) -> None:
    """Print what is counted, and which parts of prompts the weights cannot read."""
    for text in plan.notices:
        console.notice(text)
    prompts = dict.fromkeys(prompt for job in plan.jobs for prompt in job.prompts)
    unread = (counter.unread_part(prompt) for prompt in islice(prompts, _PROMPTS_CHECKED))
    for text in islice(filter(None, unread), _PROMPTS_SHOWN):
        console.warn(text)


def _report_dropped(rows: Sequence[ResultRow]) -> None:
    if rows:
        images = shortened([*dict.fromkeys(row.image for row in rows)])
        console.warn(
            f"dropped {quantity(len(rows), 'row')} of images that no longer exist: {images}"
        )


def default_pipeline(request: BatchRequest, counter: Counter) -> Pipeline:
    """The pipeline for `request`; options that were left out are chosen for this machine."""
    from clipcount_cli.batch.pictures import ResultMaker
    from clipcount_cli.batch.pipeline import Pipeline

    maker = ResultMaker(
        request.heatmaps,
        request.heatmap_suffix,
        request.points,
        request.masks,
        thumbnails=request.report is not None,
    )
    return Pipeline(
        counter,
        request.batch_windows or BATCH_WINDOWS.get(counter.device.type, BATCH_WINDOWS_ELSEWHERE),
        request.workers or _default_workers(counter.device.type),
        request.tiles,
        maker if maker.needed else None,
        (lambda pixels: pixels) if maker.needs_full_size else None,
        reads_in_processes=counter.device.type == "cuda",
    )


def _default_workers(device: str) -> int:
    """One per core that this process has to itself, but no more than a GPU needs."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    share = max(1, cores // distributed.local_world_size())
    return share if device == "cpu" else min(MAX_WORKERS_PER_GPU, share)


def _settings(request: BatchRequest, plan: Plan, pipeline: Pipeline) -> Settings:
    """All settings that the rows depend on: recorded beside the CSV, compared by --resume."""
    counter = pipeline.counter
    return {
        "weights": counter.label,
        "weights_sha256": counter.sha256,
        "device": counter.device.type,
        "precision": counter.precision,
        **plan.settings,
        **request.form.settings,
        "tiles": request.tiles,
        "page": "all" if request.all_pages else request.selection.page,
        "channel": request.selection.channel,
        "batch_windows": pipeline.batch_windows,
        "shard": request.shard,
        "rows": len(plan.positions()),
        "sample": sample_digests(plan.jobs, request.targets.saved_sample()),
        "written": None,  # the rows of a complete run: with regions, more than are planned
    }


class _Writer:
    """Writes outcomes to disk as rows, and counts them."""

    def __init__(self, request: BatchRequest, results: ResultsFile, weights: str) -> None:
        self.request, self.results, self.weights = request, results, weights
        self.done = len({row.key for row in results.kept})  # image-prompt pairs
        self.failed = 0
        self.thumbnails = Thumbnails(request.report, results.kept) if request.report else None
        self.streamed: list[ResultRow] = []  # rows sent to stdout, which the totals need

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.thumbnails is not None:
            self.thumbnails.close()

    def write(self, outcomes: Iterator[Outcome]) -> None:
        """Write each outcome as it comes, its thumbnails first."""
        with console.progress("counting", self.results.planned, "rows") as bar:
            bar.start_at(self.done)
            for outcome in outcomes:
                rows = rows_of(outcome, self.weights)
                if self.thumbnails is not None:
                    self.thumbnails.append(outcome)
                self.results.append(rows)
                if self.request.csv == "-":
                    self.streamed += rows
                self.done += len(outcome.job.prompts)
                self.failed += sum(row.failed for row in rows)
                bar.advance(
                    len(outcome.job.prompts), f"{self.failed} failed" if self.failed else ""
                )
                if self.request.fail_fast and outcome.fault:
                    raise ClipCountError(
                        f"stopped at the first failure: {outcome.fault}", hint=self._resume_hint()
                    )

    def check_complete(self, interrupted: bool) -> None:
        """Raise InterruptedRunError if rows are missing."""
        if self.done < self.results.planned:
            reason = "interrupted" if interrupted else "a process of this run ended early"
            place = self.results.targets.growing or self.request.csv
            raise InterruptedRunError(
                f"{reason}: {self.done} of {quantity(self.results.planned, 'row')} in {place}",
                hint=self._resume_hint(),
            )

    def all_rows(self) -> Sequence[ResultRow]:
        """The rows of the whole run, including those kept from an earlier one."""
        return self.streamed if self.request.csv == "-" else self.request.targets.read()

    def _resume_hint(self) -> str | None:
        if self.request.csv == "-":
            return None
        return "to continue, run the same command with --resume (and without --overwrite)"


def rows_of(outcome: Outcome, weights: str) -> list[ResultRow]:
    """Turn an outcome into rows, one per prompt, or per prompt and region."""
    job = outcome.job
    if outcome.fault:
        message = as_text(outcome.fault)
        return [
            ResultRow(job.image, p, None, "failed", message, None, None, weights)
            for p in job.prompts
        ]
    width, height = outcome.size
    counted = zip(job.prompts, outcome.counts, outcome.notes, outcome.extras, strict=True)
    return [
        ResultRow(job.image, prompt, round(part, 2), "ok", note, width, height, weights, region)
        for prompt, whole, note, made in counted
        for region, part in (made.regions if made and made.regions else (("", whole),))
    ]


def print_summary(summary: Summary) -> None:
    """Print totals per prompt and how the run ended, as a warning if rows failed."""
    if summary.totals:
        console.notice_table(COLUMNS, summary_table(summary.totals))
        if (more := len(summary.totals) - MAX_PROMPTS_SHOWN) > 0:
            console.notice(
                f"and {quantity(more, 'more prompt')}: --summary FILE.csv writes all totals"
            )
    if summary.remark:
        console.notice(summary.remark)
    if summary.failed:
        console.warn(summary.sentence, summary.hint)
    else:
        console.notice(summary.sentence)
