"""Textual-inversion files: which vectors they hold, for which text encoder; by their header alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loratui.errors import WeightsError
from loratui.weights.header import Header, read_header

ENCODERS: dict[str, dict[str, str]] = {
    "sd15": {"lora_te": "emb_params"},
    "sd2": {"lora_te": "emb_params"},
    "sdxl": {"lora_te1": "clip_l", "lora_te2": "clip_g"},
}
"""Family -> text encoder's key -> what A1111 and ComfyUI call the vectors for it."""
WIDTHS: dict[str, dict[str, int]] = {
    "sd15": {"emb_params": 768},
    "sd2": {"emb_params": 1024},
    "sdxl": {"clip_l": 768, "clip_g": 1280},
}
"""Family -> name of a tensor -> numbers of a vector, in the true models."""
ENCODER_NAMES = frozenset({"clip_l", "clip_g", "clip_h", "t5xxl"})
"""Tensors that ComfyUI knows by name."""
MOST_VECTORS = 75
"""What a prompt has room for."""


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


def is_embedding(header: Header) -> bool:
    """Whether a file holds nothing but vectors for text encoders, in a form that others read."""
    names, shapes = set(header.tensors), [info.shape for info in header.tensors.values()]
    known = names <= ENCODER_NAMES or (len(names) == 1 and "." not in min(names))
    return (
        bool(names)
        and known
        and all(len(s) == 1 or (len(s) == 2 and 0 < s[0] <= MOST_VECTORS) for s in shapes)
    )


def bundled(header: Header) -> dict[str, str]:
    """Name in an embedding file -> tensor, of the vectors that a checkpoint or a LoRA file carries along.

    Empty where there are none, or those of several embeddings or in another form, as A1111 may bundle them.
    """
    names = [name for name in header.tensors if name.startswith("bundle_emb.")]
    found = {name.rpartition(".")[2]: name for name in names}
    one = len({name.rpartition(".")[0] for name in names}) == 1
    return found if one and found.keys() <= ENCODER_NAMES | {"emb_params"} else {}


def embedding_metadata(metadata: Mapping[str, str], stem: str) -> dict[str, str]:
    """What an embedding file says of itself, from what its run's LoRA file says.

    Args:
        metadata: of the LoRA file: `ss_*` and `modelspec.*`.
        stem: the embedding file's name, by which prompts call it.
    """
    of_networks = ("ss_network_", "ss_unet_lr", "ss_text_encoder_lr", "sshs_", "lora_adapter_metadata")
    kept = {key: value for key, value in metadata.items() if not key.startswith(of_networks)}
    architecture = kept.get("modelspec.architecture", "")
    if architecture.endswith("/lora"):
        kept["modelspec.architecture"] = f"{architecture.removesuffix('/lora')}/textual-inversion"
    return kept | {
        "modelspec.trigger_phrase": stem,
        "modelspec.usage_hint": f"Put {stem} into the prompt, in ComfyUI embedding:{stem}.",
    }


def word_of(path: Path) -> str:
    """What a prompt calls an embedding: the name of its file, without `-embedding` at its end."""
    return re.sub(r"[-_]embedding$", "", path.stem) or path.stem


def _count(path: Path, name: str, shape: tuple[int, ...]) -> int:
    if len(shape) == 1 and shape[0] > 0:
        return 1
    if len(shape) == 2 and 0 < shape[0] <= MOST_VECTORS:
        return int(shape[0])
    raise WeightsError(f"{path}: {name} has shape {list(shape)}, which is no embedding.")
