"""A weights folder for each test, and small files of every kind to fill it from."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file
from shrunken import clip_tensors, save_head
from torch import Tensor

from clipcount_cli.errors import DownloadError
from clipcount_cli.weights import checkpoint, hub
from clipcount_cli.weights.upstream import Imported, import_released

ORIGIN = {"name": "small", "licence": "MIT", "sources": [{"file": "head.ckpt", "sha256": "0" * 64}]}
WriteCheckpoint = Callable[..., Path]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder of its own for each test, no network but loopback, and no model hub."""
    folder = tmp_path / "home"
    monkeypatch.setenv("CLIPCOUNT_HOME", str(folder))
    monkeypatch.setenv("no_proxy", "*")
    for variable in ("CLIPCOUNT_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)

    def no_hub() -> Path:
        raise DownloadError("the hub is out of reach")

    monkeypatch.setattr(hub, "cached_clip", lambda: None)
    monkeypatch.setattr(hub, "download_clip", no_hub)
    return folder


@pytest.fixture(scope="session")
def clip_state() -> dict[str, Tensor]:
    return clip_tensors()


@pytest.fixture(scope="session")
def clip_file(clip_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_file(clip_state, path)
    return path


@pytest.fixture
def write_checkpoint(tmp_path: Path) -> WriteCheckpoint:
    """Make `save_head` write into the test's own folder."""
    return functools.partial(save_head, tmp_path / "head.ckpt")


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that no test may change."""
    return save_head(tmp_path_factory.mktemp("head") / "head.ckpt")


@pytest.fixture(scope="session")
def imported(checkpoint_file: Path, clip_file: Path) -> Imported:
    return import_released(checkpoint_file, clip_file)


@pytest.fixture(scope="session")
def kept_weights(imported: Imported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of our own that no test may change."""
    path = tmp_path_factory.mktemp("own") / "small.safetensors"
    checkpoint.save(imported.state, imported.config, path, ORIGIN)
    return path


@pytest.fixture
def weights_file(kept_weights: Path, tmp_path: Path) -> Path:
    """A copy of it for a test to damage."""
    return Path(shutil.copy(kept_weights, tmp_path))
