"""A network of some thousand parameters and a folder of drawn dots, for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_models import save_small
from small_training import draw_dots

from clipcount_cli.training.run_folder import RunFolder


@pytest.fixture(autouse=True)
def _no_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than such a training, so only the test of the curves draws."""
    if "curves" not in request.node.name:
        monkeypatch.setattr(RunFolder, "draw_curves", lambda folder, rows: None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return draw_dots(tmp_path / "data", 12)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_small(tmp_path / "small.safetensors")
