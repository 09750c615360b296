"""Says what an embedding file is, and which programs take its vectors; from its header and its numbers."""

from __future__ import annotations

from typing import Any

from loratui.errors import Problem
from loratui.weights.embedding_files import ENCODER_NAMES, WIDTHS, is_embedding, word_of
from loratui.weights.header import Header
from loratui.weights.verify import Verification, non_finite

_ARCHITECTURES = {"stable-diffusion-v1": "sd15", "stable-diffusion-v2": "sd2", "stable-diffusion-xl": "sdxl"}


def verify_embedding(header: Header) -> Verification | None:
    """What a file without LoRA keys is when it is an embedding, else None."""
    if not is_embedding(header):
        return None
    problems: list[Problem] = []

    def note(code: str, severity: Any, message: str, advice: str = "") -> None:
        problems.append(Problem(str(header.path), code, severity, message, advice=advice))

    shapes = {name: info.shape for name, info in header.tensors.items()}
    counts = {1 if len(shape) == 1 else shape[0] for shape in shapes.values()}
    vectors = max(counts)
    if len(counts) > 1:
        note("uneven", "error", "It has another number of vectors for each text encoder.")
    family = _family(header)
    if not family:
        wide = " and ".join(str(shape[-1]) for shape in shapes.values())
        note("unchecked-family", "warning", f"No base known here has words of {wide} numbers.")
        return Verification(header.path, "", "embedding", 0, {}, tuple(problems), len(shapes), "", vectors)
    if {shape[-1] for shape in shapes.values()} != set(WIDTHS[family].values()):
        note("other-size", "info", f"Made for a model with {family}'s layout but of another size.")
    if bad := non_finite(header):
        advice = "Use an earlier checkpoint."
        note("not-finite", "error", f"{len(bad)} tensors hold NaN or Inf, such as {bad[0]}.", advice)
    word = word_of(header.path)
    stem = header.path.stem
    ways = f"{stem} in A1111, embedding:{stem} in ComfyUI, {word} in `loratui sample --embedding`"
    note("called", "info", f"Prompts call it by its file's name: {ways}.")
    if len(shapes) > 1:
        note(
            "one-by-one", "info", "diffusers takes each encoder's vectors by themselves, from a dict of them."
        )
    matched = {name: (count, len(shapes)) for name, count in readers(set(shapes)).items()}
    missed = [name for name, (count, of) in matched.items() if count < of]
    if missed:
        note(
            "unmatched", "error", f"{' and '.join(missed)} would not take all of {', '.join(sorted(shapes))}."
        )
    return Verification(
        header.path, family, "embedding", 0, matched, tuple(problems), len(shapes), "", vectors
    )


def readers(names: set[str]) -> dict[str, int]:
    """Program -> how many of these tensors it takes.

    A1111 (textual_inversion.py) takes `clip_l` with `clip_g`, else the one tensor there is; ComfyUI
    (sd1_clip.py) those named after an encoder of its, else the first; diffusers what it is handed.
    """
    pair = {"clip_l", "clip_g"}
    a1111 = 2 if pair <= names else int(len(names) == 1)
    return {"diffusers": len(names), "comfyui": len(names & ENCODER_NAMES) or 1, "a1111": a1111}


def _family(header: Header) -> str:
    """From the widths, else from what the metadata says it is for."""
    shapes = {name: info.shape[-1] for name, info in header.tensors.items()}
    for family, widths in WIDTHS.items():
        alone = len(shapes) == len(widths) == 1  # diffusers calls the tensor by its word
        if shapes == widths or (alone and set(shapes.values()) == set(widths.values())):
            return family
    stated = header.metadata.get("modelspec.architecture", "")
    return next((family for start, family in _ARCHITECTURES.items() if stated.startswith(start)), "")
