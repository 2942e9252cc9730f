"""The batches that follow, prepared beside the training.

sampler.py -> [prefetch.py] -> loop.py
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from clipcount_cli.training.step import Batch, Trainer

BATCHES_AHEAD = 2
Batches = Callable[[int], Iterator[Batch]]  # the batches of a step and of all steps after it


@contextmanager
def prefetched(batches: Batches, trainer: Trainer, steps: int) -> Iterator[Iterator[Batch]]:
    """Prepare the batches that follow in a thread and, on CUDA, a stream of their own."""
    waiting: queue.Queue[tuple[Batch, Any] | BaseException] = queue.Queue(BATCHES_AHEAD)
    closed = threading.Event()

    def put(item: tuple[Batch, Any] | BaseException) -> None:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.1)
                return

    def prepare() -> None:
        try:
            made: Any = batches(trainer.step_number)
            with contextlib.closing(made), _own_stream(trainer.device) as stream:
                for batch, _ in zip(made, range(trainer.step_number, steps), strict=False):
                    ready = batch.to(trainer.device)
                    put((ready, stream and stream.record_event()))
                    if closed.is_set():
                        return
        except BaseException as error:  # handed to the thread that waits for a batch
            put(error)

    def take() -> Iterator[Batch]:
        while True:
            item = waiting.get()
            if isinstance(item, BaseException):
                raise item
            batch, ready = item
            if ready is not None:
                batch.wait_for(ready)
            yield batch

    thread = threading.Thread(target=prepare, daemon=True, name="prefetch")
    thread.start()
    try:
        yield take()
    finally:
        closed.set()
        thread.join()


@contextmanager
def _own_stream(device: torch.device) -> Iterator[Any]:
    """A stream beside the one that trains; None on a device without streams."""
    if device.type != "cuda":
        yield None
        return
    stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        yield stream
