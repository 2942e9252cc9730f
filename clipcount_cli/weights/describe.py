"""Weights in words: the list of all that have a name, and everything about one file.

cache.py, checkpoint.py -> [describe.py] -> commands/download_weights.py
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clipcount_cli.config import to_json
from clipcount_cli.errors import quantity
from clipcount_cli.files import is_file, is_folder
from clipcount_cli.weights import cache, checkpoint
from clipcount_cli.weights.digests import verified_digest

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


def info_lines(weights: str) -> Iterator[str]:
    """Everything in the header of weights (a name, a file, a run folder), as YAML.

    Raises WeightsError if there is no such file, or it is damaged.
    """
    path = _find(weights)
    with cache.with_repair_hint(path):
        header = checkpoint.read_header(path)
        metadata = checkpoint.read_metadata(path)
        sha256 = verified_digest(path)
        names = checkpoint.parameter_names(metadata.config, metadata.holds, path)
    config = to_json(metadata.config)
    taught, bank = config.pop("taught"), config.pop("bank")
    if vocabulary := config["clip"].pop("vocabulary"):
        config["clip"]["vocabulary"] = f"{len(vocabulary)} BPE ids"
    if bank:
        config["bank"] = quantity(len(bank), "noun")
    yield from _as_yaml(
        {
            "file": path,
            "size": size_in_words(path.stat().st_size),
            "sha256": sha256,
            "holds": "CLIP alone" if metadata.holds == "clip" else "a counting model",
            "parameters": f"{sum(math.prod(header.shapes.get(name, (0,))) for name in names):,}",
            "licence": metadata.origin.get("licence") or "unknown",
            "taught": f"{quantity(len(taught), 'word')}: {', '.join(taught)}"
            if taught
            else "not recorded",
            "origin": {k: v for k, v in metadata.origin.items() if k != "licence"},
            "configuration": config,
        }
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
    return path / cache.BEST if is_folder(path) else path


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
