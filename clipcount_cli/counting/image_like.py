"""Accept an image in any form: a path, bytes, a file, a PIL image, an array or a tensor.

Image -> count, before step 1: [image_like.py] -> images.py
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipcount_cli.counting.images import DecodedImage, as_pixels, from_pil, read_image
from clipcount_cli.counting.stacks import FIRST_PAGE, Selection
from clipcount_cli.errors import ImageReadError, UsageError

ImageLike: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image
    | np.ndarray | Tensor
)  # fmt: skip
ACCEPTED = (
    "a path, the bytes of an image file, a file opened in binary mode, a PIL image, "
    "a uint8 array (H, W, 3) or a tensor (3, H, W) or (H, W, 3)"
)


def decode(image: ImageLike, selection: Selection = FIRST_PAGE) -> DecodedImage:
    """Read an image from whatever holds it; selection: which page and channel of an image file.

    Raises ImageReadError, for anything else than an image too; UsageError if a page or channel is
    to be chosen of what is no longer a file.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image), selection=selection)
    if isinstance(image, bytes | bytearray | memoryview):
        return read_image(io.BytesIO(image), "the image", selection)
    if isinstance(image, Tensor | Image.Image | np.ndarray):
        if selection != FIRST_PAGE:
            kind = type(image).__name__
            raise UsageError(
                f"page and channel choose from an image file, and {kind} holds decoded pixels",
                hint="give the path, the bytes or the file of the image",
            )
        return _of_pixels(image)
    if hasattr(image, "read"):
        return _read_file(image, selection)
    hint = f"give {ACCEPTED}"
    if isinstance(image, list | tuple):
        hint += "; count_many takes several"
    raise ImageReadError(f"{type(image).__name__} is not an image", hint=hint)


def is_image(value: object) -> bool:
    """Whether `decode` takes `value`, other than a batch of arrays or tensors, as one image."""
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim < 4
    one = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
    return isinstance(value, one) or hasattr(value, "read")


def _of_pixels(image: Image.Image | np.ndarray | Tensor) -> DecodedImage:
    if isinstance(image, Tensor):
        return DecodedImage(as_pixels(tensor_pixels(image)))
    if isinstance(image, Image.Image):
        return from_pil(image)
    return DecodedImage(as_pixels(image))


def tensor_pixels(tensor: Tensor) -> np.ndarray:
    """(3, H, W) or (H, W, 3), uint8 or floats in 0..1, on any device -> (H, W, 3) uint8.

    A tensor that could be either is (3, H, W). Raises ImageReadError for other shapes and values.
    """
    shape = tuple(tensor.shape)
    if tensor.ndim != 3 or 3 not in (shape[0], shape[-1]):
        raise ImageReadError(
            f"the tensor has the shape {shape}, expected (3, H, W) or (H, W, 3)",
            hint=_shape_hint(shape),
        )
    tensor = tensor.detach().cpu()
    if shape[0] == 3:
        tensor = tensor.permute(1, 2, 0)
    if tensor.is_floating_point():
        return _of_floats(tensor.float()).numpy()
    if tensor.dtype != torch.uint8:
        raise ImageReadError(
            f"the tensor is {tensor.dtype}, expected torch.uint8 or floats in 0..1",
            hint="convert RGB in 0..255 with tensor.to(torch.uint8)",
        )
    return tensor.contiguous().numpy()


def _of_floats(tensor: Tensor) -> Tensor:
    low, high = (float(bound) for bound in torch.aminmax(tensor)) if tensor.numel() else (0.0, 0.0)
    if not (low >= 0 and high <= 1):  # NaN included
        normalised = low < 0
        raise ImageReadError(
            f"the tensor holds floats from {low:g} to {high:g}, expected 0..1",
            hint="undo its normalisation: tensor * std + mean"
            if normalised
            else "divide RGB in 0..255 by 255, or convert it to torch.uint8",
        )
    return (tensor * 255).round().to(torch.uint8)


def _shape_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        return "count the images of a batch one by one, or with count_many"
    if 4 in (shape[:1] or (0,)) + (shape[-1:] or (0,)):
        return "leave out the alpha channel: tensor[:3]"
    if len(shape) == 2 or 1 in (shape[:1] or (0,)) + (shape[-1:] or (0,)):
        return "repeat gray in three channels: tensor.expand(3, H, W)"
    return "give RGB in three channels"


def _read_file(file: BinaryIO, selection: Selection) -> DecodedImage:
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else "the file"
    if isinstance(file, io.TextIOBase):
        raise ImageReadError(
            f"{name} is opened as text", hint='open it in binary mode: open(path, "rb")'
        )
    seekable = getattr(file, "seekable", None)
    if seekable is None:  # a response of an HTTP library: only .read() is certain
        return read_image(io.BytesIO(file.read()), name, selection)
    return read_image(file, name, selection)
