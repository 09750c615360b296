"""A LoRA file in another key format or precision, without torch: bytes in, bytes out.

PEFT readers take a missing alpha as a scale of 1, so a scale of alpha / rank is multiplied into lora_B
there; the other way round alpha is written as the rank, which is the same scale of 1.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from loratui.errors import SaveError, WeightsError
from loratui.weights.consumers import STRUCTURES, structure_from_text
from loratui.weights.header import read_header
from loratui.weights.verify import kohya_form, verify_file

Format = Literal["kohya", "peft"]
FORMATS: tuple[Format, ...] = ("kohya", "peft")
_SUFFIXES = {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight"}


@dataclass(frozen=True, slots=True)
class _Tensor:
    dtype: str
    shape: tuple[int, ...]
    data: bytes


def convert_file(source: Path, target: Path, to: Format, dtype: str = "") -> int:
    """Write `source` as another LoRA file; returns its size in bytes.

    Args:
        source: a LoRA of SD1.x or SD2.x, kohya or PEFT.
        target: replaced atomically.
        to: key format.
        dtype: `fp16`, `bf16` or `fp32` for the matrices; empty keeps theirs.

    Raises:
        WeightsError: not a LoRA that can be converted.
        SaveError: the target cannot be written.
    """
    found = verify_file(source)
    if not found.format:
        raise WeightsError(f"{source} holds no LoRA keys.", "Name a LoRA file.")
    tensors, metadata = _read(source)
    if found.format != to:
        if found.family not in STRUCTURES:
            raise WeightsError(
                f"{source} is of a family whose names cannot be converted yet ({found.family or 'unknown'}).",
                "Keep its own format.",
            )
        tensors = _to_peft(tensors, metadata, found.family) if to == "peft" else _to_kohya(tensors, metadata)
    if dtype:
        tensors = {k: v if k.endswith(".alpha") else _cast(v, dtype) for k, v in tensors.items()}
    return _write(target, tensors, metadata)


def _to_peft(tensors: dict[str, _Tensor], metadata: dict[str, str], family: str) -> dict[str, _Tensor]:
    structure = structure_from_text(metadata.get("loratui_structure", ""), family) or STRUCTURES[family]
    out: dict[str, _Tensor] = {}
    for key, tensor in tensors.items():
        name, _, part = key.partition(".")
        if part == "alpha":
            continue
        dotted = structure.kohya.get(name)
        if dotted is None or part not in _SUFFIXES:
            raise WeightsError(f"{key} has no PEFT name.", "Keep the file's own format.")
        if part == "lora_up.weight" and f"{name}.alpha" in tensors:
            rank = tensors[f"{name}.lora_down.weight"].shape[0]
            scale = float(_values(tensors[f"{name}.alpha"]).reshape(-1)[0]) / rank
            if scale != 1.0:
                tensor = _encode(_values(tensor) * np.float32(scale), tensor.dtype)
        out[f"{dotted}.{_SUFFIXES[part]}"] = tensor
    return out


def _to_kohya(tensors: dict[str, _Tensor], metadata: dict[str, str]) -> dict[str, _Tensor]:
    scales = _adapter_scales(metadata)
    parts = {theirs: ours for ours, theirs in _SUFFIXES.items()}
    out: dict[str, _Tensor] = {}
    for key, tensor in tensors.items():
        ending = next((e for e in parts if key.endswith(f".{e}")), "")
        if not ending:
            raise WeightsError(f"{key} has no kohya name.", "Keep the file's own format.")
        module = key.removesuffix(f".{ending}")
        name = kohya_form(module)
        out[f"{name}.{parts[ending]}"] = tensor
        if ending == "lora_A.weight":
            alpha = tensor.shape[0] * scales.get(module.partition(".")[0], 1.0)
            out[f"{name}.alpha"] = _encode(np.array(alpha, np.float32), "F32")
    return out


def _adapter_scales(metadata: dict[str, str]) -> dict[str, float]:
    """Component -> alpha / rank, from the metadata that diffusers writes; 1 where it says nothing."""
    try:
        stated = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        return {
            part: float(stated[f"{part}.lora_alpha"]) / float(stated[f"{part}.r"])
            for part in ("unet", "text_encoder")
            if f"{part}.r" in stated and f"{part}.lora_alpha" in stated
        }
    except (ValueError, TypeError, KeyError, ZeroDivisionError):
        return {}


def _read(path: Path) -> tuple[dict[str, _Tensor], dict[str, str]]:
    header = read_header(path)
    tensors: dict[str, _Tensor] = {}
    with path.open("rb") as file:
        for name, info in header.tensors.items():
            file.seek(info.start)
            tensors[name] = _Tensor(info.dtype, info.shape, file.read(info.end - info.start))
    return tensors, dict(header.metadata)


def _values(tensor: _Tensor) -> npt.NDArray[np.float32]:
    if tensor.dtype == "BF16":  # the upper half of an fp32 number
        wide = np.frombuffer(tensor.data, np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(tensor.shape)
    kinds: dict[str, Any] = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
    if tensor.dtype not in kinds:
        raise WeightsError(
            f"The file holds {tensor.dtype} numbers.", "Only fp16, bf16 and fp32 can be converted."
        )
    return np.frombuffer(tensor.data, kinds[tensor.dtype]).astype(np.float32).reshape(tensor.shape)


def _encode(values: npt.NDArray[np.float32], dtype: str) -> _Tensor:
    if dtype == "BF16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to the nearest, ties to even
        return _Tensor(dtype, values.shape, rounded.astype(np.uint16).tobytes())
    kind: Any = {"F16": np.float16, "F32": np.float32, "F64": np.float64}[dtype]
    return _Tensor(dtype, values.shape, np.ascontiguousarray(values, kind).tobytes())


def _cast(tensor: _Tensor, dtype: str) -> _Tensor:
    wanted = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}[dtype]
    return tensor if tensor.dtype == wanted else _encode(_values(tensor), wanted)


def _write(path: Path, tensors: dict[str, _Tensor], metadata: dict[str, str]) -> int:
    """Write atomically, with the content hashes of the new bytes."""
    # wide types first, so that every tensor starts at a multiple of its own size
    order = sorted(tensors, key=lambda n: (-_width(tensors[n]), n))
    body = b"".join(tensors[name].data for name in order)
    bare = _header(tensors, order, {}) + body
    metadata = {
        **metadata,
        "sshs_model_hash": hashlib.sha256(body).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(bare[0x100000:0x110000]).hexdigest()[:8],
    }
    data = _header(tensors, order, metadata) + body
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SaveError(
            f"{path} cannot be written: {error.strerror}.", "Choose another place with --out."
        ) from error
    return len(data)


def _width(tensor: _Tensor) -> int:
    return {"F64": 8, "F32": 4}.get(tensor.dtype, 2)


def _header(tensors: dict[str, _Tensor], order: list[str], metadata: dict[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    start = 0
    for name in order:
        tensor = tensors[name]
        end = start + len(tensor.data)
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
