"""Weights in words: the list of all that have a name, and everything about one file.

cache.py, checkpoint.py -> [describe.py] -> commands/download_weights.py
"""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clipcount_cli.config import ModelConfig, to_json
from clipcount_cli.errors import quantity
from clipcount_cli.files import is_file, is_folder
from clipcount_cli.weights import cache, checkpoint
from clipcount_cli.weights.digests import verified_digest

_MAX_COLUMNS = 100
_UNITS = ("B", "kB", "MB", "GB")


def list_lines() -> Iterator[str]:
    """Two lines for all that has a name: name, state, size and summary; then the whole path."""
    rows = cache.inventory()
    name_width = max(len(row.name) for row in rows)
    for row in rows:
        about = "" if row.file else "about "
        size = f"{about}{size_in_words(row.size_bytes)}" if row.size_bytes else ""
        yield f"{row.name:{name_width}}  {row.state:14}  {size:12}  {row.summary}".rstrip()
        if row.file:
            yield f"{'':{name_width}}  {row.file}"


def info_lines(weights: str, full: bool = False) -> Iterator[str]:
    """What weights are (a name, a file, a run folder), as YAML; full: all that their header holds.

    Raises WeightsError if there is no such file, or it is damaged.
    """
    path = _find(weights)
    with cache.with_repair_hint(path):
        header = checkpoint.read_header(path)
        metadata = checkpoint.read_metadata(path)
        sha256 = verified_digest(path)
        names = checkpoint.parameter_names(metadata.config, metadata.holds, path)
    taught, origin = metadata.config.taught, metadata.origin
    about = {
        "file": path,
        "size": size_in_words(path.stat().st_size),
        "sha256": sha256,
        "holds": "CLIP alone" if metadata.holds == "clip" else "a counting model",
        "parameters": f"{sum(math.prod(header.shapes.get(name, (0,))) for name in names):,}",
        "licence": origin.get("licence") or "unknown",
        "taught": f"{quantity(len(taught), 'word')}: {', '.join(taught)}"
        if taught
        else "not recorded",
    }
    if full:
        whole = {k: v for k, v in origin.items() if k != "licence"}
        yield from _as_yaml({**about, "origin": whole, "configuration": _whole(metadata.config)})
        return
    last = {"taught": about.pop("taught")}
    short = {"origin": _origin_in_words(origin), "configuration": _in_words(metadata.config)}
    for line in _as_yaml({**about, **short, **last}):
        yield from [line] if line.startswith("file:") else _wrapped(line)


def _origin_in_words(origin: Mapping[str, Any]) -> str:
    """What made the weights, and from what."""
    maker = origin.get("made_by") or origin.get("created_by") or "an unknown program"
    listed = origin.get("sources")  # of a file that anybody may have written
    sources = [s for s in listed if isinstance(s, Mapping)] if isinstance(listed, list) else []
    places = [str(source.get("url") or source.get("file")) for source in sources]
    made_from = f", from {' and '.join(places)}" if places else ""
    return f"{origin.get('name') or 'unnamed'}, made by {maker}{made_from}"


def _in_words(config: ModelConfig) -> str:
    return (
        f"image tower {config.clip.image_tower}, {config.clip.image_size_px} px; "
        f"interaction {config.interaction}; readout {config.readout}"
    )


def _whole(config: ModelConfig) -> dict[str, Any]:
    """All settings; of long lists only how long they are. `taught` stands elsewhere."""
    settings = to_json(config)
    del settings["taught"]
    if vocabulary := settings["clip"].pop("vocabulary"):
        settings["clip"]["vocabulary"] = f"{len(vocabulary)} BPE ids"
    if bank := settings.pop("bank"):
        settings["bank"] = quantity(len(bank), "noun")
    return settings


def _wrapped(line: str) -> list[str]:
    """Break a long line between words, to fit the terminal."""
    columns = min(_MAX_COLUMNS, shutil.get_terminal_size().columns)
    return textwrap.wrap(
        line,
        columns,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def size_in_words(size_bytes: float) -> str:
    """A size in bytes as people write it: 4.7 MB."""
    power = min(len(_UNITS) - 1, max(0, int(math.log10(max(size_bytes, 1)) // 3)))
    return f"{size_bytes / 1000**power:.3g} {_UNITS[power]}"


def _find(weights: str) -> Path:
    path = Path(weights).expanduser()
    named = {row.name: row.file for row in cache.inventory() if row.file}
    if weights in named or not (is_file(path) or is_folder(path)):
        return cache.find(weights)
    return cache.best_of(path) if is_folder(path) else path


def _as_yaml(data: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}:"
            yield from _as_yaml(value, f"{indent}  ")
        elif isinstance(value, Sequence) and any(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value, 1):
                yield f"{indent}{key} {number}:"
                yield from _as_yaml(item if isinstance(item, Mapping) else {}, f"{indent}  ")
        elif isinstance(value, list | tuple):
            yield f"{indent}{key}: {', '.join(map(str, value)) or 'none'}"
        else:
            yield f"{indent}{key}: {value}"
