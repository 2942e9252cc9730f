"""Shards of a batch, counted on independent machines, are merged into one file.

commands -> run.py -> [shards.py] -> results.py
Shard I of N holds every N-th image, starting at the I-th, so merging takes one image of each shard
in turn; the settings recorded beside a shard state what it should hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from clipcount_cli.batch.results import ResultsFile, Targets, differences, read_settings
from clipcount_cli.batch.rows import ResultRow, RowFormat
from clipcount_cli.errors import DataError, UsageError, quantity
from clipcount_cli.files import exists

# Settings in which shards differ: each machine has its own path to the folder.
_OF_ONE_SHARD = {"shard", "rows", "folder", "sample", "written"}


def parse_shard(text: str) -> tuple[int, int]:
    """Parse `2/8` as (2, 8); raises UsageError if there is no such shard."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise UsageError(
            f'--shard "{text}" is not a shard', hint="shards are 1/N, 2/N ... N/N: --shard 2/8"
        )
    return int(number), int(of)


def require_shards(parts: Sequence[str], csv: str) -> None:
    """Raise UsageError if there is nothing to merge, or a shard does not exist."""
    hint = f"name the CSV of each shard: clipcount batch a.csv b.csv --merge --csv {csv}"
    if not parts:
        raise UsageError("no shards to merge", hint)
    for part in parts:
        if not exists(Path(part)):
            raise UsageError(f"the shard {part} does not exist", hint)


def require_same_shard(targets: Targets, shard: str) -> None:
    """Raise UsageError if `targets` hold another shard than `shard`."""
    try:
        saved = read_settings(targets).get("shard")
    except UsageError:  # the files are not those of a run, which is reported later
        return
    if saved not in (None, shard):
        raise UsageError(
            f"{targets.csv} holds the shard {saved}", hint="each shard needs its own --csv"
        )


def merge(parts: Sequence[str], targets: Targets) -> list[ResultRow]:
    """Merge the CSVs of all shards into `targets`, in the order of a run without shards.

    Raises UsageError if they do not belong together, DataError if one is not finished.
    """
    settings = [read_settings(Targets(Path(part))) for part in parts]
    sources = [
        Targets(Path(part), form=RowFormat.of(kept))
        for part, kept in zip(parts, settings, strict=True)
    ]
    numbers = _numbers(parts, settings)
    groups = [_images(source, kept) for source, kept in zip(sources, settings, strict=True)]
    in_order = [groups[place] for place in sorted(range(len(parts)), key=numbers.__getitem__)]
    dealt = itertools.zip_longest(*in_order, fillvalue=())
    rows = [row for turn in dealt for image in turn for row in image]
    positions = {key: place for place, key in enumerate(dict.fromkeys(row.key for row in rows))}
    form = replace(targets.form, regions=sources[0].form.regions)
    lengths = {"rows": len(positions), "written": len(rows)}
    whole = {**settings[0], **form.settings, "shard": None, **lengths}
    with ResultsFile(replace(targets, form=form), positions) as results:
        results.start(whole)
        results.append(rows)
    results.finish(rows)
    return rows


def _numbers(parts: Sequence[str], settings: Sequence[dict[str, Any]]) -> list[int]:
    """The number of each shard; raises UsageError if they are not all shards of one run."""
    shards = [kept.get("shard") for kept in settings]
    if None in shards:
        raise UsageError(
            f"{parts[shards.index(None)]} is not a shard: it was written without --shard",
            hint="name the CSVs of runs with --shard",
        )
    for part, kept in zip(parts[1:], settings[1:], strict=True):
        if found := differences(settings[0], kept, but=_OF_ONE_SHARD):
            listed = "; ".join(
                f"{name}: {first} there, {other} here" for name, (first, other) in found.items()
            )
            raise UsageError(
                f"{part} differs from {parts[0]}: {listed}",
                hint="count all shards with the same settings",
            )
    numbers, totals = zip(*(parse_shard(str(shard)) for shard in shards), strict=True)
    if len(set(totals)) > 1 or sorted(numbers) != list(range(1, totals[0] + 1)):
        given = ", ".join(map(str, shards))
        raise UsageError(
            f"these are not all shards of one run: {given}",
            hint=f"name each of the shards 1 to {totals[0]} once",
        )
    return list(numbers)


def _images(source: Targets, settings: dict[str, Any]) -> list[tuple[ResultRow, ...]]:
    """The rows of a shard, grouped by image."""
    rows = source.read()
    planned: int = settings.get("rows", 0)
    done = len({row.key for row in rows})
    written = settings.get("written", len(rows))  # older versions did not record it
    if done != planned or written != len(rows):
        missing = f"it has {done} of {quantity(planned or 0, 'row')}"
        if done == planned:
            missing = "rows of its last image may be missing"
        raise DataError(
            f"{source.csv} is not finished: {missing}",
            hint="run that shard again with --resume",
        )
    return [tuple(group) for _, group in itertools.groupby(rows, key=attrgetter("image"))]
