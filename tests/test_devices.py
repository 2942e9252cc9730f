"""Which device and precision a name stands for, and what counts as full memory."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest
import torch
from torch.distributed import distributed_c10d

from clipcount_cli import devices, distributed
from clipcount_cli.errors import DeviceError, UsageError


@pytest.fixture
def gpus(monkeypatch):
    """Let torch report so many GPUs."""

    def report(number: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)

    return report


@pytest.fixture
def rank(monkeypatch):
    """Be one of several processes that torchrun started on this machine."""

    def be(number: int, of: int) -> None:
        for name in ("RANK", "LOCAL_RANK"):
            monkeypatch.setenv(name, str(number))
        for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
            monkeypatch.setenv(name, str(of))

    return be


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_takes_its_own_gpu(gpus, rank, name):
    gpus(4)
    rank(2, of=4)

    assert devices.pick_device(name) == torch.device("cuda:2")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_process_that_sees_one_gpu_takes_it_whatever_its_number(gpus, rank, name):
    gpus(1)
    rank(3, of=4)

    assert devices.pick_device(name) == torch.device("cuda:0")


def test_a_gpu_that_is_named_is_taken_by_every_process(gpus, rank):
    gpus(4)
    rank(2, of=4)

    assert devices.pick_device("cuda:1") == torch.device("cuda:1")


def test_a_gpu_that_is_not_there_is_refused(gpus):
    gpus(2)

    with pytest.raises(DeviceError, match="cuda:2 does not exist: this machine has 2"):
        devices.pick_device("cuda:2")
    gpus(0)
    with pytest.raises(DeviceError, match="CUDA is not available on this machine"):
        devices.pick_device("cuda:0")
    with pytest.raises(UsageError, match='no device "tpu"'):
        devices.pick_device("tpu")


class Meeting(dict):
    """The store of processes that have all named their GPU already."""

    def set(self, key, value):
        self[key] = value.encode() if isinstance(value, str) else value

    def get(self, key):
        return self[key]


def test_processes_that_would_train_on_one_gpu_are_refused(rank):
    rank(1, of=3)
    meeting = Meeting({"gpu/0": b"GPU-a", "gpu/2": b"GPU-b"})

    with pytest.raises(DeviceError, match="processes 0, 1 would train on one GPU") as refused:
        distributed._require_own_gpus(meeting, "GPU-a")
    assert refused.value.__notes__[0].endswith('without device="cuda:N"')
    distributed._require_own_gpus(meeting, "GPU-c")


def test_the_chosen_gpu_is_the_one_asked_about_bf16(monkeypatch):
    current = [0]

    class Current:
        def __init__(self, device):
            self.index = device.index

        def __enter__(self):
            current.append(self.index)

        def __exit__(self, *_):
            current.pop()

    monkeypatch.setattr(torch.cuda, "device", Current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: current[-1] == 1)

    assert devices.pick_precision("auto", torch.device("cuda:1")) == "bf16"
    assert devices.pick_precision("auto", torch.device("cuda:0")) == "fp32"


@pytest.mark.parametrize(("precision", "rounds"), [("fp32", False), ("bf16", True)])
def test_fp32_is_not_rounded_to_tf32(precision, rounds):
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = True
        devices.require_full_fp32(precision)

        assert [switch.allow_tf32 for switch in switches] == [rounds, rounds]
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),  # pinned memory
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling cublasCreate"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"),
        RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
    ids=lambda error: str(error)[:30],
)
def test_every_way_to_run_out_of_memory_is_recognized(error):
    assert devices.is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        ValueError("out of memory"),
        KeyError("missing"),
    ],
)
def test_other_errors_are_not_taken_for_full_memory(error):
    assert not devices.is_out_of_memory(error)


@contextmanager
def unpickling_refused() -> Iterator[None]:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("another process sent a pickle")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed_c10d, "_unpickler", refuse)
        yield


def meet(number: int, port: int, told: multiprocessing.Queue) -> None:
    os.environ.update(RANK=str(number), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
    os.environ["MASTER_PORT"] = str(port)
    with distributed.joined(), unpickling_refused():
        distributed.barrier()
        gathered = distributed.gather({"rank": number, "sent": "\udcff" * 99 * number})
        total = distributed.summed(torch.tensor([1.0 + number]))
        agreed = distributed.any_process(number == 1)
        told.put((number, gathered, total.item(), agreed))
        distributed.barrier()  # the first process hosts the store


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks its processes")
def test_objects_and_tensors_reach_every_process():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    processes = [context.Process(target=meet, args=(n, port, told)) for n in range(2)]
    for process in processes:
        process.start()
    heard = sorted(told.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()

    everything = [{"rank": 0, "sent": ""}, {"rank": 1, "sent": "\udcff" * 99}]
    assert heard == [(0, everything, 3.0, True), (1, everything, 3.0, True)]
