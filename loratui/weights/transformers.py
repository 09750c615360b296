"""LoRA files of diffusion transformers from kohya's form to PEFT's and back, with numpy alone.

Where the original has several of diffusers' layers as one matrix (fused q, k and v), a kohya file has one
pair for them. To PEFT each layer gets A and its rows of B. Back, layers that share their A become the pair
that they were; others become one of the summed rank, with B in blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loratui.errors import WeightsError
from loratui.weights.consumers import Tower
from loratui.weights.header import Header
from loratui.weights.layouts import Names, names_of, part_sizes
from loratui.weights.tensors import Array, read
from loratui.weights.verify import Module

_TOWERS = (
    Tower("lora_te1", "text_encoder", "", 48, False),
    Tower("lora_te2", "text_encoder_2", "", 48, False),
)
Pair = tuple[Array, Array, float]
"""A, B and alpha: W' = W + alpha / rank * B A."""


def read_pairs(header: Header, modules: dict[str, Module], family: str) -> dict[str, Pair]:
    """Pairs by diffusers' dotted names (`transformer.` or a text encoder's in front).

    Raises:
        WeightsError: a module is incomplete or has no place in the model.
    """
    names = names_of(family, header.metadata.get("loratui_structure", ""))
    found: dict[str, Pair] = {}
    for name, module in modules.items():
        parts = {part: read(header, key) for part, key in module.keys.items()}
        if not {"down", "up"} <= parts.keys() or set(parts) - {"down", "up", "alpha"}:
            raise WeightsError(f"{name} is not a pair of a LoRA.", "Only LoRA files have two forms.")
        down, up = parts["down"], parts["up"]
        alpha = float(parts["alpha"]) if "alpha" in parts else float(down.shape[0])
        layers = places(name, names)
        if not layers:
            raise WeightsError(f"{header.path} has a module without a place in the model: {name}.")
        row = 0
        for layer, size in zip(layers, part_sizes(len(layers), up.shape[0], down.shape[1]), strict=True):
            found[layer] = down, up[row : row + size], alpha
            row += size
    return found


def places(name: str, names: Names) -> list[str]:
    """The dotted names of the layers that a module of a file stands for, in order; none where unknown."""
    original = names.kohya.get(name) or name.removeprefix("diffusion_model.")
    if original in names.originals:
        return [f"transformer.{layer}" for layer in names.originals[original]]
    dotted = name.removeprefix("transformer.").removeprefix("diffusion_model.")
    if dotted != name and dotted in names.parts:
        return [f"transformer.{dotted}"]
    return [text for text in [_text(name)] if text]


def _text(name: str) -> str:
    """A text encoder's module, dotted."""
    for tower in _TOWERS:
        for module in tower.modules:
            if name in {f"{tower.kohya}_" + module.replace(".", "_"), f"{tower.peft}.{module}"}:
                return f"{tower.peft}.{module}"
    return ""


def to_kohya(pairs: dict[str, Pair], family: str, stated: str) -> dict[str, Pair]:
    """Pairs by kohya's names.

    Raises:
        WeightsError: only some parts of a matrix are there.
    """
    names = names_of(family, stated)
    found: dict[str, Pair] = {}
    for original, layers in names.originals.items():
        there = [f"transformer.{layer}" for layer in layers if f"transformer.{layer}" in pairs]
        if not there:
            continue
        if len(there) < len(layers):
            raise WeightsError(
                f"{there[0]} is part of {original}, and the file lacks the other parts.",
                "Leave it in PEFT's form.",
            )
        found["lora_unet_" + original.replace(".", "_")] = _joined([pairs[n] for n in there])
    for name, pair in pairs.items():
        if not name.startswith("transformer."):
            tower = next(t for t in _TOWERS if name.startswith(f"{t.peft}."))
            found[f"{tower.kohya}_" + name.removeprefix(f"{tower.peft}.").replace(".", "_")] = pair
    return found


def _joined(pairs: Sequence[Pair]) -> Pair:
    """One pair for layers whose outputs are one after the other."""
    first = pairs[0]
    if all(p[0].shape == first[0].shape and np.array_equal(p[0], first[0]) for p in pairs):
        scales = [p[2] / first[2] for p in pairs]
        return first[0], np.concatenate([p[1] * s for p, s in zip(pairs, scales, strict=True)]), first[2]
    ranks = [p[0].shape[0] for p in pairs]
    up = np.zeros((sum(p[1].shape[0] for p in pairs), sum(ranks)), np.float32)
    row = column = 0
    for (_, part, alpha), rank in zip(pairs, ranks, strict=True):
        up[row : row + part.shape[0], column : column + rank] = part * (alpha / rank)
        row, column = row + part.shape[0], column + rank
    return np.concatenate([p[0] for p in pairs]), up, float(sum(ranks))
