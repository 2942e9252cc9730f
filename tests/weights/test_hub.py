"""CLIP through open_clip's own loader."""

from __future__ import annotations

import importlib

import open_clip.pretrained
import pytest
from loopback import serving

from clipcount_cli.errors import DownloadError
from clipcount_cli.weights import hub


@pytest.fixture
def real_hub():
    return importlib.reload(hub)


@pytest.fixture(autouse=True)
def endpoint(monkeypatch):
    """A model hub that responds, on loopback."""
    with serving(status=404) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.base)
        yield server


def test_loader_is_asked_for_openais_vit_b_16(real_hub, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        open_clip.pretrained, "download_pretrained", lambda c: asked.append(c) or tmp_path / "x"
    )

    assert real_hub.download_clip() == tmp_path / "x"
    assert "vit_base_patch16_clip_224.openai" in asked[0]["hf_hub"]


def test_failure_of_the_loader_is_a_download_error(real_hub, monkeypatch):
    def fail(_config):
        raise FileNotFoundError("no such repository")

    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", fail)

    with pytest.raises(DownloadError, match="no such repository"):
        real_hub.download_clip()


def test_hub_out_of_reach_is_given_up_at_once(real_hub, endpoint, monkeypatch):
    asked: list[object] = []
    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", asked.append)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9 cannot be reached: ") as got:
        real_hub.download_clip()

    assert "\n" not in str(got.value)
    assert asked == []


def test_file_in_the_hubs_cache_is_found_without_the_network(real_hub, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda repository, name: str(tmp_path / name)
    )

    assert real_hub.cached_clip() == tmp_path / "open_clip_model.safetensors"
