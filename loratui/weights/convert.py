"""LoRA files from one format and precision to another, with numpy alone.

PEFT files have no alpha that every reader heeds, so the scale alpha / rank is folded into B on the way there;
on the way back alpha is the rank, unless the file's own `lora_adapter_metadata` says otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loratui.errors import WeightsError
from loratui.weights import layouts, transformers
from loratui.weights.consumers import STRUCTURES
from loratui.weights.embedding_files import bundled, embedding_metadata, is_embedding
from loratui.weights.header import Header, read_header
from loratui.weights.networks import network_of
from loratui.weights.tensors import NAMES, STORED, Array, Entry, read, write
from loratui.weights.verify import Module, family_of, modules_of, structure_of

FORMATS = ("kohya", "peft")


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
    assert format in FORMATS and dtype in {"", *NAMES}, (format, dtype)
    header = read_header(source)
    own, modules, _ = modules_of(header)
    kept = dtype or _precision(header)
    dropped = {"lora_adapter_metadata", "sshs_model_hash", "sshs_legacy_hash"}
    metadata = {k: v for k, v in header.metadata.items() if k not in dropped}
    spec = network_of({part for m in modules.values() for part in m.parts})
    if own == format and spec is not None and spec.name not in {"lora", "dora"}:
        write(target, _as_it_is(header, modules, kept), metadata)  # only the precision may change
        return
    family = family_of(header, modules)
    if family in layouts.families():
        pairs = transformers.read_pairs(header, modules, family)
        metadata |= {"loratui_family": family}
        named = _transformer(pairs, family, metadata.get("loratui_structure", ""), format, kept)
        if format == "peft":
            metadata["format"] = "pt"
            metadata.pop("ss_network_alpha", None)
        write(target, named, metadata)
        return
    layers, names = _read(header)
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
    if format == "peft":
        metadata["format"] = "pt"
        metadata.pop("ss_network_alpha", None)
    write(target, {name: Entry.of(values, kind) for name, (kind, values) in tensors.items()}, metadata)


def convert_embedding(source: Path, target: Path, dtype: str = "") -> None:
    """Write the embedding of `source` to `target`.

    Args:
        source: an embedding file, or a checkpoint or LoRA that carries new tokens along.
        target: where to write; replaced atomically.
        dtype: `fp16`, `bf16` or `fp32`; empty keeps the source's.

    Raises:
        WeightsError: there are no vectors for text encoders in it.
        SaveError: the target cannot be written.
    """
    header = read_header(source)
    names = bundled(header) or ({name: name for name in header.tensors} if is_embedding(header) else {})
    if not names:
        raise WeightsError(f"{source} holds no embedding.", "Name a file of new tokens.")
    found = {
        short: Entry.of(read(header, name), dtype) if dtype else Entry.copy(header, name)
        for short, name in names.items()
    }
    write(target, found, embedding_metadata(header.metadata, target.stem), hashed=False)


def _transformer(
    pairs: dict[str, transformers.Pair], family: str, stated: str, format: str, dtype: str
) -> dict[str, Entry]:
    """The tensors of a diffusion transformer's file in a form."""
    found: dict[str, Entry] = {}
    if format == "kohya":
        for name, (down, up, alpha) in transformers.to_kohya(pairs, family, stated).items():
            found[f"{name}.lora_down.weight"] = Entry.of(down, dtype)
            found[f"{name}.lora_up.weight"] = Entry.of(up, dtype)
            found[f"{name}.alpha"] = Entry.of(np.array(alpha, np.float32), "fp32")
        return found
    for name, (down, up, alpha) in pairs.items():
        found[f"{name}.lora_A.weight"] = Entry.of(down, dtype)
        found[f"{name}.lora_B.weight"] = Entry.of(up * np.float32(alpha / down.shape[0]), dtype)
    return found


def _as_it_is(header: Header, modules: dict[str, Module], dtype: str) -> dict[str, Entry]:
    """The tensors of a file under their own names, in another precision; alpha stays fp32."""
    alphas = {key for m in modules.values() for part, key in m.keys.items() if part == "alpha"}
    return {n: Entry.of(read(header, n), "fp32" if n in alphas else dtype) for n in header.tensors}


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
        raise WeightsError(
            f"{path} holds {what}, which is not of a LoRA.", "Only LoRA and DoRA have two formats."
        )
    structure = structure_of(header, modules, family)[1]
    names = structure.kohya
    layers: dict[str, Layer] = {}
    for name, module in modules.items():
        kohya = structure.canonical(name)
        if kohya not in names:
            raise WeightsError(f"{path} has a module without a place in the model: {name}.")
        found = {part: read(header, key) for part, key in module.keys.items()}
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
    return STORED.get(next(iter(kinds)), "fp32") if len(kinds) == 1 else "fp32"
