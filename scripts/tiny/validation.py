"""Errors on annotated photos kept out of training, and the shift of relevance chosen by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.model import ClipCount
from tiny.photos import Photo

MAX_ABSENT = 2  # prompts per photo
SHIFTS = (0.0, 0.7, 1.4, 2.1)  # of relevance, tried
NO_WORSE = 1.02  # ratio of errors that are as good as equal
MAX_WRONG = 0.15  # what absent prompts may count as, a share of the true count


def validation(photos: Sequence[Photo]) -> Callable[[ClipCount], dict[str, float]]:
    """Count what each photo shows most of, and two things that it does not show."""
    pixels = [np.asarray(photo.read()) for photo in photos]

    def validate(model: ClipCount) -> dict[str, float]:
        counter = Counter(model, "tiny", "0" * 64, "bf16")
        errors, relative, wrong = [], [], []
        for photo, image in zip(photos, pixels, strict=True):
            prompt = max(photo.points_px, key=lambda noun: len(photo.points_px[noun]))
            truth = len(photo.points_px[prompt])
            with torch.autocast(counter.device.type, torch.bfloat16):
                results = counter.count(image, [prompt, *photo.absent[:MAX_ABSENT]])
            counts = [result.count for result in results]
            errors.append(counts[0] - truth)
            relative.append(abs(counts[0] - truth) / truth)
            wrong += [count / truth for count in counts[1:]]
        return {
            "val_mae": float(np.abs(errors).mean()),
            "val_rmse": float(np.sqrt(np.square(errors).mean())),
            "val_relative": float(np.median(relative)),
            "val_nmn": float(np.mean(wrong)),
        }

    return validate


def calibrated_shift(model: ClipCount, photos: Sequence[Photo]) -> float:
    """The smallest shift that is as good as the best, of those that count little of what is absent.

    Training shows many absent prompts, and nouns that drawings made clear: on photos, where nouns
    are less clear, the network counts too little.
    """
    if not photos:
        return SHIFTS[0]
    validate, config = validation(photos), model.config
    errors: dict[float, float] = {}
    for shift in SHIFTS:
        model.config = replace(config, relevance_shift=shift)
        row = validate(model)
        if row["val_nmn"] <= MAX_WRONG or not errors:
            errors[shift] = row["val_mae"]
    model.config = config
    least = min(errors.values())
    return min(shift for shift, error in errors.items() if error <= NO_WORSE * least)
