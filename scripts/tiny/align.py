"""Teach the image's vectors their nouns: of all names of the bank, the right ones resemble most."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipcount_cli.counting.recognition import Evidence
from tiny.bank import Bank

ALIGNED_SOURCES = (0, 1)  # a patch's own vector, and its group's
KIND_WEIGHT = 0.3
NEVER = -1e4


class Names:
    """Every name of the bank's nouns as a row: which are right for a noun, which could be."""

    def __init__(self, bank: Bank) -> None:
        self.nouns = bank.nouns
        self.rows = list(dict.fromkeys([*bank.nouns, *_others(bank)]))
        self.kinds = sorted({kind for noun in bank.nouns for kind in bank.kinds(noun)})
        right, open_, of_kind = [], [], []
        for noun in bank.nouns:
            same = {name for other in bank.nouns if bank.may_be_same(noun, other)
                    for name in bank.names(other)}  # fmt: skip
            own, kinds = set(bank.names(noun)), set(bank.kinds(noun))
            right.append([name in own for name in self.rows])
            open_.append([name not in own and name in (same | kinds) for name in self.rows])
            of_kind.append([kind in kinds for kind in self.kinds])
        self.right = torch.tensor(right)  # (K, R)
        self.open = torch.tensor(open_)  # (K, R): neither right nor wrong
        self.of_kind = torch.tensor(of_kind)  # (K, kinds)

    def to(self, device: torch.device) -> Names:
        """The same names, their tables on `device`."""
        self.right, self.open, self.of_kind = (
            table.to(device) for table in (self.right, self.open, self.of_kind)
        )
        return self


def _others(bank: Bank) -> list[str]:
    return [name for noun in bank.nouns for name in bank.names(noun)[1:]]


def label_weights(labels: Tensor, images: int) -> Tensor:
    """Weigh an image's labels (L, ...) by one over the root of their number: crowds do not rule."""
    image = labels[:, 0]
    ones = torch.ones(len(labels), device=labels.device)
    per_image = torch.zeros(images, device=labels.device).index_add(0, image, ones)
    return per_image[image].rsqrt()


def alignment_losses(
    evidence: Evidence, labels: Tensor, names: Names, rows: Tensor, kinds: Tensor, tau: Tensor
) -> Tensor:
    """Cross-entropy of each label among all names, and of its kind among all kinds: (L,).

    labels: (L, 3) int64 of image, patch and noun; rows, kinds: text vectors of `names`; tau: (3,).
    """
    image, patch, noun = labels.unbind(1)
    right, open_, of_kind = names.right[noun], names.open[noun], names.of_kind[noun]
    has_kind = of_kind.any(dim=1)
    total = torch.zeros(len(labels), device=labels.device)
    for source in ALIGNED_SOURCES:
        vectors = evidence.vectors[image, patch, source]  # (L, C)
        logits = (vectors @ rows.T / tau[source]).masked_fill(open_, NEVER)
        total = total + _cross_entropy(logits, right)
        of_kinds = _cross_entropy(vectors @ kinds.T / tau[source], of_kind)
        total = total + KIND_WEIGHT * torch.where(has_kind, of_kinds, 0.0)
    return total / len(ALIGNED_SOURCES)


def _cross_entropy(logits: Tensor, right: Tensor) -> Tensor:
    """Minus the log of the probability of all right ones together: (L, R), (L, R) bool -> (L,)."""
    return logits.logsumexp(dim=-1) - logits.masked_fill(~right, NEVER).logsumexp(dim=-1)


def noun_rows(names: Sequence[str]) -> dict[str, int]:
    """The place of each noun in the bank."""
    return {name: row for row, name in enumerate(names)}
