"""What comes from open_clip: CLIP's two towers, and its tokenizer.

Image -> count, within step 3 of 5: model.py builds its towers here, prompts.py tokenizes.
Importing open_clip brings torchvision and torch._dynamo along, which takes longer than counting one
image. So it is imported only for weights that have CLIP, and its tokenizer is loaded on its own.
"""

from __future__ import annotations

import functools
import importlib.util
import runpy
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from clipcount_cli.config import BPE_ROWS, ClipConfig

if TYPE_CHECKING:
    from open_clip import CLIP

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's training images, by channel
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


def build_clip(config: ClipConfig) -> CLIP:
    """open_clip's CLIP for `config`, without the layers that no patch passes through."""
    import torch

    with torch.device("cpu"):  # also if an empty network is built: importing may create tensors
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg  # 2 to 4 s

    vision = CLIPVisionCfg(
        layers=config.image_layers,
        width=config.image_width,
        patch_size=config.patch_size_px,
        image_size=config.image_size_px,
    )
    text = CLIPTextCfg(
        context_length=config.context_length,
        vocab_size=len(config.vocabulary) + 1 if config.vocabulary else BPE_ROWS,
        width=config.text_width,
        heads=config.text_heads,
        layers=config.text_layers,
    )
    clip = CLIP(config.embed_dim, vision, text, quick_gelu=config.quick_gelu)
    if config.convolutional:
        del clip.visual.layer4, clip.visual.attnpool
    return clip


@functools.cache
def tokenizer() -> Any:
    """open_clip's `SimpleTokenizer`, from its file alone: it needs nothing else of the package."""
    package = cast(ModuleSpec, importlib.util.find_spec("open_clip"))  # found, not imported
    path = Path(cast(list[str], package.submodule_search_locations)[0], "tokenizer.py")
    return runpy.run_path(str(path))["SimpleTokenizer"]()
