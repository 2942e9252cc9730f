"""What `download-weights --info` prints of weights."""

from __future__ import annotations

import re

from clipcount_cli.weights import cache, checkpoint
from clipcount_cli.weights.describe import info_lines


def test_parameters_are_those_of_the_network_without_its_fixed_tensors():
    model, _ = checkpoint.load(cache.find("tiny"))

    printed = dict(line.split(": ", 1) for line in info_lines("tiny") if ": " in line)

    held = sum(parameter.numel() for parameter in model.parameters())
    assert printed["parameters"] == f"{held:,}"
    assert any(True for _ in model.buffers())
    card = cache.find("tiny").with_name("MODEL_CARD.md").read_text(encoding="utf-8")
    millions = re.search(r"Parameters, file \| ([\d.]+) million", card)
    assert millions
    assert float(millions[1]) == round(held / 1e6, 1)
