"""Step after step: prefetch, validate, log, save, stop when requested; and resume after any of it.

losses.py -> step.py -> [loop.py] -> run.py. `fit` serves `train`, whose batches come from images,
and scripts/make_tiny.py, whose batches are rendered without end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from clipcount_cli import console, distributed
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.devices import is_out_of_memory
from clipcount_cli.errors import ClipCountError, InterruptedRunError, TrainingError, quantity
from clipcount_cli.interrupts import Interruption, interruptible
from clipcount_cli.training.prefetch import Batches, prefetched
from clipcount_cli.training.run_folder import LogRow, RunFolder, best_row
from clipcount_cli.training.step import Batch, Trainer

LOOK_EVERY = 10  # steps from one look at the losses to the next, on a device that must not wait
DRAW_EVERY_S = 60  # drawing takes half a second

Validate = Callable[[ClipCount], LogRow]  # must give "val_mae"; runs in every process
SaveWeights = Callable[[ClipCount, Path], None]


@dataclass
class Progress:
    """The state of a run besides the trainer: finished epochs, and the sums of this one."""

    rows: list[LogRow] = field(default_factory=list)
    best_mae: float = float("inf")
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0
    images: int = 0

    def add(self, losses: Mapping[str, float], images: int) -> None:
        """Take one step's losses."""
        self.images += images
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def finish_epoch(self, epoch: int, step: int, rate: float) -> LogRow:
        """The epoch's row; the sums restart from zero."""
        row: LogRow = {"epoch": epoch, "step": step, "learning_rate": rate}
        row |= {name: total / self.counts[name] for name, total in self.sums.items()}
        if self.seconds:
            row["images_per_s"] = self.images / self.seconds
            row["waiting"] = self.waited / self.seconds
        row["seconds"] = self.seconds
        self.sums, self.counts, self.seconds, self.waited, self.images = {}, {}, 0.0, 0.0, 0
        return row


def fit(
    trainer: Trainer,
    batches: Batches,
    folder: RunFolder,
    save_weights: SaveWeights,
    validate: Validate | None = None,
    validate_every: int = 1,
    save_every_s: float = 600.0,
) -> list[LogRow]:
    """Train to the plan's end, from `folder`'s checkpoint if there is one.

    Returns a row per epoch. Raises InterruptedRunError on a request to stop, TrainingError if the
    loss is no longer a number; the checkpoint is saved in both cases.
    """
    run = _Run(trainer, folder, save_weights, validate, validate_every, save_every_s)
    run.resume()
    try:
        with interruptible() as interruption:
            run.train(batches, interruption)
    except InterruptedRunError as error:
        raise InterruptedRunError(
            f"stopped at epoch {trainer.epoch + 1}, step {trainer.step_number}; all is saved",
            hint=f"continue with `clipcount train --resume {folder.path}`",
        ) from error
    return run.progress.rows


@dataclass
class _Run:
    trainer: Trainer
    folder: RunFolder
    save_weights: SaveWeights
    validate: Validate | None
    validate_every: int
    save_every_s: float
    progress: Progress = field(default_factory=Progress)
    saved_at: float = field(default_factory=time.monotonic)
    drawn_at: float = -math.inf

    def resume(self) -> None:
        """Load the folder's checkpoint, or save the first one: a run can always be resumed."""
        if self.folder.checkpoint.exists():
            state = self.folder.load_state()
            self.progress = Progress(**state.pop("progress"))
            self.trainer.load_state(state)
        else:
            self._save()
        if distributed.is_first():
            self.folder.update_log(self.progress.rows)

    def train(self, batches: Batches, interruption: Interruption) -> None:
        trainer, plan = self.trainer, self.trainer.plan
        ahead = prefetched(batches, trainer, plan.steps)
        with console.progress("training", plan.steps, "steps") as bar, ahead as prepared:
            bar.start_at(trainer.step_number, plan.steps)
            self._finish_epoch(interruption, bar)  # if the run was stopped while it validated
            while trainer.step_number < plan.steps:
                self._step(prepared)
                if self._looks():
                    bar.advance(note=self._read())
                    stopped, late = self._agree(interruption.requested)
                    if stopped or late:
                        self._save()
                    if stopped:
                        raise InterruptedRunError("")
                else:
                    bar.advance()
                self._finish_epoch(interruption, bar)

    def _step(self, prepared: Iterator[Batch]) -> None:
        started = time.perf_counter()
        batch = next(prepared)
        self.progress.waited += time.perf_counter() - started
        with self._saving_what_was_learnt(len(batch.windows)):
            self.trainer.step(batch)
        self.progress.seconds += time.perf_counter() - started

    def _looks(self) -> bool:
        """Whether to wait for the device and for other processes now, and read the losses."""
        step, plan = self.trainer.step_number, self.trainer.plan
        return not self.trainer.defers or step % LOOK_EVERY == 0 or step % plan.steps_per_epoch == 0

    def _read(self) -> str:
        """Add the losses of the last steps to the epoch's; returns a line about the last one."""
        started = time.perf_counter()
        with self._saving_what_was_learnt(self.trainer.config.batch):
            finished = self.trainer.read()
        for losses, images in finished:
            self.progress.add(losses, images)
        self.progress.seconds += time.perf_counter() - started
        plan = self.trainer.plan
        epoch = (self.trainer.step_number - 1) // plan.steps_per_epoch + 1
        return f"epoch {epoch}, loss {finished[-1][0]['loss']:.4g}"

    @contextmanager
    def _saving_what_was_learnt(self, images: int) -> Iterator[None]:
        """Save before a training that cannot continue ends; advise on full memory."""
        try:
            yield
        except TrainingError:
            self._save()
            raise
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"the memory of {self.trainer.device} does not hold a batch of "
                f"{quantity(images, 'image')}",
                hint=f"lower --batch (it was {self.trainer.config.batch}) or --target-side-px",
            ) from error

    def _agree(self, stop: bool) -> tuple[bool, bool]:
        """Whether any process was requested to stop, and whether it is time to save."""
        late = time.monotonic() - self.saved_at > self.save_every_s
        flags = distributed.gather((stop, late))
        return any(each[0] for each in flags), any(each[1] for each in flags)

    def _finish_epoch(self, interruption: Interruption, bar: console.ProgressBar) -> None:
        """Validate, log and save if an epoch has just ended and is not logged yet."""
        trainer, plan = self.trainer, self.trainer.plan
        epoch, rest = divmod(trainer.step_number, plan.steps_per_epoch)
        if rest or epoch == len(self.progress.rows):
            return
        due = epoch % self.validate_every == 0 or epoch == plan.epochs
        measured: LogRow = {}
        if due and self.validate is not None:
            self._save()  # validation may take long, and may be stopped
            bar.advance(0, note=f"epoch {epoch}, validating")
            with interruption.at_once(), trainer.averaged() as model:
                measured = self.validate(model)
        rate = trainer.optimizer.param_groups[0]["lr"]
        row = self.progress.finish_epoch(epoch, trainer.step_number, rate) | measured
        self.progress.rows.append(row)
        better = row.get("val_mae", float("inf")) < self.progress.best_mae
        if better:
            self.progress.best_mae = row["val_mae"]
        self._keep(better, due)
        if due and not bar.drawn and distributed.is_first():
            console.notice(epoch_in_words(self.progress.rows, plan.epochs))

    def _keep(self, better: bool, due: bool) -> None:
        """Weights first, then the checkpoint that knows them, then the row that states it."""
        first = distributed.is_first()
        # Without a validation there is no better number than "the latest".
        if first and (better or (self.validate is None and due)):
            with self._resumable(), self.trainer.averaged() as model:
                self.save_weights(model, self.folder.best)
        if due:
            self._save()
        if not first:
            return
        self.folder.update_log(self.progress.rows)
        ended = len(self.progress.rows) == self.trainer.plan.epochs
        if ended or (due and time.monotonic() - self.drawn_at > DRAW_EVERY_S):
            self.folder.draw_curves(self.progress.rows)
            self.drawn_at = time.monotonic()

    def _save(self) -> None:
        """Save the checkpoint first: if writing the weights fails, the run can still be resumed.

        The other processes wait for it, however long it takes.
        """
        self.saved_at = time.monotonic()
        if distributed.is_first():
            with self._resumable():
                self.folder.save_state({**self.trainer.state(), "progress": vars(self.progress)})
                with self.trainer.averaged() as model:
                    self.save_weights(model, self.folder.last)
        distributed.barrier()

    @contextmanager
    def _resumable(self) -> Iterator[None]:
        """Add the command that continues the run to the error of a file that cannot be written."""
        try:
            yield
        except ClipCountError as error:
            raise TrainingError(
                str(error),
                hint="close the program that has the file open, or make room, then continue with "
                f"`clipcount train --resume {self.folder.path}`",
            ) from error


def epoch_in_words(rows: Sequence[LogRow], epochs: int) -> str:
    """The last epoch in a line: its losses, its validation error, and the best one so far."""
    row, best = rows[-1], best_row(rows)
    words = f"epoch {row['epoch']:.0f} of {epochs}: loss {row.get('loss', math.nan):.4g}"
    if "val_mae" in row:
        words += f", MAE {row['val_mae']:.2f}"
    if best is not None:
        words += f", best {best['val_mae']:.2f} at epoch {best['epoch']:.0f}"
    return words
