"""The user's weights folder: what is installed, what a name means, and whether a file is whole.

Weights files, step 4: digests.py -> checkpoint.py -> [cache.py] -> install.py. Knows the disk, not
the network. A model is `NAME.safetensors`; beside it `NAME.json` records its sha256 as installed.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clipcount_cli.errors import UsageError, WeightsError
from clipcount_cli.files import CHECK_PATH, is_file, is_folder, remove_leftovers
from clipcount_cli.weights.checkpoint import load_state, read_metadata
from clipcount_cli.weights.registry import CLIP_NAME, DEFAULT_NAME, EMBEDDED_NAME, TABLE

HOME_VARIABLE = "CLIPCOUNT_HOME"
OFFLINE_VARIABLES = ("CLIPCOUNT_OFFLINE", "HF_HUB_OFFLINE")
SUFFIX = ".safetensors"
BEST = f"best{SUFFIX}"  # the weights in RUN/ to count with
LAST = f"last{SUFFIX}"  # those that a training continues with, there from its first step on
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class ResolvedWeights:
    """The file behind a name; `notice` states why it was chosen if the user did not choose."""

    path: Path
    name: str
    notice: str | None = None


def home() -> Path:
    """The folder of installed weights; it need not exist yet."""
    if chosen := os.environ.get(HOME_VARIABLE):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path  # 10 ms, paid only if no folder was chosen

    return user_cache_path("clipcount", appauthor=False)


def offline() -> bool:
    """Whether the environment forbids the network."""
    values = [os.environ.get(variable, "") for variable in OFFLINE_VARIABLES]
    return any(value.strip().lower() in {"1", "true", "yes", "on"} for value in values)


def asset(file_name: str) -> Path:
    """The place of a file that comes with the package."""
    return Path(__file__).parents[1] / "assets" / file_name


def location(name: str) -> Path:
    """Where weights called `name` are, or would be; raises UsageError for an impossible name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name weights", hint="use letters, digits, dots, dashes, underscores"
        )
    return home() / f"{name}{SUFFIX}"


def installed() -> dict[str, Path]:
    """Every installed name with its file, sorted by name."""
    files = sorted(home().glob(f"*{SUFFIX}")) if is_folder(home()) else []
    return {
        file.name.removesuffix(SUFFIX): file
        for file in files
        if _NAME.fullmatch(file.name) and is_file(file)
    }


def resolve(weights: str | Path | None) -> ResolvedWeights:
    """Find the file of a counting model by name, file or run folder; None means the default.

    The choice depends on what is installed, never on the network.
    Raises WeightsError, with the command that helps, if there is no such model.
    """
    if weights is None:
        return _default()
    name = str(weights)
    if name in TABLE and (row_asset := TABLE[name].asset):
        return ResolvedWeights(_present(asset(row_asset), name), name)
    if name in (here := installed()):
        return ResolvedWeights(_counting(here[name]), name)
    path = Path(weights).expanduser()
    if is_folder(path):
        return ResolvedWeights(_counting(best_of(path)), path.resolve().name)
    if is_file(path):
        return ResolvedWeights(_counting(path), path.stem)
    raise _unknown(weights)


def best_of(run: Path) -> Path:
    """The weights that a training found best; raises WeightsError if there are none in `run`."""
    if is_file(best := run / BEST):
        return best
    if is_file(last := run / LAST):
        raise WeightsError(
            f"{run} has no {BEST}, as no validation of its training has finished yet",
            hint=f"use {last}, or continue with `clipcount train --resume {run}`",
        )
    raise WeightsError(
        f"{run} is a folder without {BEST}",
        hint="name a weights file, or the folder of a training that has been validated",
    )


@contextmanager
def with_repair_hint(path: Path) -> Iterator[None]:
    """Add the command that replaces installed weights to errors about them."""
    try:
        yield
    except WeightsError as error:
        if path.parent == asset("").parent or path == asset(path.name):
            hint = "install clipcount-cli again"
        elif path in installed().values():
            hint = f"run `clipcount download-weights {path.stem} --force`, from the same sources"
        else:
            raise
        raise WeightsError(str(error), hint) from error


def _default() -> ResolvedWeights:
    if path := installed().get(DEFAULT_NAME):
        notice = f"using {DEFAULT_NAME}, which is installed (choose with --weights)"
        return ResolvedWeights(path, DEFAULT_NAME, notice)
    notice = f"using {EMBEDDED_NAME}, as {DEFAULT_NAME} is not installed (choose with --weights)"
    path = _present(asset(TABLE[EMBEDDED_NAME].asset or ""), EMBEDDED_NAME)
    return ResolvedWeights(path, EMBEDDED_NAME, notice)


def _present(path: Path, name: str) -> Path:
    if not is_file(path):
        raise WeightsError(
            f"the weights {name} should be at {path}, but are not",
            hint="install clipcount-cli again, or name other weights with --weights",
        )
    return path


def _counting(path: Path) -> Path:
    if read_metadata(path).holds == "clip":
        raise WeightsError(
            f"{path} holds CLIP alone, which cannot count",
            hint=f"train on it with `clipcount train --init {CLIP_NAME} --data DIR`",
        )
    return path


def _unknown(weights: str | Path) -> WeightsError:
    name = str(weights)
    if name in TABLE:
        return WeightsError(
            f"the weights {name} are not installed", hint=f"run `clipcount download-weights {name}`"
        )
    if isinstance(weights, Path) or name != Path(name).name or name.endswith(SUFFIX):
        return WeightsError(f"{name} does not exist", hint=CHECK_PATH)
    known = list(dict.fromkeys([EMBEDDED_NAME, *installed()]))
    return WeightsError(
        f"no weights called {name} are installed, and no such file exists",
        hint=did_you_mean(name)
        or f"installed: {', '.join(known)}; see `clipcount download-weights --list`",
    )


def did_you_mean(name: str) -> str | None:
    """A hint with the weights whose name is nearest to a mistyped one."""
    here = installed()
    near = difflib.get_close_matches(name.lower(), [*TABLE, *here])
    if not near:
        return None
    missing = near[0] not in here and not TABLE[near[0]].asset
    fetch = f" (to install it: `clipcount download-weights {near[0]}`)" if missing else ""
    return f"did you mean {near[0]}?{fetch}"


class InventoryRow(NamedTuple):
    """Weights that have a name, and where they are."""

    name: str
    state: str  # "in the package", "installed" or "not installed"
    size_bytes: int  # of the file; of the download if there is none
    summary: str
    file: Path | None


def inventory() -> list[InventoryRow]:
    """Everything that has a name: the table's rows first, then what else is installed."""
    here = installed()
    rows = []
    for name, entry in TABLE.items():
        file = asset(entry.asset) if entry.asset else here.get(name)
        state = "in the package" if entry.asset else "installed" if file else "not installed"
        size_bytes = file.stat().st_size if file else entry.download_bytes
        rows.append(InventoryRow(name, state, size_bytes, entry.summary, file))
    others = {name: path for name, path in here.items() if name not in TABLE}
    return rows + [
        InventoryRow(name, "installed", path.stat().st_size, _summary(path), path)
        for name, path in others.items()
    ]


def _summary(path: Path) -> str:
    try:
        origin = read_metadata(path).origin
    except WeightsError:
        return "damaged"
    started_from = origin.get("started_from")
    if isinstance(started_from, dict):
        return f"trained from {started_from.get('name', 'unknown weights')}"
    return str(origin.get("licence", ""))


def find(name: str) -> Path:
    """The file of installed or embedded weights, CLIP included; raises WeightsError."""
    files = {row.name: row.file for row in inventory() if row.file}
    if name not in files:
        raise _unknown(name)
    return files[name]


def verify(name: str | None = None) -> Iterator[tuple[str, WeightsError | None]]:
    """Read installed weights in full, `name` or all; yield what is wrong with each, or None."""
    names = [row.name for row in inventory() if row.file] if name is None else [name]
    for chosen, path in [(each, find(each)) for each in names]:
        try:
            with with_repair_hint(path):
                load_state(path)
        except WeightsError as error:
            yield chosen, error
        else:
            yield chosen, None


def remove(name: str) -> Path:
    """Delete installed weights; raises WeightsError if there are none of that name."""
    if name == EMBEDDED_NAME:
        raise UsageError(f"{EMBEDDED_NAME} is part of the package and cannot be removed")
    path = location(name)
    if not is_file(path):
        raise WeightsError(
            f"no weights called {name} are installed",
            hint=f"installed: {', '.join(here)}"
            if (here := installed())
            else "nothing that can be removed is installed",
        )
    try:
        path.unlink()
        path.with_suffix(".json").unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be removed: {error.strerror}",
            hint="the weights folder may be shared and read-only, or a program may hold the file",
        ) from error
    return path


@contextmanager
def lock(report: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time change the weights folder; the others wait, and report it.

    Raises WeightsError if the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    guard = FileLock(make_folder(home()) / ".lock")
    try:
        guard.acquire(timeout=0)
    except Timeout:
        report("waiting for another clipcount that is installing weights")
        guard.acquire()
    except OSError as error:
        raise _unwritable(home(), error) from error
    try:
        remove_leftovers(home())
        yield
    finally:
        guard.release()


def make_folder(folder: Path) -> Path:
    """Create a folder of the cache; raises WeightsError naming the variable that moves it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _unwritable(folder: Path, error: OSError) -> WeightsError:
    return WeightsError(
        f"the weights folder {folder} cannot be written: {error.strerror}",
        hint=f"choose another with the variable {HOME_VARIABLE}",
    )
