"""The user's weights folder: what is installed, what a name means, and whether a file is whole.

Weights files, step 2: registry.py -> [cache.py] -> checkpoint.py. Knows the disk, not the network.
A model is `NAME.safetensors`; beside it `NAME.json` records its sha256 at the time of installing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clipcount_cli.errors import UsageError, WeightsError
from clipcount_cli.files import is_file, is_folder
from clipcount_cli.weights.checkpoint import (
    compute_digest,
    load_state,
    read_metadata,
    read_record,
)
from clipcount_cli.weights.registry import CLIP_NAME, DEFAULT_NAME, EMBEDDED_NAME, TABLE

HOME_VARIABLE = "CLIPCOUNT_HOME"
OFFLINE_VARIABLES = ("CLIPCOUNT_OFFLINE", "HF_HUB_OFFLINE")
SUFFIX = ".safetensors"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class ResolvedWeights:
    """The file behind a name; `notice` says why it was chosen, where the user did not choose."""

    path: Path
    name: str
    notice: str | None = None


def home() -> Path:
    """The folder of installed weights; it need not exist yet."""
    if chosen := os.environ.get(HOME_VARIABLE):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path  # 10 ms, paid only where no folder was chosen

    return user_cache_path("clipcount", appauthor=False)


def offline() -> bool:
    """Tell whether the environment forbids the network."""
    said = [os.environ.get(variable, "") for variable in OFFLINE_VARIABLES]
    return any(value.strip().lower() in {"1", "true", "yes", "on"} for value in said)


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
    return {file.name.removesuffix(SUFFIX): file for file in files if _NAME.fullmatch(file.name)}


def resolve(weights: str | Path | None) -> ResolvedWeights:
    """Find the file of a counting model by name or path; None means the best one at hand.

    The answer depends on what is installed, never on the network.
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
    if is_file(path):
        return ResolvedWeights(_counting(path), path.stem)
    raise _unknown(weights)


def _default() -> ResolvedWeights:
    if path := installed().get(DEFAULT_NAME):
        notice = f"counting with {DEFAULT_NAME}, which is installed"
        return ResolvedWeights(path, DEFAULT_NAME, notice)
    notice = (
        f"counting with {EMBEDDED_NAME}, good for everyday things that lie apart on a plain "
        f"ground: the large {DEFAULT_NAME} is not installed "
        "(`clipcount download-weights` fetches it)"
    )
    path = _present(asset(TABLE[EMBEDDED_NAME].asset or ""), EMBEDDED_NAME)
    return ResolvedWeights(path, EMBEDDED_NAME, notice)


def _present(path: Path, name: str) -> Path:
    if not is_file(path):
        raise WeightsError(
            f"the weights {name} should be at {path}, but are not",
            hint="install clipcount-cli anew, or name other weights with --weights",
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
        return WeightsError(f"there is no weights file {name}", hint="check the path")
    known = ", ".join(dict.fromkeys([EMBEDDED_NAME, *installed()]))
    return WeightsError(
        f"no weights called {name} are installed, and no such file exists",
        hint=f"at hand are: {known}; see `clipcount download-weights --list`",
    )


class InventoryRow(NamedTuple):
    """One line of what can be had and what is here."""

    name: str
    state: str  # "in the package", "installed" or "not installed"
    file: Path | str  # "" where there is none
    about: str


def inventory() -> list[InventoryRow]:
    """Everything that has a name: the table's rows first, then what else is installed."""
    here = installed()
    rows = []
    for name, entry in TABLE.items():
        about = f"{entry.summary}; {entry.licence}"
        if entry.asset:
            rows.append(InventoryRow(name, "in the package", asset(entry.asset), about))
        else:
            state = "installed" if name in here else "not installed"
            rows.append(InventoryRow(name, state, here.get(name, ""), about))
    others = {name: path for name, path in here.items() if name not in TABLE}
    return rows + [InventoryRow(n, "installed", p, _about(p)) for n, p in others.items()]


def _about(path: Path) -> str:
    try:
        return str(read_metadata(path).origin.get("licence", ""))
    except WeightsError:
        return "damaged"


def verify(name: str | None = None) -> Iterator[tuple[str, WeightsError | None]]:
    """Read installed weights in full, `name` or all; yield what is wrong with each, or None."""
    here = {row.name: Path(row.file) for row in inventory() if row.file}
    if name is not None and name not in here:
        raise _unknown(name)
    for chosen, path in here.items() if name is None else [(name, here[name])]:
        try:
            _verify_file(path)
        except WeightsError as error:
            anew = f"run `clipcount download-weights {chosen} --force`, from the same sources"
            hint = "install clipcount-cli anew" if chosen == EMBEDDED_NAME else anew
            yield chosen, WeightsError(str(error), hint)
        else:
            yield chosen, None


def _verify_file(path: Path) -> None:
    record = read_record(path)
    if record is not None and (actual := compute_digest(path)) != record.sha256:
        raise WeightsError(
            f"{path} is damaged: expected sha256 {record.sha256}, as it was installed, got "
            f"{actual}; the file was left as it is"
        )
    load_state(path)


def remove(name: str) -> Path:
    """Delete installed weights; raises WeightsError if there are none of that name."""
    if name == EMBEDDED_NAME:
        raise UsageError(f"{EMBEDDED_NAME} is part of the package and cannot be removed")
    path = location(name)
    if not is_file(path):
        raise WeightsError(
            f"no weights called {name} are installed",
            hint="see `clipcount download-weights --list`",
        )
    path.unlink()
    path.with_suffix(".json").unlink(missing_ok=True)
    return path


@contextmanager
def lock(say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time change the weights folder; the others wait, and are told so."""
    from filelock import FileLock, Timeout

    guard = FileLock(make_folder(home()) / ".lock")
    try:
        guard.acquire(timeout=0)
    except Timeout:
        say("waiting for another clipcount that is installing weights")
        guard.acquire()
    try:
        yield
    finally:
        guard.release()


def make_folder(folder: Path) -> Path:
    """Create a folder of the cache; raises WeightsError naming the variable that moves it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"the weights folder {folder} cannot be made: {error.strerror}",
            hint=f"choose another with the variable {HOME_VARIABLE}",
        ) from error
    return folder
