"""Textual-inversion files: which vectors they hold, for which text encoder; by their header alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loratui.errors import WeightsError
from loratui.weights.header import read_header

ENCODERS: dict[str, dict[str, str]] = {
    "sd15": {"lora_te": "emb_params"},
    "sd2": {"lora_te": "emb_params"},
    "sdxl": {"lora_te1": "clip_l", "lora_te2": "clip_g"},
}
"""Family -> text encoder's key -> what A1111 and ComfyUI call the vectors for it."""


@dataclass(frozen=True, slots=True)
class EmbeddingFile:
    """An embedding that prompts may name.

    Attributes:
        path: of the file.
        word: what stands for it in a prompt: the file's name, as in A1111.
        keys: text encoder's key -> name of its tensor.
        vectors: how many tokens it takes.
    """

    path: Path
    word: str
    keys: Mapping[str, str]
    vectors: int


def open_embedding(path: Path, family: str) -> EmbeddingFile:
    """Look at an embedding file for a family.

    Raises:
        WeightsError: it cannot be read, or holds no vectors for this family.
    """
    if path.suffix.lower() in {".pt", ".bin", ".ckpt"}:
        raise WeightsError(
            f"{path} is a pickle, which can run code when it is opened.", "Take its .safetensors form."
        )
    header = read_header(path)
    wanted = ENCODERS.get(family)
    if wanted is None:
        raise WeightsError(f"Embeddings for {family or 'this base'} are not known here.")
    keys = {encoder: name for encoder, name in wanted.items() if name in header.tensors}
    if not keys and len(wanted) == 1 and len(header.tensors) == 1:  # diffusers: {"<word>": vectors}
        keys = {next(iter(wanted)): next(iter(header.tensors))}
    if len(keys) < len(wanted):
        missing = ", ".join(name for encoder, name in wanted.items() if encoder not in keys)
        raise WeightsError(
            f"{path} holds no embedding for {family}: {missing} is missing.",
            "Take one that was trained on a base of this family.",
        )
    counts = {_count(path, name, header.tensors[name].shape) for name in keys.values()}
    if len(counts) != 1:
        raise WeightsError(f"{path} has another number of vectors for each text encoder.")
    return EmbeddingFile(path, word_of(path), keys, counts.pop())


def word_of(path: Path) -> str:
    """What a prompt calls an embedding: the name of its file, without `-embedding` at its end."""
    return re.sub(r"[-_]embedding$", "", path.stem) or path.stem


def _count(path: Path, name: str, shape: tuple[int, ...]) -> int:
    if len(shape) == 1 and shape[0] > 0:
        return 1
    if len(shape) == 2 and 0 < shape[0] <= 75:
        return int(shape[0])
    raise WeightsError(f"{path}: {name} has shape {list(shape)}, which is no embedding.")
