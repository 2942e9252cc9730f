"""The messages between the processes of one batch: JSON, followed by the bytes of images.

processes.py -> [messages.py]
Anyone who reaches the store's port can write into it, so reading a message must never run code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from clipcount_cli.batch.plan import Job
from clipcount_cli.errors import ClipCountError

if TYPE_CHECKING:
    from clipcount_cli.batch.pictures import Made
    from clipcount_cli.batch.pipeline import Outcome


def encode_jobs(jobs: Sequence[Job]) -> bytes:
    return json.dumps(jobs).encode()


def decode_jobs(data: bytes) -> list[Job]:
    """Decode what `encode_jobs` returned; raises ClipCountError for anything else."""
    try:
        return [_job(cells) for cells in _list(json.loads(data))]
    except (ValueError, TypeError) as error:
        raise _no_message(error) from error


def _job(cells: Any) -> Job:
    image, path, prompts, fault, counted_before, page, channel = _list(cells)
    return Job(
        _text(image),
        _text(path),
        _texts(prompts),
        _text(fault),
        _texts(counted_before),
        "max" if page == "max" else _number(page),
        _number(channel),
    )


def encode_outcome(outcome: Outcome) -> bytes:
    """Encode an outcome as one line of JSON, followed by the bytes of its thumbnails."""
    thumbnails = [made.thumbnail or () for made in outcome.extras if made is not None]
    parts = [part for thumbnail in thumbnails for part in thumbnail]
    extras = [
        None if made is None else [[*map(len, made.thumbnail or ())], made.regions]
        for made in outcome.extras
    ]
    facts = {**outcome._asdict(), "extras": extras}
    return json.dumps(facts).encode() + b"\n" + b"".join(parts)


def decode_outcome(data: bytes) -> Outcome:
    """Decode what `encode_outcome` returned; raises ClipCountError for anything else."""
    from clipcount_cli.batch.pipeline import Outcome

    line, _, blob = data.partition(b"\n")
    try:
        facts = json.loads(line)
        return Outcome(
            job=_job(facts["job"]),
            counts=tuple(map(float, _list(facts["counts"]))),
            size=(int(facts["size"][0]), int(facts["size"][1])),
            notes=_texts(facts["notes"]),
            fault=_text(facts["fault"]),
            extras=tuple(_made(facts["extras"], blob)),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise _no_message(error) from error


def _made(extras: Iterable[Any], blob: bytes) -> Iterator[Made | None]:
    """The extras of each result; the parts of thumbnails follow one another in `blob`."""
    from clipcount_cli.batch.pictures import Made, Thumbnail  # loads torch

    start = 0
    for extra in extras:
        if extra is None:
            yield None
            continue
        lengths, regions = extra
        parts = []
        for length in lengths:
            parts.append(blob[start : start + length])
            start += length
        counts = None if regions is None else tuple((_text(n), float(c)) for n, c in regions)
        yield Made(Thumbnail(*parts) if parts else None, counts)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, _list(value)))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _number(value: Any) -> int | None:
    if value is not None and not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _no_message(error: Exception) -> ClipCountError:
    return ClipCountError(
        f"another process sent a message that does not belong to this run: {error}",
        hint="start the run again, on a network that only its machines can reach",
    )
