"""What comes from open_clip: equal to it, and imported only for weights that need it."""

import subprocess
import sys

import open_clip
import pytest
import torch
from test_compact import model  # type: ignore[import-not-found]  # noqa: F401 - a fixture

from clipcount_cli.config import BPE_ROWS
from clipcount_cli.counting import clip
from clipcount_cli.weights import checkpoint

SCRIPT = """
import sys
from clipcount_cli.api import load_counter

counter = load_counter(sys.argv[1], "cpu", "fp32")
import numpy as np
count = counter.count(np.zeros((64, 64, 3), np.uint8), "naïve cafés")[0].count
heavy = {"open_clip", "torchvision", "timm", "transformers", "torch._dynamo"} & set(sys.modules)
assert not heavy, heavy

from clipcount_cli.config import ModelConfig
from clipcount_cli.weights.checkpoint import expected_shapes
assert expected_shapes(ModelConfig())["clip.visual.conv1.weight"] == (768, 3, 16, 16)

import open_clip, torchvision, torch
model = open_clip.model.CLIP(8, open_clip.CLIPVisionCfg(layers=1, width=64, image_size=32),
                             open_clip.CLIPTextCfg(width=8, heads=1, layers=1))
assert torch.isfinite(model.encode_text(open_clip.tokenize(["naïve cafés"]))).all()
assert all(p.device.type == "cpu" for p in model.parameters())
print(open_clip.tokenizer.SimpleTokenizer().encode("naïve cafés"))
"""


def test_compact_weights_count_without_open_clip_which_still_imports_afterwards(
    model,  # noqa: F811
    tmp_path,
):
    path = tmp_path / "compact.safetensors"
    checkpoint.save(model.state_dict(), model.config, path, {"licence": "MIT"})

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(clip.tokenizer().encode("naïve cafés"))


@pytest.mark.parametrize(
    "text",
    ["red apples", "  The small, WHITE birds ", "naïve café &amp; crème", "🍎 äpfel", "it's"],
)
def test_the_tokenizer_is_open_clips(text):
    reference = open_clip.tokenizer.SimpleTokenizer()

    assert clip.tokenizer().encode(text) == reference.encode(text)
    assert torch.equal(clip.tokenizer()([text], 20), reference([text], 20))


def test_constants_are_open_clips():
    assert clip.PIXEL_MEAN == open_clip.OPENAI_DATASET_MEAN
    assert clip.PIXEL_STD == open_clip.OPENAI_DATASET_STD
    assert len(open_clip.tokenizer.SimpleTokenizer().encoder) == BPE_ROWS
