"""A packed network computes what the network does, and only where that is supported."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from small_models import SMALL, SMALL_CLIP, save_small, small_model

from clipcount_cli.api import load_counter
from clipcount_cli.counting.packed import PackedLinear, PackedTower, can_pack, packed
from clipcount_cli.counting.prompts import tokenize

CPU = torch.device("cpu")
needs_packing = pytest.mark.skipif(
    not can_pack(CPU, torch.bfloat16), reason="this CPU does not multiply in bf16"
)
DEEP = dataclasses.replace(
    SMALL, clip=dataclasses.replace(SMALL_CLIP, image_layers=4), visual_prompts=3, prompted_layers=3
)
CONFIGS = {
    "released": DEEP,
    "gelu": dataclasses.replace(DEEP, clip=dataclasses.replace(DEEP.clip, quick_gelu=False)),
    "without visual prompts": dataclasses.replace(DEEP, visual_prompts=0),
    "naive": dataclasses.replace(DEEP, interaction="naive"),
    "add": dataclasses.replace(DEEP, interaction="add"),
}


@torch.inference_mode()
def logits(model):
    """What the decoder sees before its sigmoid, and the contrastive features."""
    windows = torch.rand(2, 3, 384, 384, generator=torch.Generator().manual_seed(0))
    tokens = tokenize(["red apples", "coins"], model.config)
    features, text = model.encode_image(windows), model.encode_text(tokens)
    density = model.decode(features, text)
    return density.logit().double(), features.contrast.double()


@needs_packing
@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_packing_rounds_no_worse_than_bf16_does(config):
    exact = small_model(config).eval()
    plain = copy.deepcopy(exact).bfloat16()
    wanted = logits(exact)
    before = logits(plain)

    after = logits(packed(plain))

    for true, rough, ours in zip(wanted, before, after, strict=True):
        error, allowed = (ours - true).norm() / true.norm(), (rough - true).norm() / true.norm()
        assert 0 < error < 1.25 * allowed
        assert not torch.equal(ours, rough)


@needs_packing
def test_weights_loaded_in_bf16_are_packed_and_in_fp32_are_not(tmp_path):
    file = save_small(tmp_path / "small.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (384, 600, 3), dtype=np.uint8)

    half, full = (load_counter(file, "cpu", precision) for precision in ("bf16", "fp32"))

    assert isinstance(half.model.image_tower, PackedTower)
    assert not any(isinstance(module, PackedLinear) for module in full.model.modules())
    ours, exact = (c.count_pixels(pixels, ["coins"])[0].count for c in (half, full))
    assert ours == pytest.approx(exact, rel=0.01)


def test_no_other_device_precision_or_network_is_packed():
    convolutional = dataclasses.replace(
        SMALL,
        clip=dataclasses.replace(SMALL_CLIP, image_layers=(1, 1, 1, 1), image_width=8),
        visual_prompts=0,
    )
    for model in (small_model(), small_model(convolutional).bfloat16()):
        names = list(model.state_dict())
        assert list(packed(model).state_dict()) == names
    assert not can_pack(torch.device("cuda"), torch.bfloat16)
    assert not can_pack(CPU, torch.float16)
