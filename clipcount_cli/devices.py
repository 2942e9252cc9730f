"""Devices and precisions: which names exist, and which of them this machine has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipcount_cli import distributed
from clipcount_cli.errors import DeviceError, UsageError, quantity

if TYPE_CHECKING:
    import torch

# Messages of errors other than torch.OutOfMemoryError: cuBLAS, cuDNN, pinned memory, MPS and the
# host's allocator raise plain RuntimeErrors when memory runs out.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|ALLOC_FAILED|ALLOCATION_FAILED|"
    r"cudaErrorMemoryAllocation|CUBLAS_STATUS_NOT_INITIALIZED|unable to find an engine",
    re.IGNORECASE,
)
_NAME = re.compile(r"auto|(cpu|cuda|mps)(:(0|[1-9][0-9]?))?")
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # precision -> torch's name


def check_device(name: str) -> str:
    """Return `name`; raises UsageError if no machine has such a device."""
    if not _NAME.fullmatch(name):
        raise UsageError(f'there is no device "{name}"', hint="use auto, cpu, cuda, cuda:0 or mps")
    return name


def dtype_of(precision: str) -> torch.dtype:
    """The torch type of `fp32`, `bf16` or `fp16`."""
    import torch

    dtype: torch.dtype = getattr(torch, DTYPES[precision])
    return dtype


def pick_device(device: str) -> torch.device:
    """Resolve the name of a device.

    Under torchrun `auto` and `cuda` are each process's own GPU. Raises DeviceError if this machine
    lacks it, UsageError if no machine has it.
    """
    import torch

    if device in ("auto", "cuda") and torch.cuda.is_available():
        own = distributed.local_rank() % torch.cuda.device_count()
        return torch.device("cuda", own) if distributed.world_size() > 1 else torch.device("cuda")
    if device == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    place = torch.device(check_device(device))
    available = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if (place.index or 0) >= available.get(place.type, 0):
        raise DeviceError(_unavailable(place, available), hint="use --device cpu")
    return place


def _unavailable(place: torch.device, available: Mapping[str, int]) -> str:
    """Why this machine cannot use `place`; available: the number of devices of each kind."""
    held = available.get(place.type, 0)
    if held == 0:
        return f"{place.type.upper()} is not available on this machine"
    return f"{place} does not exist: this machine has {quantity(held, f'{place.type} device')}"


def pick_precision(precision: str, device: torch.device) -> str:
    """Resolve `auto`; refuse a precision that would be a hundred times slower than fp32."""
    if precision == "auto":
        return "bf16" if multiplies_bf16(device) else "fp32"
    if precision not in DTYPES:
        raise DeviceError(f'there is no precision "{precision}"', hint="use fp32, bf16 or fp16")
    if precision == "fp16" and device.type == "cpu":
        raise DeviceError("fp16 is not supported on the CPU", hint="use --precision bf16 or fp32")
    return precision


def multiplies_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions for products in bf16."""
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):  # or torch would report on the current GPU
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def require_full_fp32(precision: str) -> None:
    """Let fp32 be fp32 on a GPU: by default torch convolves in TF32, with 10 bits of mantissa."""
    import torch

    if precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that the memory of a device, or of the host, is full."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


def free_memory(device: torch.device) -> None:
    """Return the memory that torch caches to the device."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy `tensor` to `device`; to a CUDA device through pinned memory, without waiting."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)
