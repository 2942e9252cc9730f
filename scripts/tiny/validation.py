"""Errors on annotated photos kept out of training, as the training's log wants them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.model import ClipCount
from tiny.photos import Photo

MAX_ABSENT = 2  # prompts per photo


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
