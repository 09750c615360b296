"""Tensors of .safetensors files as numpy arrays, and files written tensor by tensor: torch-free.

A base of many GiB is never held whole: a file is written from a list of names, shapes and producers, one
tensor in memory at a time, into a temporary file that replaces the target at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratui.errors import SaveError, WeightsError
from loratui.weights.header import DTYPE_BITS, Header, TensorInfo

Array = NDArray[Any]
STORED = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}
NAMES = {name: stored for stored, name in STORED.items()}
_NUMPY: dict[str, Any] = {
    "F16": np.float16, "F32": np.float32, "F64": np.float64, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


def _float8(exponent_bits: int, bias: int, finite_only: bool) -> Array:
    """The 256 values of an 8-bit float; `finite_only` is the kind without infinities (E4M3)."""
    codes = np.arange(256)
    mantissa_bits = 7 - exponent_bits
    sign = np.where(codes >> 7, -1.0, 1.0)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = codes & ((1 << mantissa_bits) - 1)
    share = mantissa / (1 << mantissa_bits)
    value = np.where(exponent == 0, share * 2.0 ** (1 - bias), (1.0 + share) * 2.0 ** (exponent - bias))
    top = exponent == (1 << exponent_bits) - 1
    if finite_only:
        value = np.where(top & (mantissa == (1 << mantissa_bits) - 1), np.nan, value)
    else:
        value = np.where(top, np.where(mantissa == 0, np.inf, np.nan), value)
    return (sign * value).astype(np.float32)


_FLOAT8 = {"F8_E4M3": _float8(4, 7, True), "F8_E5M2": _float8(5, 15, False)}


def decode(data: bytes | memoryview, dtype: str, shape: tuple[int, ...], what: str = "A tensor") -> Array:
    """Stored bytes as an array: floats in fp32, whole numbers as they are.

    Raises:
        WeightsError: a type that no one here reads.
    """
    if dtype == "BF16":  # the upper half of an fp32 number
        wide = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(shape)
    if dtype in _FLOAT8:
        return _FLOAT8[dtype][np.frombuffer(data, np.uint8)].reshape(shape)
    if dtype not in _NUMPY:
        raise WeightsError(f"{what} is stored as {dtype}, which is not read here.", "Take the fp16 file.")
    found = np.frombuffer(data, _NUMPY[dtype]).reshape(shape)
    return found.astype(np.float32) if dtype in {"F16", "F64"} else found


def encode_array(values: Array, dtype: str) -> bytes:
    """Bytes of an array in `fp32`, `fp16` or `bf16`, rounded to nearest."""
    if dtype == "fp32":
        return np.ascontiguousarray(values, np.float32).tobytes()
    if dtype == "fp16":
        return np.ascontiguousarray(values).astype(np.float16).tobytes()
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # Round to nearest, ties to even, as torch does; NaN and Inf come through.
    rounded = bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)
    special = (bits & 0x7F800000) == 0x7F800000
    return (np.where(special, bits, rounded) >> 16).astype(np.uint16).tobytes()


def read(header: Header, name: str) -> Array:
    """One tensor of a file, see `decode`."""
    info = header.tensors[name]
    return decode(read_bytes(header, name), info.dtype, info.shape, f"{name} in {header.path}")


def read_bytes(header: Header, name: str) -> bytes:
    """One tensor's bytes as they are stored."""
    info: TensorInfo = header.tensors[name]
    with header.path.open("rb") as file:
        file.seek(info.start)
        return file.read(info.end - info.start)


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor to write: dtype as in the header (`F16`), shape, and what makes its bytes in its turn."""

    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], bytes]

    @classmethod
    def of(cls, values: Array, dtype: str) -> Entry:
        """An array that is there, in `fp32`, `fp16` or `bf16`."""
        return cls(NAMES[dtype], tuple(values.shape), lambda: encode_array(values, dtype))

    @classmethod
    def copy(cls, header: Header, name: str) -> Entry:
        """A tensor of another file, byte by byte."""
        info = header.tensors[name]
        return cls(info.dtype, info.shape, lambda: read_bytes(header, name))

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return (int(np.prod(self.shape, dtype=np.int64)) * DTYPE_BITS[self.dtype] + 7) // 8


def write(
    target: Path, entries: Mapping[str, Entry], metadata: Mapping[str, str], hashed: bool = True
) -> int:
    """Write a .safetensors file atomically, one tensor at a time; returns its size in bytes.

    Args:
        target: replaced when all is written.
        entries: by name.
        metadata: text metadata.
        hashed: add `sshs_model_hash` and `sshs_legacy_hash`, which LoRA files have.

    Raises:
        SaveError: the disk is full or failing.
    """
    order = sorted(entries, key=lambda n: (-DTYPE_BITS[entries[n].dtype], n))  # wide first: all stay aligned
    placeholder = {"sshs_model_hash": "0" * 64, "sshs_legacy_hash": "0" * 8} if hashed else {}
    head = _head(entries, order, {**metadata, **placeholder})
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(head)
            digest = hashlib.sha256()
            size = len(head)
            for name in order:
                data = entries[name].make()
                assert len(data) == entries[name].bytes, (name, len(data), entries[name])
                digest.update(data)
                file.write(data)
                size += len(data)
            if hashed:
                bare = _head(entries, order, {})
                final = {"sshs_model_hash": digest.hexdigest(), "sshs_legacy_hash": ""}
                file.flush()
                final["sshs_legacy_hash"] = _legacy(temporary, len(head), bare)
                head = _head(entries, order, {**metadata, **final})
                file.seek(0)
                file.write(head)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise SaveError(
            f"{target} cannot be written: {error.strerror or error}.", "Check the disk and its permissions."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return size


def _head(entries: Mapping[str, Entry], order: Iterable[str], metadata: Mapping[str, str]) -> bytes:
    found: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name in order:
        entry = entries[name]
        end = offset + entry.bytes
        found[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _legacy(path: Path, start: int, bare_head: bytes) -> str:
    """A1111's old hash, 64 KiB at 1 MiB, of the file as it would be without metadata."""
    want_from, want_to = 0x100000, 0x110000
    data = bare_head[want_from:want_to]
    with path.open("rb") as file:
        file.seek(start + max(0, want_from - len(bare_head)))
        data += file.read(max(0, want_to - max(want_from, len(bare_head))))
    return hashlib.sha256(data).hexdigest()[:8]
