"""The authors' own evaluation of three small data sets, reproduced to the last figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipcount_cli.data.datasets import load_dataset
from clipcount_cli.evaluation.evaluate import evaluate, gathered
from clipcount_cli.evaluation.metrics import Metrics

pytestmark = pytest.mark.slow

MINI = Path(__file__).parents[1] / "golden" / "mini"
RECORDED = json.loads((MINI / "upstream_eval.json").read_text())
SPLITS = {
    "fsc147_val": ("fsc147", None, "val"),
    "fsc147_test": ("fsc147", None, "test"),
    "carpk_test": ("CARPK", None, "test"),
    "shanghaitech_A_test": ("ShanghaiTech", "A", "test"),
    "shanghaitech_B_test": ("ShanghaiTech", "B", "test"),
}


@pytest.mark.parametrize("name", SPLITS)
def test_figures_are_those_the_authors_code_computed(name, released_counter):
    folder, part, split = SPLITS[name]
    dataset = load_dataset(MINI / folder, part, [split])

    rows = gathered(evaluate(released_counter, dataset.split(split)))

    figures = Metrics.of(rows)
    assert f"{dataset.name}_{split}" == name
    assert figures.mae == pytest.approx(RECORDED[name]["mae"], rel=1e-3)
    assert figures.rmse == pytest.approx(RECORDED[name]["rmse"], rel=1e-3)
    for row in rows:
        recorded = RECORDED[name]["images"]
        count, truth = recorded.get(row.image) or recorded[row.path.stem]
        assert row.count == pytest.approx(count, rel=1e-4)
        assert row.truth == round(truth)
