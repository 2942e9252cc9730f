"""Validation during a training: the figures that `eval` would print for the weights as they are.

evaluation -> [validation.py] -> run.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import torch

from clipcount_cli.batch.plan import Job
from clipcount_cli.batch.request import BatchRequest
from clipcount_cli.batch.run import default_pipeline
from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.images import DecodedImage
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.counting.packed import packed
from clipcount_cli.data.samples import Prepared, Sample, by_image
from clipcount_cli.devices import dtype_of
from clipcount_cli.evaluation.evaluate import (
    Question,
    evaluate,
    failed_rows,
    gathered,
    share_of,
)
from clipcount_cli.evaluation.metrics import EvalRow, Metrics
from clipcount_cli.training.loop import Validate
from clipcount_cli.training.photos import TrainingImage
from clipcount_cli.training.run_folder import LogRow
from clipcount_cli.weights import checkpoint

CHECKED_IMAGES = 64  # also queried for absent classes: on FSC-147, 28 more prompts each


def validation_of(
    samples: Sequence[Sample],
    images: Sequence[TrainingImage],
    precision: str,
    tiles: int = 1,
    checked_images: int = CHECKED_IMAGES,
) -> Validate:
    """What measures a network on `samples`, whose pixels `images` hold, in `precision`.

    The prompt check, which queries every absent class, takes the same few images each time.
    tiles: how many times 384 px the shorter side of the images has.
    """
    by_source = {image.source: image for image in images}
    pictures = by_image(samples)
    step = max(1, -(-len(pictures) // checked_images))  # spread: classes often lie in order
    few = [s for picture in pictures[::step] for s in picture]
    others = [s for n, picture in enumerate(pictures) if n % step for s in picture]

    def load(same_image: Sequence[Sample]) -> list[Prepared]:
        return by_source[same_image[0].source].prepared(same_image)

    def validate(model: ClipCount) -> LogRow:
        counter = Counter(as_loaded(model, precision), "training", "", precision)
        count = evaluate if counter.device.type == "cpu" else evaluate_in_full_batches
        rows = [
            row
            for part, checked in ((few, True), (others, False))
            for row in gathered(count(counter, part, checked, load, tiles))
        ]
        metrics = Metrics.of(rows)
        values = {name: getattr(metrics, name) for name in ("mae", "rmse", "nmn", "pccn")}
        return {f"val_{name}": value for name, value in values.items() if value is not None}

    return validate


def evaluate_in_full_batches(
    counter: Counter,
    samples: Sequence[Sample],
    prompt_check: bool,
    load: Callable[[Sequence[Sample]], list[Prepared]],
    tiles: int,
) -> Iterator[list[EvalRow]]:
    """As `evaluate`, for a GPU: windows of several images, and their prompts, share its batches.

    Counts differ from those of `evaluate` by the rounding of another batch and order of sums.
    """
    share, classes = share_of(samples, prompt_check)
    questions = [Question.of(picture, load(picture), classes) for picture in share]
    pipeline = default_pipeline(BatchRequest([], "-", tiles=tiles), counter)
    pipeline.judges = False
    pipeline.read = lambda job: DecodedImage(questions[int(job.path)].pixels)
    jobs = [
        Job(question.picture[0].name, str(number), tuple(question.prompts))
        for number, question in enumerate(questions)
    ]
    with closing(pipeline.run(jobs, lambda: False)) as outcomes:
        for question, outcome in zip(questions, outcomes, strict=True):
            if outcome.fault:
                yield failed_rows(question.picture, outcome.fault)
            else:
                counts = dict(zip(question.prompts, outcome.counts, strict=True))
                notice = counter.size_notice(question.pixels, tiles)
                yield question.rows(counts, tiles, notice.brief if notice else "")


def as_loaded(model: ClipCount, precision: str) -> ClipCount:
    """The network as `load_counter` would load it: all that is saved in the working precision.

    Autocast, which trains it, rounds at other places, and its counts differ.
    """
    dtype = dtype_of(precision)
    if dtype == torch.float32:
        return model
    state = {
        name: tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in model.state_dict().items()
    }
    loaded = checkpoint.empty_model(model.config)
    loaded.load_state_dict(state, assign=True)
    return packed(loaded.eval().to(model.patch_proj.weight.device))
