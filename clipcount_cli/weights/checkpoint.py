"""One safetensors file <-> the network and its configuration.

Weights files, step 3: registry.py -> digests.py -> [checkpoint.py] -> cache.py. A file carries all
it needs: the tensors in the precision they came in, and in its header the configuration and where
they are from. Reading the header needs no torch.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clipcount_cli.config import ModelConfig, model_config_from_json, to_json
from clipcount_cli.errors import WeightsError, shortened
from clipcount_cli.files import atomic_write
from clipcount_cli.weights.digests import UNSEALED, seal, verified_digest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from clipcount_cli.counting.model import ClipCount

FORMAT_VERSION = "1"
Holds = Literal["model", "clip"]
Shapes = Mapping[str, Sequence[int]]

MAX_LAYERS = 256  # the largest CLIP has 72; building takes time for each, before any is compared
_FLOAT_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
# Tensors that change precision are read in groups of this size, and the file is closed in between:
# the pages of a mapped file count as memory for as long as it is open.
_GROUP_BYTES = 32_000_000


@dataclass(frozen=True)
class Metadata:
    """The header of a weights file."""

    config: ModelConfig
    origin: Mapping[str, Any] = field(default_factory=dict)  # name, licence, sources with sha256
    holds: Holds = "model"  # "clip": the backbone alone, its keys all begin with "clip."
    sha256: str = ""  # of the whole file, once it has been read and verified


@dataclass(frozen=True)
class Header:
    """The table of contents of a safetensors file."""

    metadata: Mapping[str, str]
    dtypes: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]


def read_header(path: Path) -> Header:
    """Read a safetensors file's table of contents; raises WeightsError if it is not a whole one."""
    from safetensors import SafetensorError, safe_open

    try:
        # Opened twice because only Python's own error has the reason without the path.
        with path.open("rb"), safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return Header(
                file.metadata() or {},
                {name: tensor.get_dtype() for name, tensor in slices.items()},
                {name: tuple(tensor.get_shape()) for name, tensor in slices.items()},
            )
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is damaged, or not a safetensors file: {error}",
            hint="name a file that ends in .safetensors, or get this one again",
        ) from error


def read_metadata(path: Path) -> Metadata:
    """Read the header of a weights file, without torch; raises WeightsError."""
    return _metadata_from(read_header(path), path)


def _metadata_from(header: Header, path: Path) -> Metadata:
    metadata = header.metadata
    if "clipcount_config" not in metadata:
        raise WeightsError(
            f"{path} is not a clipcount weights file: its header holds no configuration",
            hint="install it with `clipcount download-weights --checkpoint FILE --clip FILE`",
        )
    if metadata.get("clipcount_format") != FORMAT_VERSION:
        raise WeightsError(
            f"{path} is of format {metadata.get('clipcount_format')}, this version reads "
            f"{FORMAT_VERSION}",
            hint="install a newer clipcount-cli",
        )
    try:
        config = model_config_from_json(json.loads(metadata["clipcount_config"]))
        origin = json.loads(metadata.get("clipcount_origin", "{}"))
        if not isinstance(origin, dict):
            raise TypeError(f"its origin is a {type(origin).__name__}")
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"{path} is damaged: its configuration cannot be read: {error}",
            hint="get the file again, or install it again",
        ) from error
    return Metadata(
        config, origin, "clip" if metadata.get("clipcount_holds") == "clip" else "model"
    )


def load(
    path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> tuple[ClipCount, Metadata]:
    """Build the network of a weights file, verified and ready to count.

    dtype: working precision; None keeps each tensor's own. A tensor that has it already stays
    mapped from the file. Raises WeightsError if the file is damaged, naming what is missing,
    unexpected, misshapen or not finite.
    """
    header = read_header(path)
    metadata = _metadata_from(header, path)
    if metadata.holds != "model":
        raise WeightsError(f"{path} holds CLIP alone, which cannot count")
    model = empty_model(metadata.config, path)
    state = _checked_state(path, header, _shapes_of(model), device, dtype)
    model.load_state_dict(state, assign=True)
    model = model.eval().to(device)  # what no file holds moves too
    return model, replace(metadata, sha256=verified_digest(path))


def load_state(
    path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> tuple[dict[str, Tensor], Metadata]:
    """Read the checked tensors of a weights file; for one that holds CLIP, "clip." keys alone."""
    header = read_header(path)
    metadata = _metadata_from(header, path)
    shapes = expected_shapes(metadata.config, metadata.holds, path)
    state = _checked_state(path, header, shapes, device, dtype)
    return state, replace(metadata, sha256=verified_digest(path))


def _checked_state(
    path: Path,
    header: Header,
    shapes: Shapes,
    device: torch.device | str,
    dtype: torch.dtype | None,
) -> dict[str, Tensor]:
    require_shapes(shapes, header.shapes, path)
    _require_floats(header, path)
    state: dict[str, Tensor] = {}
    for names in _groups(header):
        state.update(_read_tensors(path, names, device, dtype))
    require_finite(state, path)
    return state


def empty_model(config: ModelConfig, where: Path | None = None) -> ClipCount:
    """Build the network without memory for its parameters; `load_state_dict(assign=True)` it.

    where: the file that `config` was read from. Raises WeightsError if its sizes do not fit.
    """
    import torch

    from clipcount_cli.counting.compact import build_model

    if config.layers > MAX_LAYERS:
        raise _unbuildable(where, f"it has {config.layers} layers")
    try:
        with torch.device("meta"), _without_initial_values():
            model = build_model(config)
    except Exception as error:  # torch and open_clip refuse sizes in many ways
        raise _unbuildable(where, str(error)) from error
    model.clip.attn_mask = None  # not in any file, and never read: the network masks by itself
    return model


def _without_initial_values() -> AbstractContextManager[Any]:
    """Leave out `torch.nn.init`: without memory it does nothing but import torch._dynamo, 1 s."""
    from torch.overrides import TorchFunctionMode

    class WithoutInitialValues(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if getattr(func, "__module__", "") == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    return WithoutInitialValues()


def _unbuildable(where: Path | None, why: str) -> WeightsError:
    return WeightsError(
        f"{where or 'the configuration'} describes a network that cannot be built: {why}",
        hint="get the file from its source again",
    )


def expected_shapes(
    config: ModelConfig, holds: Holds = "model", where: Path | None = None
) -> dict[str, tuple[int, ...]]:
    """Every tensor that weights of this configuration, read from `where`, have, with its shape."""
    shapes = _shapes_of(empty_model(config, where))
    prefix = "clip." if holds == "clip" else ""
    return {name: shape for name, shape in shapes.items() if name.startswith(prefix)}


def parameter_names(
    config: ModelConfig, holds: Holds = "model", where: Path | None = None
) -> list[str]:
    """The tensors that training can change; fixed tensors beside them are not parameters."""
    prefix = "clip." if holds == "clip" else ""
    names = (name for name, _ in empty_model(config, where).named_parameters())
    return [name for name in names if name.startswith(prefix)]


def _shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def save(
    weights: nn.Module | Mapping[str, Tensor],
    config: ModelConfig,
    path: Path,
    origin: Mapping[str, Any],
    holds: Holds = "model",
) -> None:
    """Write a weights file, whole or not at all; every tensor keeps its precision.

    origin: plain JSON data: name, licence, sources, what made it. Raises ClipCountError if the disk
    is full or may not be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state = weights if isinstance(weights, Mapping) else weights.state_dict()
    metadata = {
        "format": "pt",
        "clipcount_format": FORMAT_VERSION,
        "clipcount_holds": holds,
        "clipcount_config": json.dumps(to_json(config)),
        "clipcount_origin": json.dumps(dict(origin)),
        **UNSEALED,
    }
    with atomic_write(path) as unfinished:
        try:
            save_file(_unshared(state), unfinished, metadata)
            seal(unfinished)
        except SafetensorError as error:  # it reports the disk's errors as its own
            full = "os error 28" in str(error) or "os error 112" in str(error)
            raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


def require_shapes(expected: Shapes, actual: Shapes, where: Path) -> None:
    """Raise WeightsError naming the tensors that are missing, unexpected or misshapen."""
    missing = [name for name in expected if name not in actual]
    unexpected = [name for name in actual if name not in expected]
    misshapen = [
        f"{name} (is {_shown(actual[name])}, should be {_shown(shape)})"
        for name, shape in expected.items()
        if name in actual and tuple(actual[name]) != tuple(shape)
    ]
    found = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    if faults := [f"{fault}: {_named(names)}" for fault, names in found.items() if names]:
        raise WeightsError(f"{where} does not hold the expected tensors; {'; '.join(faults)}")


def require_finite(state: Mapping[str, Tensor], where: Path) -> None:
    """Raise WeightsError naming the tensors that hold NaN or infinity."""
    if broken := [name for name, tensor in state.items() if not _finite(tensor)]:
        raise WeightsError(f"{where} holds NaN or infinity in {_named(broken)}")


def _require_floats(header: Header, where: Path) -> None:
    counters = "num_batches_tracked"  # a BatchNorm's, the only whole number in a network
    wrong = [
        f"{name} ({dtype})"
        for name, dtype in header.dtypes.items()
        if dtype not in _FLOAT_BYTES and not name.endswith(counters)
    ]
    if wrong:
        raise WeightsError(f"{where} holds no floating-point numbers in {_named(wrong)}")


def _finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    low, high = tensor.aminmax()  # both carry a NaN on, and it needs no copy of the tensor
    return math.isfinite(float(low)) and math.isfinite(float(high))


def _groups(header: Header) -> Iterator[list[str]]:
    group: list[str] = []
    group_bytes = 0
    for name, shape in header.shapes.items():
        size = math.prod(shape) * _FLOAT_BYTES.get(header.dtypes[name], 8)
        if group and group_bytes + size > _GROUP_BYTES:
            yield group
            group, group_bytes = [], 0
        group.append(name)
        group_bytes += size
    yield group


def _read_tensors(
    path: Path, names: Sequence[str], device: torch.device | str, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            mapped = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged: {error}") from error
    return {
        name: tensor.to(device, dtype if tensor.is_floating_point() else None)
        for name, tensor in mapped.items()
    }


def _unshared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors wants them: on the CPU, contiguous, none sharing memory."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in state.items():
        own = tensor.detach().cpu().contiguous()
        if own.untyped_storage().data_ptr() in seen:
            own = own.clone()
        seen.add(own.untyped_storage().data_ptr())
        plain[name] = own
    return plain


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in shape) or "a single number"


def _named(names: Sequence[str]) -> str:
    return shortened(names, limit=3)
