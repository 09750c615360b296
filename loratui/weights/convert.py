"""LoRA files from one format and precision to another, with numpy alone.

PEFT files have no alpha that every reader heeds, so the scale alpha / rank is folded into B on the way there;
on the way back alpha is the rank, unless the file's own `lora_adapter_metadata` says otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratui.errors import SaveError, WeightsError
from loratui.weights.consumers import STRUCTURES
from loratui.weights.header import Header, TensorInfo, encode, read_header
from loratui.weights.verify import family_of, modules_of, structure_of

Array = NDArray[Any]
FORMATS = ("kohya", "peft")
_STORED = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}
_NAMES = {name: stored for stored, name in _STORED.items()}


@dataclass(slots=True)
class Layer:
    """One module's update in fp32: W' = W + alpha / rank * up @ down, with a DoRA's magnitudes as [out]."""

    down: Array
    up: Array
    alpha: float
    magnitude: Array | None = None


def convert_file(source: Path, target: Path, format: str, dtype: str = "") -> None:
    """Write the LoRA of `source` to `target`.

    Args:
        source: a LoRA file in either format.
        target: where to write; replaced atomically.
        format: `kohya` or `peft`.
        dtype: `fp16`, `bf16` or `fp32`; empty keeps the source's.

    Raises:
        WeightsError: not a LoRA of a family known here, or with modules that have no name in the format.
        SaveError: the target cannot be written.
    """
    assert format in FORMATS and dtype in {"", *_NAMES}, (format, dtype)
    header = read_header(source)
    layers, names = _read(header)
    kept = dtype or _precision(header)
    tensors: dict[str, tuple[str, Array]] = {}
    for kohya, layer in layers.items():
        if format == "kohya":
            tensors[f"{kohya}.lora_down.weight"] = (kept, layer.down)
            tensors[f"{kohya}.lora_up.weight"] = (kept, layer.up)
            tensors[f"{kohya}.alpha"] = ("fp32", np.array(layer.alpha, np.float32))
            if layer.magnitude is not None:
                shape = (-1, *[1] * (layer.down.ndim - 1))
                tensors[f"{kohya}.dora_scale"] = (kept, layer.magnitude.reshape(shape))
        else:
            tensors[f"{names[kohya]}.lora_A.weight"] = (kept, layer.down)
            scale = layer.alpha / layer.down.shape[0]
            tensors[f"{names[kohya]}.lora_B.weight"] = (kept, layer.up * np.float32(scale))
            if layer.magnitude is not None:
                wide = layer.down.ndim == 4
                magnitude = layer.magnitude.reshape((1, -1, 1, 1) if wide else (-1,))
                tensors[f"{names[kohya]}.lora_magnitude_vector"] = (kept, magnitude)
    dropped = {"lora_adapter_metadata", "sshs_model_hash", "sshs_legacy_hash"}
    metadata = {k: v for k, v in header.metadata.items() if k not in dropped}
    if format == "peft":
        metadata["format"] = "pt"
        metadata.pop("ss_network_alpha", None)
    _write(target, tensors, metadata)


def _read(header: Header) -> tuple[dict[str, Layer], dict[str, str]]:
    """Layers by kohya name, and kohya name -> PEFT name."""
    _, modules, strange = modules_of(header)
    path = header.path
    if not modules:
        raise WeightsError(f"{path} holds no LoRA keys.", "Name a LoRA file.")
    family = family_of(header, modules)
    if family not in STRUCTURES:
        raise WeightsError(
            f"{path} is a LoRA of a family that cannot be converted ({family or 'unknown'}).",
            "Files of SD1.x, SD2.x and SDXL can.",
        )
    unusual = sorted({p for m in modules.values() for p in m.parts} - {"down", "up", "alpha", "dora_scale"})
    if unusual or strange:
        what = unusual[0] if unusual else strange[0]
        raise WeightsError(f"{path} holds {what}, which is not of a LoRA.", "Only LoRA and DoRA convert.")
    structure = structure_of(header, modules, family)[1]
    names = structure.kohya
    layers: dict[str, Layer] = {}
    with path.open("rb") as file:
        data = file.read()
    for name, module in modules.items():
        kohya = structure.canonical(name)
        if kohya not in names:
            raise WeightsError(f"{path} has a module without a place in the model: {name}.")
        found = {part: _array(data, header.tensors[key]) for part, key in module.keys.items()}
        if "down" not in found or "up" not in found:
            raise WeightsError(f"{name} lacks one of its matrices.", "The file is incomplete.")
        rank = found["down"].shape[0]
        # Without alpha kohya readers take a scale of 1 and PEFT takes alpha = rank, which is the same.
        alpha = float(found["alpha"]) if "alpha" in found else _peft_alpha(header, name, float(rank))
        magnitude = found.get("dora_scale")
        if magnitude is not None and magnitude.size != found["up"].shape[0]:
            raise WeightsError(
                f"{name} has magnitudes along its input, which PEFT has no place for.",
                "Only a DoRA with one magnitude for each output converts.",
            )
        flat = None if magnitude is None else magnitude.reshape(-1)
        layers[kohya] = Layer(found["down"], found["up"], alpha, flat)
    return layers, names


def _peft_alpha(header: Header, name: str, default: float) -> float:
    try:
        stated = json.loads(header.metadata.get("lora_adapter_metadata", "{}"))
        part = name.split(".")[0]
        return float(stated.get(f"{part}.lora_alpha", default))
    except (ValueError, AttributeError, TypeError):
        return default


def _precision(header: Header) -> str:
    kinds = {info.dtype for name, info in header.tensors.items() if not name.endswith("alpha")}
    return _STORED.get(next(iter(kinds)), "fp32") if len(kinds) == 1 else "fp32"


def _array(data: bytes, info: TensorInfo) -> Array:
    """A tensor in fp32."""
    raw = memoryview(data)[info.start : info.end]
    if info.dtype == "BF16":  # the upper half of an fp32 number
        wide = np.frombuffer(raw, np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(info.shape)
    kinds: dict[str, Any] = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "I64": np.int64}
    if info.dtype not in kinds:
        raise WeightsError(
            f"A tensor is stored as {info.dtype}.", "Only fp16, bf16 and fp32 can be converted."
        )
    return np.frombuffer(raw, kinds[info.dtype]).astype(np.float32).reshape(info.shape)


def _bytes(values: Array, dtype: str) -> bytes:
    if dtype == "fp32":
        return values.astype(np.float32).tobytes()
    if dtype == "fp16":
        return values.astype(np.float16).tobytes()
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # Round to nearest, ties to even, as torch does; NaN and Inf come through.
    rounded = bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)
    special = (bits & 0x7F800000) == 0x7F800000
    return (np.where(special, bits, rounded) >> 16).astype(np.uint16).tobytes()


def _write(target: Path, tensors: dict[str, tuple[str, Array]], metadata: dict[str, str]) -> None:
    plain = {
        name: (_NAMES[dtype], values.shape, _bytes(values, dtype))
        for name, (dtype, values) in tensors.items()
    }
    bare = encode(plain, {})
    start = 8 + int.from_bytes(bare[:8], "little")
    hashes = {
        "sshs_model_hash": hashlib.sha256(memoryview(bare)[start:]).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(bare[0x100000:0x110000]).hexdigest()[:8],
    }
    data = encode(plain, {**metadata, **hashes})
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SaveError(
            f"{target} cannot be written: {error.strerror or error}.", "Check the disk and its permissions."
        ) from error
