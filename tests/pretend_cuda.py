"""A pretend CUDA device: CPU memory behind tensors that say `cuda:0`.

An operation that mixes devices raises as a GPU would; host synchronisations and kernel launches
are counted per thread, with the source line of each synchronisation. Numerics are the CPU's, and
nothing is recorded as a graph: streams, graphs, nccl, cuDNN and speed are only for a real GPU
(tests/test_gpu.py, scripts/gpu_check.py).
"""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from clipcount_cli.batch.cuda_graph import Replayed

needs_pretend_cuda = pytest.mark.skipif(
    not hasattr(torch._C, "_ensureCUDADeviceGuardSet"),
    reason="this PyTorch has no stand-in for a missing CUDA driver",
)

ROOT = Path(__file__).parents[1]
CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
VIEWS = {
    *("alias", "as_strided", "chunk", "detach", "diagonal", "expand", "lift_fresh", "permute"),
    *("reshape", "_reshape_alias", "select", "slice", "split", "squeeze", "t"),
    *("split_with_sizes", "transpose", "unbind", "unfold", "unsqueeze", "_unsafe_view", "view"),
}
# Operations whose result, or its shape, the host must know before it continues.
WAITS = {
    *("_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "_unique2"),
    *("unique_dim", "unique_consecutive", "repeat_interleave", "_linalg_check_errors"),
}


class Seen:
    """What the device was asked to do, by thread: `launches` and `syncs` with their source."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        self.launches: Counter[str] = Counter()
        self.syncs: Counter[tuple[str, str]] = Counter()  # (thread, what and where)

    def launch(self) -> None:
        with self._lock:
            self.launches[threading.current_thread().name] += 1

    def sync(self, what: str) -> None:
        frames = [f for f in traceback.extract_stack() if Path(f.filename).is_relative_to(ROOT)]
        ours = [f for f in frames if f.filename != __file__] or frames
        where = f"{what} at {Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].line}"
        with self._lock:
            self.syncs[threading.current_thread().name, where] += 1

    def syncs_of(self, thread: str = "") -> int:
        """Synchronisations in the threads whose name begins so."""
        return sum(n for (name, _), n in self.syncs.items() if name.startswith(thread))

    def launches_of(self, thread: str = "") -> int:
        return sum(n for name, n in self.launches.items() if name.startswith(thread))


class PretendTensor(Tensor):
    """A tensor that says it is on the GPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> PretendTensor:
        made: PretendTensor = Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, layout=inner.layout, device=CUDA,
        )  # fmt: skip
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _Device.current.run(func, args, kwargs or {})

    def numpy(self, *, force: bool = False) -> Any:
        assert force, "numpy() of a CUDA tensor"
        return self.detach().cpu().numpy()

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()


class _Device:
    current: _Device

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self._pinned: list[Tensor] = []  # kept, so that no address is used twice

    def pin(self, tensor: Tensor) -> Tensor:
        self._pinned.append(tensor)
        return tensor

    def is_pinned(self, tensor: Tensor) -> bool:
        at = tensor.data_ptr()
        return any(p.data_ptr() <= at <= p.data_ptr() + p.nbytes for p in self._pinned)

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = func._schema.name.split("::")[1]
        target = kwargs.get("device")
        if kwargs.pop("pin_memory", None):
            return self.pin(func(*args, **kwargs))
        if name in ("_to_copy", "copy_"):
            return self._copy(name, func, args, kwargs)
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [leaf for leaf in leaves if isinstance(leaf, PretendTensor)]
        on_device = bool(ours) or (target is not None and torch.device(target).type == "cuda")
        if not on_device:
            return func(*args, **kwargs)
        self._check(name, args, leaves)
        if target is not None:
            kwargs["device"] = CPU
        before = {id(leaf.inner): leaf for leaf in ours}  # in-place results are what went in
        done = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if name not in VIEWS:
            self.seen.launch()

        def wrapped(result: Any) -> Any:
            if not isinstance(result, Tensor):
                return result
            return before[id(result)] if id(result) in before else PretendTensor(result)

        return tree_map(wrapped, done)

    def _check(self, name: str, args: Any, leaves: list[Tensor]) -> None:
        """Count what makes the host wait, refuse what a GPU would refuse."""
        if name in WAITS:
            self.seen.sync(name)
        elsewhere = [t for t in leaves if not isinstance(t, PretendTensor) and t.dim() > 0]
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            for index in (i for i in args[1] if i is not None):
                if not isinstance(index, PretendTensor):
                    self.seen.sync("upload of an index")
                elif index.dtype == torch.bool:
                    self.seen.sync("index by a mask")
            values = args[2:3]
            elsewhere = [t for t in (args[0], *values) if not isinstance(t, PretendTensor)]
            elsewhere = [t for t in elsewhere if t.dim() > 0]
        if elsewhere:
            shapes = [tuple(t.shape) for t in elsewhere]
            raise RuntimeError(f"{name}: expected all tensors on cuda:0, found on cpu: {shapes}")

    def _copy(self, name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Between host and device a copy waits, unless it is non-blocking from or to pinned."""
        source = args[0] if name == "_to_copy" else args[1]
        up = isinstance(source, PretendTensor)
        target = kwargs.get("device")
        if name == "copy_":
            down, waits_not = isinstance(args[0], PretendTensor), (*args, False)[2]
        else:
            down = up if target is None else torch.device(target).type == "cuda"
            waits_not = kwargs.get("non_blocking", False)
        if up or down:
            self.seen.launch()
        if up != down:
            host = source if down else args[0]
            pinned = (name == "copy_" or down) and self.is_pinned(host)
            if not (waits_not and pinned):
                self.seen.sync("copy to the device" if down else "copy to the host")
        if name == "copy_":
            _inner(args[0]).copy_(_inner(source))
            return args[0]
        dropped = ("device", "non_blocking")
        copied = func(_inner(source), **{k: v for k, v in kwargs.items() if k not in dropped})
        return PretendTensor(copied) if down else copied


def recorded_in_place(call: Any, inputs: Any) -> tuple[Callable[[], None], Any]:
    """Stand in for cuda_graph.record: compute again from the same inputs into the same outputs."""
    outputs = call(*inputs)

    def replay() -> None:
        for own, new in zip(outputs, call(*inputs), strict=True):
            if own is not None:
                own.copy_(new)

    return replay, outputs


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, PretendTensor) else value


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _Device.current.run(func, args, kwargs or {})


class _Stream:
    """Work is done at once, so there is nothing to order."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def wait_event(self, event: Any) -> None: ...
    def wait_stream(self, stream: Any) -> None: ...
    def record_event(self, event: Any = None) -> Any:
        return event or _Event()

    def synchronize(self) -> None:
        _Device.current.seen.sync("wait for a stream")


class _Event:
    def __init__(self, *_: Any, **__: Any) -> None: ...
    def record(self, stream: Any = None) -> None: ...
    def wait(self, stream: Any = None) -> None: ...
    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        _Device.current.seen.sync("wait for an event")


@contextmanager
def pretend_cuda() -> Iterator[Seen]:
    """Within this block, and in threads begun in it, torch has one CUDA device; yields the counts.

    Gradients cannot flow backwards on it: autograd has no thread for a device that is not there.
    """
    import torch._dynamo  # looks for devices when it is imported
    import torch.distributed

    _Device.current = device = _Device(Seen())
    run_thread, real_generator = threading.Thread.run, torch.Generator

    def run_in_mode(thread: threading.Thread) -> None:
        torch._C._set_only_lift_cpu_tensors(True)
        with _Mode():
            run_thread(thread)

    def synchronize(*_: object) -> None:
        device.seen.sync("synchronize")

    fakes: list[tuple[Any, dict[str, Any]]] = [
        (torch.cuda, {"is_available": lambda: True, "device_count": lambda: 1}),
        (torch.cuda, {"current_device": lambda: 0, "is_bf16_supported": lambda **_: True}),
        (torch.cuda, {"_lazy_init": _nothing, "empty_cache": _nothing, "set_device": _nothing}),
        (torch.cuda, {"manual_seed_all": _nothing, "synchronize": synchronize}),
        (torch.cuda, {"Event": _Event, "Stream": _Stream, "current_stream": _Stream}),
        (torch.cuda, {"stream": lambda _: nullcontext(), "device": lambda _: nullcontext()}),
        (torch.cuda.amp.common, {"amp_definitely_not_available": lambda: False}),
        (torch.inference_mode, {"__enter__": _without_gradients, "__exit__": _as_before}),
        (torch, {"Generator": lambda device="cpu": real_generator("cpu")}),
        (Tensor, {"pin_memory": lambda self: device.pin(self.clone())}),
        (Tensor, {"is_pinned": lambda self: device.is_pinned(self)}),
        (Tensor, {"record_stream": _nothing}),
        (Replayed, {"__call__": lambda self, *inputs: self._call(*inputs)}),
        (threading.Thread, {"run": run_in_mode}),
    ]
    sdp = torch.backends.cuda
    switches = (sdp.enable_flash_sdp, sdp.enable_mem_efficient_sdp, sdp.enable_cudnn_sdp)
    torch._C._ensureCUDADeviceGuardSet()
    with ExitStack() as stack:
        for target, changes in fakes:
            for name, value in changes.items():
                stack.enter_context(mock.patch.object(target, name, value))
        for switch in switches:
            switch(False)
            stack.callback(switch, True)
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(_swapped(torch.__future__.set_overwrite_module_params_on_conversion))
        stack.enter_context(_swapped(torch._C._set_only_lift_cpu_tensors))
        stack.enter_context(_Mode())
        yield device.seen


def _nothing(*_: object, **__: object) -> None: ...


@contextmanager
def _swapped(switch: Callable[[bool], object]) -> Iterator[None]:
    switch(True)
    try:
        yield
    finally:
        switch(False)


def _without_gradients(mode: Any) -> None:
    """Wrapper tensors and inference mode do not mix."""
    mode.before = torch.is_grad_enabled()
    torch.set_grad_enabled(False)


def _as_before(mode: Any, *_: object) -> None:
    torch.set_grad_enabled(mode.before)
