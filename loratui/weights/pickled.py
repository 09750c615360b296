"""Pickled checkpoints (`.ckpt`, `.pt`, `.bin`) read without running anything that they say: torch-free.

A pickle is a program. This one is run by Python's unpickler with a table of a few harmless names instead of
imports: what else it asks for ends the reading with an error. Tensors come from the archive's own entries.
`read_pickled` is meant to be run in a process of its own (`loratui.jobs.unpickle`), with limits on memory,
because a file may also be made to eat it.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loratui.errors import WeightsError
from loratui.weights.header import DTYPE_BITS

_STORAGES = {
    "FloatStorage": "F32", "DoubleStorage": "F64", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip
MAX_PICKLE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pickled:
    """A tensor of a pickled checkpoint: dtype as in a .safetensors header, shape, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: str
    key: str


@dataclass(frozen=True, slots=True)
class _View:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Unused:
    """Stands for objects that a checkpoint may hold beside its tensors; keeps nothing of them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take anything."""

    def __setstate__(self, state: Any) -> None:
        """Forget it."""


class _Refused(Exception):
    """The pickle asks for something that is not in the table."""


def _rebuild(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> _View:
    if not isinstance(storage, _Storage):
        raise _Refused("a tensor without storage")
    return _View(storage, int(offset), tuple(int(n) for n in size), tuple(int(n) for n in stride))


def _parameter(data: Any, *rest: Any) -> Any:
    return data


class _Reader(pickle.Unpickler):
    """An unpickler that knows tensors, ordered dicts and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name, or the end of the reading."""
        table: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("numpy.core.multiarray", "scalar"): _Unused,
            ("numpy", "dtype"): _Unused,
            ("_codecs", "encode"): _Unused,
        }
        if (module, name) in table:
            return table[module, name]
        if module in {"torch", "torch.storage"} and name in _STORAGES:
            return _STORAGES[name]
        # Lightning keeps its callbacks beside the weights: their places are kept, they are not made.
        if module.split(".")[0] in {"pytorch_lightning", "lightning_fabric"}:
            return _Unused
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage by its key in the archive."""
        if not (isinstance(pid, tuple) and len(pid) >= 3 and pid[0] == "storage" and pid[1] in DTYPE_BITS):
            raise _Refused("an unknown storage")
        return _Storage(str(pid[1]), str(pid[2]))


def read_pickled(path: Path) -> Iterator[tuple[str, Pickled]]:
    """Names and tensors of a pickled checkpoint, one by one.

    Raises:
        WeightsError: not such a file, or one that asks to run something.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} is not a checkpoint as torch writes them since version 1.6.",
            "Older pickles are not read: look for the .safetensors file of the same model.",
        ) from error
    with archive:
        root = next((n[: -len("data.pkl")] for n in archive.namelist() if n.endswith("data.pkl")), None)
        if root is None:
            raise WeightsError(f"{path} holds no weights.", "Name a checkpoint.")
        big = f"{root}byteorder"
        if big in archive.namelist() and archive.read(big).strip() == b"big":
            raise WeightsError(f"{path} was written on a big-endian machine.", "Take the .safetensors file.")
        if archive.getinfo(f"{root}data.pkl").file_size > MAX_PICKLE_BYTES:
            raise WeightsError(f"{path} holds a pickle of impossible size.", "It is no checkpoint.")
        try:
            with archive.open(f"{root}data.pkl") as file:
                found = _Reader(file).load()
        except _Refused as error:
            raise WeightsError(
                f"{path} asks to run {error}, which weights have no need of. Nothing of it was run.",
                "Do not use this file.",
            ) from None
        except Exception as error:
            raise WeightsError(f"{path} is damaged: {type(error).__name__}.", "Download it again.") from error
        views = _named(found)
        if not views:
            raise WeightsError(f"{path} holds no weights.", "Name a checkpoint.")
        for name, view in views.items():
            yield name, _tensor(archive, root, name, view)


def _named(found: Any) -> dict[str, _View]:
    """Tensors by name: of the state dict where there is one, nested dicts joined by dots."""
    if not isinstance(found, dict):
        return {}
    for key in ("state_dict", "model", "module"):
        if isinstance(found.get(key), dict):
            found = found[key]
            break
    flat: dict[str, _View] = {}
    pending: list[tuple[str, Any, int]] = [("", found, 0)]
    while pending:
        prefix, value, depth = pending.pop()
        if isinstance(value, _View):
            flat[prefix] = value
        elif isinstance(value, dict) and depth < 8:
            for key, inner in value.items():
                if isinstance(key, str):
                    pending.append((f"{prefix}.{key}" if prefix else key, inner, depth + 1))
    return flat


def _tensor(archive: zipfile.ZipFile, root: str, name: str, view: _View) -> Pickled:
    width = DTYPE_BITS[view.storage.dtype] // 8
    try:
        data = archive.read(f"{root}data/{view.storage.key}")
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise WeightsError(f"The numbers of {name} are missing.", "The file is damaged.") from error
    count = len(data) // width
    kind = np.dtype(f"V{width}")
    last = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.stride, strict=True))
    empty = 0 in view.shape
    if min((view.offset, *view.shape, *view.stride), default=0) < 0 or (not empty and last >= count):
        raise WeightsError(f"{name} reaches beyond its storage.", "The file is damaged.")
    whole = np.frombuffer(data, kind)
    strides = [s * width for s in view.stride]
    part = np.lib.stride_tricks.as_strided(whole[view.offset :], view.shape, strides, writeable=False)
    return Pickled(view.storage.dtype, view.shape, np.ascontiguousarray(part).tobytes())
