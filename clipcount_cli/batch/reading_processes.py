"""Processes that read images into memory that they share with this one.

readers.py -> [reading_processes.py] -> reading.py
Threads that read small images hinder each other and the thread that feeds a GPU, since each holds
the interpreter's lock now and then: on 16 cores, 4 of them read 335 images/s, 16 of them 256.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.heap import Arena
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipcount_cli import console
from clipcount_cli.batch.plan import Job
from clipcount_cli.batch.reading import Prepared, fault_of, read
from clipcount_cli.config import WindowConfig
from clipcount_cli.counting.decode_budget import DECODE_BUDGET_BYTES, OverBudgetError, decode_budget
from clipcount_cli.counting.open_stacks import OpenStacks
from clipcount_cli.counting.plausibility import size_notice
from clipcount_cli.counting.windows import Pixels, resize_shorter_side

_MAX_ASPECT = 2  # of the sides of an image that fits into a slot of memory
_LEAST_BUDGET_BYTES = 300 << 20  # for decoding in a process: enough for 24 megapixels
_MAX_PROCESSES = 61  # for more of them, Windows cannot wait
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # may reach all processes of a run


class Read(NamedTuple):
    """An image that was read, or why not; neither: it is too large or too wide for a process.

    Always small: a process that is killed while it sends more than a pipe holds leaves half a
    message, for whose end the pool would wait for ever.
    """

    prepared: Prepared | None = None
    shape: tuple[int, ...] = ()  # of the pixels in the slot
    fault: str = ""


def slot_bytes(side_px: int) -> int:
    """Memory for an image whose shorter side is `side_px`, unless it is very wide."""
    return 3 * side_px * _MAX_ASPECT * side_px


class _Process(SpawnProcess):
    """A process that only the one that started it can stop, even while it starts."""

    def start(self) -> None:
        with _signals_blocked(), _main_hidden():
            super().start()

    def terminate(self) -> None:
        """Kill it: the pool calls this if another one died, perhaps with a lock it waits for."""
        self.kill()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block what stops a run, in this thread and in the processes that it starts meanwhile."""
    if sys.platform == "win32":
        yield
        return
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Hide the script that runs: a new process would run it again, and perhaps count again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _Context(SpawnContext):  # a process that uses CUDA cannot be forked
    Process = _Process


class ReadingProcesses:
    """Reads jobs with a fixed number of tiles; `slots` images may be held at a time."""

    def __init__(self, processes: int, slots: int, tiles: int, windows: WindowConfig) -> None:
        """Raises OSError if there is no room for the memory."""
        processes = min(processes, _MAX_PROCESSES)
        each_bytes = slot_bytes(tiles * windows.side_px)
        memory = _shared(slots * each_bytes)
        self._memory = _slots(memory, each_bytes)
        self._free = list(range(slots))
        budget_bytes = max(_LEAST_BUDGET_BYTES, DECODE_BUDGET_BYTES // processes)
        setup = _Setup(memory, each_bytes, budget_bytes, tiles, windows)
        self.pool = ProcessPoolExecutor(processes, _Context(), _start, (setup,))

    def take_slot(self) -> int:
        """A free place in the shared memory."""
        return self._free.pop()

    def free_slot(self, slot: int) -> None:
        """Let another image use this place."""
        self._free.append(slot)

    def task(self, job: Job, slot: int) -> Callable[[], Read]:
        """What `pool` is to run; the pixels are then found by `found`."""
        return partial(_read, job, slot)

    def found(self, slot: int, shape: tuple[int, ...]) -> Pixels:
        """The pixels (H, W, 3) that were read."""
        return _in_slot(self._memory, slot, shape)

    def close(self) -> None:
        """End the processes once each has finished its image."""
        self.pool.shutdown(cancel_futures=True)


def _shared(size_bytes: int) -> Arena:
    """Memory to share; without space on its disk set aside, writing to it could kill a process."""
    memory = Arena(size_bytes)
    if sys.platform == "linux":
        os.posix_fallocate(memory.fd, 0, size_bytes)
    return memory


def _slots(memory: Arena, each_bytes: int) -> NDArray[np.uint8]:
    return np.frombuffer(memory.buffer, np.uint8).reshape(-1, each_bytes)


def _in_slot(memory: NDArray[np.uint8], slot: int, shape: tuple[int, ...]) -> Pixels:
    return memory[slot, : math.prod(shape)].reshape(shape)


class _Setup(NamedTuple):
    """What a new process is given."""

    memory: Arena  # shared, of all slots
    slot_bytes: int
    budget_bytes: int  # for decoding an image
    tiles: int
    windows: WindowConfig


class _Reader(NamedTuple):
    """What a process keeps from one image to the next."""

    memory: NDArray[np.uint8]  # (slots, bytes)
    tiles: int
    windows: WindowConfig
    stacks: OpenStacks


_reader: _Reader


def _start(setup: _Setup) -> None:
    """Prepare a new process, which must not outlive the one that started it."""
    global _reader
    for number in _STOP_SIGNALS:  # the first process decides when to stop
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    console.silence_pillow()
    decode_budget.restrict(setup.budget_bytes)
    memory = _slots(setup.memory, setup.slot_bytes)
    _reader = _Reader(memory, setup.tiles, setup.windows, OpenStacks())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _read(job: Job, slot: int) -> Read:
    memory, tiles, windows, stacks = _reader
    try:
        photo = read(job, stacks)
        pixels = resize_shorter_side(photo.source, tiles * windows.side_px)
    except OverBudgetError:
        return Read()
    except Exception as error:  # as text: not every exception can be sent to another process
        return Read(fault=fault_of(error))
    if pixels.nbytes > memory.shape[1]:
        return Read()
    _in_slot(memory, slot, pixels.shape)[:] = pixels
    prepared = Prepared.of(photo, tiles, size_notice(min(photo.size), tiles, windows.side_px))
    return Read(prepared, pixels.shape)
