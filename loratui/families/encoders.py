"""Which text encoders a base needs, and which of its parts are nowhere: all at once, from names and headers.

Torch-free, so that the plan says before the run what loading would stumble over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loratui.errors import BaseModelError, Problem, WeightsError
from loratui.families.detected import component, json_of
from loratui.families.marks import VAE, lacks
from loratui.families.sources import (
    TextPart,
    find_encoder,
    find_tokenizer,
    header_of,
    no_encoder,
    no_tokenizer,
)
from loratui.families.spec import FamilySpec, row_of

_CLIP_MARK = "text_model.encoder.layers.0.layer_norm1.weight"
_CLIP_KINDS = ("clip_text_model", "clip")
_BPE_FILES = ("tokenizer.json", "vocab.json")
_CLIPS = tuple(
    TextPart(title, "", "", _CLIP_MARK, hint, _CLIP_KINDS, (), _BPE_FILES)
    for title, hint in (("CLIP-L", "clip_l"), ("CLIP-G", "clip_g"))
)
_OTHERS = {
    "T5": TextPart(
        "T5", "", "", "encoder.block.0.layer.0.SelfAttention.q.weight", "t5", ("t5",), ("T5",),
        ("tokenizer.json", "spiece.model"),
    ),
    "Qwen3": TextPart(
        "Qwen3", "", "", "layers.0.self_attn.q_norm.weight", "qwen3", ("qwen3",), ("Qwen2",), _BPE_FILES
    ),
    "Qwen2_5_VL": TextPart(
        # Qwen3's have no bias there; `qwen25_7b` is in its prefix in ComfyUI's files of whole bases.
        "Qwen2.5-VL", "", "", "layers.0.self_attn.k_proj.bias", "qwen25", ("qwen2_5_vl",), ("Qwen2",),
        _BPE_FILES,
    ),
    "Mistral": TextPart(
        "Mistral", "", "", "layers.0.self_attn.q_proj.weight", "mistral3", ("mistral3", "mistral"),
        ("Llama", "Mistral", "PreTrainedTokenizer", "TokenizersBackend", "Pixtral"),
        ("tokenizer.json", "tekken.json"),
    ),
}  # fmt: skip
"""By the beginning of their classes' names in transformers."""


def part_of(kind: str, folder: str, tokenizer: str) -> TextPart:
    """A text encoder as a part of a family, by the beginning of its class's name in transformers.

    Raises:
        KeyError: none is known by that name.
    """
    return replace(_OTHERS[kind], folder=folder, tokenizer=tokenizer)


def clip_part(number: int, folder: str, tokenizer: str) -> TextPart:
    """CLIP as a part of a family: 0 is CLIP-L, 1 is CLIP-G."""
    return replace(_CLIPS[number], folder=folder, tokenizer=tokenizer)


def text_parts(row: FamilySpec, base: Path) -> tuple[TextPart, ...]:
    """The text encoders that a base cannot do without, and those that it names itself.

    A folder's own model_index.json says which; for files it is the packaged one of the family, without what
    its head calls optional.
    """
    index = json_of(base / "model_index.json") if base.is_dir() else row.packaged("model_index")
    found: list[TextPart] = []
    for folder, value in index.items():
        if not folder.startswith("text_encoder") or not isinstance(value, list) or not value[-1]:
            continue
        kind = str(value[-1])
        if not base.is_dir():
            kind = next((k for mark, k in row.text_by_tensor.items() if _holds(base, mark)), kind)
        tokenizer = folder.replace("text_encoder", "tokenizer")
        if kind.startswith("CLIPText"):
            clips = sum(part.mark == _CLIP_MARK for part in found)
            part = clip_part(min(clips, 1), folder, tokenizer)
        else:
            known = next((start for start in _OTHERS if kind.startswith(start)), None)
            if known is None:  # one that its family alone knows: loading says what it lacks
                continue
            part = part_of(known, folder, tokenizer)
        found.append(part)
    return tuple(found)


def missing(row: FamilySpec, base: Path, vae: Path | None, text: Sequence[Path]) -> list[Problem]:
    """The parts of a flow family's base that are neither in it nor in what the settings name, one by one.

    Raises:
        BaseModelError: the base cannot be read.
    """
    found = [
        *(_unusable("model.vae", vae) if vae else ()),
        *(p for t in text for p in _unusable("model.text", t)),
    ]
    if vae is None and not _has_vae(base):
        found.append(replace(lacks(base, "vae"), severity="error"))
    for part in text_parts(row, base):
        place, folder = find_encoder(part, base, text), find_tokenizer(part, base, text)
        optional = not base.is_dir() and part.folder in row.optional
        failures = []
        if place is None and not optional:
            failures.append(("no-encoder", no_encoder(part, base, text)))
        if place is not None and place.folder is not None:
            try:
                component(place.folder)
            except (BaseModelError, WeightsError) as error:
                failures.append(("no-weights", BaseModelError(error.message, error.advice)))
        packaged = part.mark == _CLIP_MARK  # all CLIPs have the same tokenizer
        if folder is None and not packaged and not (place is None and optional):
            failures.append(("no-tokenizer", no_tokenizer(part, base, text)))
        found += [Problem("model.text", code, "error", e.message, advice=e.advice) for code, e in failures]
    return found


def check(family: str, base: Path, vae: Path | None, text: Sequence[Path]) -> None:
    """Refuse a base of which parts are missing, before its weights are read.

    Raises:
        BaseModelError: names all of them.
    """
    found = missing(row_of(family), base, vae, text)
    if found:
        advice = " ".join(dict.fromkeys(problem.advice for problem in found))
        raise BaseModelError(" ".join(problem.message for problem in found), advice)


def _unusable(key: str, path: Path) -> list[Problem]:
    """A named place that is not there, or from which nothing can be read."""
    message, advice = "", f"Check {key}."
    if not path.exists():
        message = f"{path} does not exist."
    elif path.is_dir():
        return []
    elif path.suffix != ".safetensors":
        message = f"{path} is neither a folder nor a .safetensors file."
        advice = f"Name weights with {key} as .safetensors, and of a tokenizer the folder that it is in."
    else:
        try:
            header_of(path)
        except WeightsError as error:
            message, advice = error.message, error.advice
    return [Problem(key, "no-use", "error", message, advice=advice)] if message else []


def _has_vae(base: Path) -> bool:
    if base.is_dir():
        return (base / "vae").is_dir()
    return any(name.startswith(VAE) for name in _names(base))


def _holds(base: Path, mark: str) -> bool:
    return any(name == mark or name.endswith(f".{mark}") for name in _names(base))


def _names(file: Path) -> Sequence[str]:
    try:
        return tuple(header_of(file).tensors)
    except WeightsError as error:
        raise BaseModelError(error.message, error.advice) from error
