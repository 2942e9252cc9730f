"""Errors on annotated photos kept out of training, and the shift of relevance chosen by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.model import ClipCount
from tiny.photos import Photo

MAX_ABSENT = 2  # prompts per photo
MIN_COUNT = 3  # rarer nouns of a photo are left out, unless it shows no other
SHIFTS = tuple(0.35 * step for step in range(7))  # of relevance, tried
NO_WORSE = 1.03  # ratio of errors that are as good as equal; absent things in scenes gain from it


def validation(photos: Sequence[Photo]) -> Callable[[ClipCount], dict[str, float]]:
    """Count what each photo shows, and two things that it does not show."""
    pixels = [np.asarray(photo.read()) for photo in photos]

    def validate(model: ClipCount) -> dict[str, float]:
        counter = Counter(model, "tiny", "0" * 64, "bf16")
        errors, relative, wrong = [], [], []
        for photo, image in zip(photos, pixels, strict=True):
            number_of = {noun: len(points) for noun, points in photo.points_px.items()}
            nouns = shown_nouns(number_of)
            truths = np.array([number_of[noun] for noun in nouns])
            with torch.autocast(counter.device.type, torch.bfloat16):
                results = counter.count(image, [*nouns, *photo.absent[:MAX_ABSENT]])
            counts = np.array([result.count for result in results])
            errors += [*(counts[: len(nouns)] - truths)]
            relative += [*(abs(counts[: len(nouns)] - truths) / truths)]
            wrong += [*(counts[len(nouns) :] / truths.max())]
        return {
            "val_mae": float(np.abs(errors).mean()),
            "val_rmse": float(np.sqrt(np.square(errors).mean())),
            "val_relative": float(np.median(relative)),
            "val_nae": float(np.mean(relative)),
            "val_nmn": float(np.mean(wrong)),
        }

    return validate


def shown_nouns(number_of: Mapping[str, int]) -> list[str]:
    """What a photo shows several of, or else its first noun."""
    several = [noun for noun, number in number_of.items() if number >= MIN_COUNT]
    return several or list(number_of)[:1]


def calibrated_shift(model: ClipCount, photos: Sequence[Photo]) -> float:
    """The smallest shift that is as good as the best: right prompts err, absent ones count, little.

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
        errors[shift] = row["val_nae"] + row["val_nmn"]
    model.config = config
    least = min(errors.values())
    return min(shift for shift, error in errors.items() if error <= NO_WORSE * least)
