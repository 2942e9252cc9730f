"""Other people's weights files -> plain tensors and settings, without running what is in them.

A PyTorch file is a pickle, and a pickle is a program. Here it may name tensors, containers, numbers
and `argparse.Namespace`, and nothing else; a file that names more is refused before any of it runs.
A TorchScript archive also holds code: it is left where it is, only the tensors are read.
What is read never takes more memory than the file has bytes: archives that inflate are refused.
"""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcount_cli.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

AS_WRITTEN = "use the checkpoint as the authors' training code wrote it"

_NUMBERS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_REFUSED_GLOBAL = re.compile(r"(?:GLOBAL|global|function|module) ([\w.<> ]+?)(?: was| whose|$)")
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a PyTorch checkpoint: a state dict, or PyTorch Lightning's dict around one.

    Raises WeightsError if the file is unreadable, or names anything that is not plain data.
    """
    import torch

    _require_file(path)
    if is_torchscript(path):
        raise WeightsError(
            f"{path} is a TorchScript archive, not a checkpoint",
            hint="if it is CLIP, give it with --clip",
        )
    _require_plain_archive(path)
    try:
        with torch.serialization.safe_globals(_inert_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the age of the file
            contents = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from error
    except Exception as error:  # torch's readers fail in many ways
        raise WeightsError(
            f"{path} is not a PyTorch checkpoint, or is damaged or cut off",
            hint="download it again",
        ) from error
    if not isinstance(contents, Mapping):
        raise WeightsError(f"{path} holds a {type(contents).__name__}, not a checkpoint")
    return _named(contents, path)


def _require_plain_archive(path: Path, read: str = "") -> None:
    """Raise WeightsError if the entries of a zip archive would unpack to more than it has bytes.

    read: the pattern of the entries that are read; empty: all of them.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [e for e in archive.infolist() if re.match(read, e.filename)]
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return  # its list of files is damaged, which reading it reports
    unpacked_bytes = sum(entry.file_size for entry in entries)
    compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if compressed or unpacked_bytes > path.stat().st_size:
        raise WeightsError(
            f"{path} is refused: it is a compressed archive of {path.stat().st_size:,} bytes that "
            f"would unpack to {unpacked_bytes:,}, and PyTorch does not write such files",
            hint="get the checkpoint from its authors",
        )


def require_own_bytes(state: Mapping[str, Any], where: Path) -> None:
    """Raise WeightsError if tensors claim more numbers than the file stores for them.

    Views of the same numbers (CLIP under several names) count once.
    """
    import torch

    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    try:
        views = {(t.data_ptr(), t.dtype, t.shape, t.stride()): t.nbytes for t in tensors}
    except RuntimeError as error:  # sparse or nested
        raise WeightsError(f"{where} is refused: a tensor in it is not a dense one") from error
    stored_bytes = where.stat().st_size
    if (claimed_bytes := sum(views.values())) > stored_bytes:
        raise WeightsError(
            f"{where} is refused: its tensors claim {claimed_bytes:,} bytes, the file has "
            f"{stored_bytes:,}",
            hint="get the file from its authors",
        )


def state_of(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The state dict in a Lightning checkpoint, its values unchecked."""
    if not isinstance(state := checkpoint.get("state_dict"), Mapping):
        raise WeightsError(
            f"{path} is not a released checkpoint: it has no state_dict",
            hint="if it is CLIP, give it with --clip",
        )
    return _named(state, path)


def settings_of(checkpoint: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The hyper-parameters a Lightning checkpoint was trained with, as plain Python values."""
    said = checkpoint.get("hyper_parameters")
    if isinstance(said, argparse.Namespace):
        said = vars(said)
    if not isinstance(said, Mapping):
        raise WeightsError(
            f"{path} has no hyper_parameters, so its number of attention heads is unknown",
            hint=AS_WRITTEN,
        )
    try:
        return {str(k): v.tolist() if hasattr(v, "tolist") else v for k, v in said.items()}
    except (ValueError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"{path} has hyper_parameters that are not plain values: {error}", hint=AS_WRITTEN
        ) from error


def is_safetensors(path: Path) -> bool:
    """Whether a file is in the safetensors format, by its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with code in it."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # its list of files is damaged
        return False


def read_torchscript_tensors(path: Path) -> dict[str, Tensor]:
    """Read the parameters of a TorchScript archive under their dotted names; its code never runs.

    Raises WeightsError if the archive is damaged, or its data names anything but modules and
    tensors.
    """
    _require_plain_archive(path, read=r"[^/]+/data(\.pkl$|/)")
    try:
        with zipfile.ZipFile(path) as archive:
            (data_name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", n))
            root = data_name.removesuffix("data.pkl")
            module = _TensorsOnly(archive.read(data_name), archive, root).load()
        if not isinstance(module, _Module):
            raise ValueError("no module in it")
        return module.tensors()
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from error
    except Exception as error:  # a damaged pickle may raise anything
        raise WeightsError(f"{path} is not a TorchScript archive, or is damaged") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file; raises WeightsError if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {error}") from error


class _Module:
    """A TorchScript module without its methods: what it holds."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise ValueError("a module that is not a table")
        self.held = state

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        import torch

        found: dict[str, Tensor] = {}
        for name, value in self.held.items():
            if isinstance(value, torch.Tensor):
                found[prefix + name] = value
            elif isinstance(value, _Module):
                found.update(value.tensors(f"{prefix}{name}."))
        return found


class _TensorsOnly(pickle.Unpickler):
    """Unpickles a TorchScript archive's `data.pkl`: modules as tables, storages from the zip."""

    def __init__(self, data: bytes, archive: zipfile.ZipFile, root: str) -> None:
        # The unpickler makes room for the largest place that is named, at once.
        places = (arg for op, arg, _ in pickletools.genops(data) if op.name.endswith("PUT"))
        if max(filter(None, places), default=0) > len(data):
            raise ValueError("a memo larger than the data")
        super().__init__(io.BytesIO(data))
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (inert := _INERT.get(f"{module}.{name}")) is None:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        return inert

    def persistent_load(self, pid: Any) -> Tensor:
        import torch

        what, dtype, key, _device, length = pid
        if what != "storage" or not re.fullmatch(r"\w+", key):
            raise ValueError("no storage")
        if key not in self._storages:
            numbers = bytearray(self._archive.read(f"{self._root}data/{key}"))
            kind = getattr(torch, dtype)
            self._storages[key] = torch.frombuffer(numbers, dtype=kind, count=length)
        return self._storages[key]


def _rebuild(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _first(value: Any, *_: Any) -> Any:
    return value


# What a TorchScript archive may name: how a tensor is laid out, and lists with their type.
_INERT: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "collections.OrderedDict": OrderedDict,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
}


def _inert_globals() -> list[Any]:
    import numpy as np

    make_scalar = np.float64(0).__reduce__()[0]
    # NumPy 2 moved the function; files carry the name of the NumPy that wrote them.
    scalars = [(make_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = {type(np.dtype(code)) for code in _NUMBERS}
    return [argparse.Namespace, (np.dtype, "numpy.dtype"), *scalars, *kinds]


def _named(contents: Mapping[Any, Any], path: Path) -> dict[str, Any]:
    if odd := [key for key in contents if not isinstance(key, str)]:
        raise WeightsError(
            f"{path} is not a checkpoint: a key in it is of type {type(odd[0]).__name__}, not text",
            hint="get the file again, from its authors",
        )
    return dict(contents)


def _require_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if start.startswith(b"<"):
        raise WeightsError(
            f"{path} is a web page, not a checkpoint",
            hint="open the address in a browser, download the file, and give it with --checkpoint",
        )


def _refusal(path: Path, reason: str) -> WeightsError:
    named = _REFUSED_GLOBAL.search(reason)
    what = f"it names {named[1]}" if named else "it is more than plain data"
    return WeightsError(
        f"{path} is refused, as reading it could run code: {what}",
        hint="get the checkpoint from its authors; nothing of this file was run",
    )
