"""Where images are read: in threads, and in a long run in processes.

pipeline.py -> [readers.py] -> reading_processes.py
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from clipcount_cli import console
from clipcount_cli.batch.in_flight import ImageInFlight
from clipcount_cli.batch.plan import Job
from clipcount_cli.batch.reading import Prepared, fault_of
from clipcount_cli.batch.reading_processes import Read, ReadingProcesses
from clipcount_cli.batch.tasks import Stage, Tasks
from clipcount_cli.counting.windows import Pixels

PROCESSES_FROM = 256  # images, which threads read: a short run ends before processes have started


class Readers:
    """Has images read; calls `on_read` with what was found, or `on_fault` with why not.

    start_processes: called once the run is known to be long; may return None.
    """

    def __init__(
        self,
        tasks: Tasks,
        threads: ThreadPoolExecutor,
        prepare: Callable[[Job], tuple[Prepared, Pixels]],
        start_processes: Callable[[], ReadingProcesses | None],
        on_read: Callable[[ImageInFlight, Prepared, Pixels], None],
        on_fault: Callable[[ImageInFlight, str], None],
    ) -> None:
        self._tasks, self._threads, self._prepare = tasks, threads, prepare
        self._start_processes = start_processes
        self._processes: ReadingProcesses | None = None
        self._on_read, self._on_fault = on_read, on_fault
        self._slots: dict[int, int] = {}  # of images in the processes' memory, by their places

    def read(self, image: ImageInFlight) -> None:
        """Start reading an image."""
        if image.place == PROCESSES_FROM:
            self._processes = self._start_processes()
        if self._processes is None:
            self._read_in_thread(image)
        else:
            self._read_in_process(image, self._processes)

    def release(self, image: ImageInFlight) -> None:
        """Let the memory of an image be used for another one."""
        slot = self._slots.pop(image.place, None)
        if slot is not None and self._processes is not None:
            self._processes.free_slot(slot)

    def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            self._processes.close()

    def _read_in_thread(self, image: ImageInFlight) -> None:
        def on_done(done: Future[tuple[Prepared, Pixels]]) -> None:
            image.reading = None
            if error := done.exception():
                self._on_fault(image, fault_of(error))
            else:
                self._on_read(image, *done.result())

        task = partial(self._prepare, image.job)
        image.reading = self._tasks.submit(Stage.READ, self._threads, task, on_done)

    def _read_in_process(self, image: ImageInFlight, processes: ReadingProcesses) -> None:
        slot = self._slots[image.place] = processes.take_slot()

        def on_done(done: Future[Read]) -> None:
            image.reading = None
            if isinstance(done.exception(), BrokenProcessPool):
                self._abandon(processes)
                self._read_in_thread(image)
                return
            prepared, shape, fault = done.result()
            if fault:
                self._on_fault(image, fault)
            elif prepared is None:
                self._read_in_thread(image)
            else:
                self._on_read(image, prepared, processes.found(slot, shape))

        task = processes.task(image.job, slot)
        try:
            image.reading = self._tasks.submit(Stage.READ, processes.pool, task, on_done)
        except (RuntimeError, OSError):  # one has died, or none can be started
            self._abandon(processes)
            self._read_in_thread(image)

    def _abandon(self, processes: ReadingProcesses) -> None:
        """Let threads read from now on."""
        if self._processes is processes:
            self._processes = None
            processes.pool.shutdown(wait=False)  # what is read already may still arrive
            console.warn("a process that reads images ended abruptly: threads read from now on")
