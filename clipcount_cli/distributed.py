"""The environment of torchrun: rank, world size, and what processes exchange.

Without torchrun everything here is the identity, so that one process runs the same code as many.
`batch`, `eval` and `train` use it; torch is imported only if there are several processes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from clipcount_cli.errors import DeviceError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


OBJECTS_TIMEOUT = timedelta(days=7)
_objects: Any = None  # the process group for objects and barriers


def rank() -> int:
    """This process's number, from 0."""
    return _number("RANK", 0)


def local_rank() -> int:
    """This process's number on its machine, which is also the index of its GPU."""
    return _number("LOCAL_RANK", 0)


def local_world_size() -> int:
    """How many processes share this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def world_size() -> int:
    """How many processes run."""
    return _number("WORLD_SIZE", 1)


def _number(variable: str, alone: int) -> int:
    """What torchrun sets; `alone` if RANK or WORLD_SIZE is missing, or not set by torchrun."""
    needed = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", variable))
    return int(os.environ[variable]) if all(map(str.isdecimal, needed)) else alone


def is_first() -> bool:
    """True in the one process that prints and writes files."""
    return rank() == 0


@contextmanager
def joined(device: torch.device | None = None) -> Iterator[None]:
    """Connect to the other processes for the length of a run.

    device: the GPU whose tensors are summed, by nccl; without one, gloo is used for everything.
    Objects and barriers always use gloo and wait long, as one process may be reading or writing.
    Raises DeviceError if processes share a GPU, which nccl cannot serve.
    """
    global _objects
    if world_size() == 1:
        yield
        return
    import torch.distributed as dist

    meeting = store()
    on_gpu = device is not None and device.type == "cuda"
    if device is not None and on_gpu:
        import torch

        torch.cuda.set_device(device)
        _require_own_gpus(meeting, str(torch.cuda.get_device_properties(device).uuid))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        store=meeting,
        rank=rank(),
        world_size=world_size(),
        device_id=device if on_gpu else None,
    )
    _objects = dist.new_group(backend="gloo", timeout=OBJECTS_TIMEOUT)
    try:
        yield
    finally:
        _objects = None
        dist.destroy_process_group()


def _require_own_gpus(meeting: Any, gpu: str) -> None:
    """Raise DeviceError if another process uses the same `gpu`, named by an id unique to it."""
    meeting.set(f"gpu/{rank()}", gpu)
    users = [n for n in range(world_size()) if meeting.get(f"gpu/{n}").decode() == gpu]
    if len(users) > 1:
        raise DeviceError(
            f"processes {', '.join(map(str, users))} would train on one GPU, but each needs "
            "its own",
            hint="start as many processes as there are GPUs (--nproc-per-node), without "
            "--device cuda:N",
        )


def store() -> Any:
    """The key-value store that torchrun runs, for processes that must not wait for one another."""
    from torch.distributed import PrefixStore, TCPStore

    # https://pytorch.org/docs/stable/elastic/run.html: the launcher's store outlives all processes.
    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    shared = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        world_size(),
        is_master=is_first() and not hosted,
        wait_for_workers=False,
    )
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"clipcount/{attempt}", shared)


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        import torch.distributed as dist

        dist.barrier(group=_objects)


def gather(value: Any) -> list[Any]:
    """Every process's `value`, in the order of their numbers, in every process.

    value: anything that JSON holds; tuples come back as lists. Whoever reaches the ports of a run
    can send something, so no pickle travels, which could run code.
    """
    if world_size() == 1:
        return [value]
    import torch

    message = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    lengths = [int(length) for length in _all_gather(torch.tensor([len(message)]))]
    padded = torch.zeros(max(lengths), dtype=torch.uint8)
    padded[: len(message)] = message
    messages = zip(_all_gather(padded), lengths, strict=True)
    return [json.loads(each[:length].numpy().tobytes()) for each, length in messages]


def _all_gather(tensor: Tensor) -> list[Tensor]:
    """Every process's `tensor`, all of one shape, on the CPU."""
    import torch
    import torch.distributed as dist

    found = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(found, tensor, group=_objects)
    return found


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process; does not wait for a GPU."""
    return any(gather(flag))


def summed(values: Tensor) -> Tensor:
    """The sum of `values` over all processes."""
    if world_size() > 1:
        import torch.distributed as dist

        dist.all_reduce(values)
    return values


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Add up the gradients of all processes, in one message."""
    if world_size() == 1:
        return
    import torch

    gradients = [p.grad for p in parameters if p.grad is not None]
    total = summed(torch.cat([gradient.flatten() for gradient in gradients]))
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, torch.split(total, sizes), strict=True):
        gradient.copy_(part.view_as(gradient))
