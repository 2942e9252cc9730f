"""Processes that read images into memory that they share with this one.

readers.py -> [reading_processes.py] -> reading.py
Threads that read small images hinder each other and the thread that feeds a GPU, since each holds
the interpreter's lock now and then: on 16 cores, 4 of them read 335 images/s, 16 of them 256.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.connection import wait
from typing import Any, NamedTuple

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


class Read(NamedTuple):
    """An image that was read, or why not; both None: too large for these processes."""

    prepared: Prepared | None = None
    pixels: Pixels | tuple[int, ...] | None = None  # their shape, if they lie in the slot
    fault: str = ""


def slot_bytes(side_px: int) -> int:
    """Memory for an image whose shorter side is `side_px`; wider ones are sent by other means."""
    return 3 * side_px * _MAX_ASPECT * side_px


class ReadingProcesses:
    """Reads jobs with a fixed number of tiles; `slots` images may be held at a time."""

    def __init__(self, processes: int, slots: int, tiles: int, windows: WindowConfig) -> None:
        """Raises OSError if there is no room for the memory."""
        spawn = multiprocessing.get_context("spawn")  # a process that uses CUDA cannot be forked
        each_bytes = slot_bytes(tiles * windows.side_px)
        memory = spawn.RawArray(ctypes.c_uint8, slots * each_bytes)
        self._memory = _slots(memory, each_bytes)
        self._free = list(range(slots))
        setup = _Setup(memory, each_bytes, DECODE_BUDGET_BYTES // processes, tiles, windows)
        self.pool = ProcessPoolExecutor(processes, spawn, _start, (setup,))

    def take_slot(self) -> int:
        """A free place in the shared memory."""
        return self._free.pop()

    def free_slot(self, slot: int) -> None:
        """Let another image use this place."""
        self._free.append(slot)

    def task(self, job: Job, slot: int) -> Callable[[], Read]:
        """What `pool` is to run; `pixels` of its result are found by `found`."""
        return partial(_read, job, slot)

    def found(self, slot: int, pixels: Pixels | tuple[int, ...]) -> Pixels:
        """The pixels (H, W, 3) that were read."""
        if isinstance(pixels, np.ndarray):
            return pixels
        return _in_slot(self._memory, slot, pixels)

    def close(self) -> None:
        """End the processes once each has finished its image."""
        self.pool.shutdown(cancel_futures=True)


def _slots(memory: Any, each_bytes: int) -> NDArray[np.uint8]:
    return np.frombuffer(memory, np.uint8).reshape(-1, each_bytes)


def _in_slot(memory: NDArray[np.uint8], slot: int, shape: tuple[int, ...]) -> Pixels:
    return memory[slot, : math.prod(shape)].reshape(shape)


class _Setup(NamedTuple):
    """What a new process is given."""

    memory: Any  # shared, of all slots
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
    for number in (signal.SIGINT, signal.SIGTERM):  # the first process decides when to stop
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
    prepared = Prepared.of(photo, tiles, size_notice(min(photo.size), tiles, windows.side_px))
    if pixels.nbytes > memory.shape[1]:
        return Read(prepared, pixels)
    _in_slot(memory, slot, pixels.shape)[:] = pixels
    return Read(prepared, pixels.shape)
