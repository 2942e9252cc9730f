"""Weights with a name of their own: where they come from, and under which licence.

Weights files, step 1: [registry.py] -> cache.py -> checkpoint.py. No network and no disk in here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DEFAULT_NAME = "clip-count"
EMBEDDED_NAME = "tiny"
CLIP_NAME = "clip"

# How open_clip calls the backbone; its loader knows the model hub.
CLIP_ARCHITECTURE = "ViT-B-16-quickgelu"
CLIP_TAG = "openai"
CLIP_LICENCE = "MIT (openai/CLIP)"

# OpenAI's own TorchScript archive of the same backbone; the address carries its sha256.
OPENAI_CLIP_SHA256 = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
OPENAI_CLIP_URL = f"https://openaipublic.azureedge.net/clip/models/{OPENAI_CLIP_SHA256}/ViT-B-16.pt"


@dataclass(frozen=True)
class WeightsEntry:
    """One row: what the weights are and where they come from."""

    summary: str
    licence: str
    holds: Literal["model", "clip"] = "model"
    asset: str | None = None  # file name inside the package's assets: nothing to download
    url: str | None = None  # of the authors' checkpoint; CLIP itself comes through open_clip
    sha256: str | None = None  # None: not published, so recorded at the first install
    download_bytes: int = 0  # about what installing it downloads


TABLE: dict[str, WeightsEntry] = {
    "tiny": WeightsEntry(
        summary="small model for everyday countable things",
        licence="MIT",
        asset="tiny.safetensors",
    ),
    "clip-count": WeightsEntry(
        summary="the authors' released model on CLIP ViT-B/16",
        licence=f"MIT (songrise/CLIP-Count); {CLIP_LICENCE}",
        url="https://drive.google.com/uc?export=download&id=17Dj0tjd29lPGOGYEF5IrE8aPClXUjTrR",
        download_bytes=365_000_000,  # the head's checkpoint and CLIP
    ),
    "clip": WeightsEntry(
        summary="CLIP ViT-B/16 alone, for `train --init clip`",
        licence=CLIP_LICENCE,
        download_bytes=299_000_000,
        holds="clip",
    ),
}
