"""CLIP ViT-B/16 as open_clip fetches it: from the model hub, into the hub's own cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from clipcount_cli.errors import DownloadError
from clipcount_cli.weights import web
from clipcount_cli.weights.registry import CLIP_ARCHITECTURE, CLIP_TAG


def address() -> str:
    """What the hub calls the file: its sha256 is remembered under this name."""
    return f"hub:{_repository()}"


def cached_clip() -> Path | None:
    """The file in the hub's own cache, without using the network."""
    _quieten_client()
    from huggingface_hub import try_to_load_from_cache
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    for name in (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME):
        found = try_to_load_from_cache(_repository(), name)
        if isinstance(found, str):
            return Path(found)
    return None


def download_clip() -> Path:
    """Let open_clip's loader fetch the file; raises DownloadError if it cannot."""
    _quieten_client()
    from huggingface_hub import constants
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    # The client tries an unreachable hub for 45 s before it gives up.
    if (reason := web.unreachable(constants.ENDPOINT)) is not None:
        raise DownloadError(f"{constants.ENDPOINT} cannot be reached: {reason}")
    try:
        return Path(download_pretrained(get_pretrained_cfg(CLIP_ARCHITECTURE, CLIP_TAG)))
    except Exception as error:  # the hub's client fails in its own many ways
        reason = str(error).partition("\n")[0]
        raise DownloadError(f"CLIP could not be fetched from the model hub: {reason}") from error


def _quieten_client() -> None:
    """Set how much the hub's client prints; it reads the variables only when it is imported."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _repository() -> str:
    from open_clip.pretrained import get_pretrained_cfg

    return str(get_pretrained_cfg(CLIP_ARCHITECTURE, CLIP_TAG)["hf_hub"]).strip("/")
