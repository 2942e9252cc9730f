"""Windows and prompts of several images fill the batches that the network is called with.

pipeline.py -> [network_calls.py] -> fixed_batch.py
Windows are encoded once per image, then pairs of a window and a prompt are decoded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar, cast

from clipcount_cli.batch.fixed_batch import Decoded, FixedBatch
from clipcount_cli.batch.in_flight import FoundRow, ImageInFlight, Pair, Window
from clipcount_cli.batch.tasks import Stage, Tasks
from clipcount_cli.counting.model import PatchFeatures
from clipcount_cli.counting.windows import Pixels

_T = TypeVar("_T")

BATCH_WAIT_S = 2.0  # how long a batch that is not full waits for more images
JOINS_AHEAD = 2  # batches of densities that may wait to be joined


class NetworkCalls:
    """The stage that encodes and decodes; calls `on_found` with all windows of a prompt."""

    def __init__(
        self,
        network: FixedBatch,
        tasks: Tasks,
        threads: ThreadPoolExecutor,
        max_calls: int,
        with_densities: bool,
        on_found: Callable[[ImageInFlight, int, list[FoundRow]], None],
    ) -> None:
        self.network, self.tasks, self.threads = network, tasks, threads
        self.max_calls, self.with_densities, self.on_found = max_calls, with_densities, on_found
        self._windows: deque[Window] = deque()  # to encode
        self._pairs: deque[Pair] = deque()  # to decode
        self._last_call = time.monotonic()

    def add(self, image: ImageInFlight) -> None:
        """Queue the windows of an image."""
        if not self._windows:
            self._last_call = time.monotonic()  # the first to wait starts the clock
        windows = range(len(image.origins))
        self._windows.extend(Window(image, number) for number in windows)

    def feed(self) -> None:
        """Call the network for every full batch; for a smaller one if nothing else will come."""
        while self.tasks.pending(Stage.NETWORK) < self.max_calls:
            size = self.network.size
            if self.tasks.pending(Stage.JOIN) > JOINS_AHEAD * size:
                return
            at_end = self._nothing_else_comes()
            if len(self._pairs) >= size or (at_end and self._pairs and not self._windows):
                pairs = _take(self._pairs, size)
                self._call(partial(self._decode, pairs), partial(self._on_decoded, pairs))
            elif len(self._windows) >= size or (at_end and self._windows):
                windows = _take(self._windows, size)
                self._call(partial(self._encode, windows), partial(self._on_encoded, windows))
            else:
                return

    def _nothing_else_comes(self) -> bool:
        """Whether no task will fill up a batch, or images have been read for too long."""
        patient = time.monotonic() - self._last_call < BATCH_WAIT_S
        reading = self.tasks.pending(Stage.READ) and patient
        return not (self.tasks.pending(Stage.NETWORK) or self.tasks.pending(Stage.JOIN) or reading)

    def _call(self, task: Callable[[], _T], then: Callable[[_T], None]) -> None:
        def on_done(done: Future[_T]) -> None:
            then(done.result())

        self._last_call = time.monotonic()
        self.tasks.submit(Stage.NETWORK, self.threads, task, on_done)

    def _encode(self, windows: list[Window]) -> PatchFeatures:
        sources = [cast(Pixels, image.source) for image, _ in windows]
        origins = [image.origins[number] for image, number in windows]
        return self.network.encode(list(zip(sources, origins, strict=True)))

    def _on_encoded(self, windows: list[Window], features: PatchFeatures) -> None:
        for row, (image, number) in enumerate(windows):
            image.features[number] = (features, row)
            if len(image.features) == len(image.origins):
                image.source = None
                # One prompt after the other: few prompts' densities wait to be joined.
                self._pairs.extend(
                    Pair(image, prompt, window)
                    for prompt in range(len(image.prompts))
                    for window in range(len(image.origins))
                )

    def _decode(self, pairs: list[Pair]) -> Decoded:
        on_gpu = self.network.on_gpu
        return self.network.decode(
            [image.features[window] for image, _, window in pairs],
            [image.prompts[prompt] for image, prompt, _ in pairs],
            [image.weights[window] for image, _, window in pairs] if on_gpu else [],
            self.with_densities,
        )

    def _on_decoded(self, pairs: list[Pair], decoded: Decoded) -> None:
        for number, (image, prompt, window) in enumerate(pairs):
            windows = image.found.setdefault(prompt, {})
            windows[window] = FoundRow(decoded, number)
            if len(windows) == len(image.origins):
                del image.found[prompt]
                self.on_found(image, prompt, [windows[n] for n in range(len(windows))])


def _take(waiting: deque[_T], most: int) -> list[_T]:
    return [waiting.popleft() for _ in range(min(most, len(waiting)))]
