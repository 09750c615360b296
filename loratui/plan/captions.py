"""The disk that encoded captions take: what a family's encoders make of one, by the widths of the base."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from loratui.families.spec import SMALL, CaptionPart, FamilySpec, family_spec

if TYPE_CHECKING:
    from loratui.plan.sizes import Sizes

BYTES_A_TOKEN = 4.0
"""UTF-8 bytes that a token stands for: English prose and tags have 4.0 to 4.5 in CLIP's vocabulary of 49,000.
Rough for other vocabularies and languages."""
_HEADER = 150
"""Bytes of a file before its numbers."""
_UNKNOWN = (CaptionPart(tokens=77, width=1024, fp32=True),)
_GUIDANCE = ("guidance_embedder.", "guidance_in.")


def captions_of(spec: FamilySpec, own: Mapping[str, tuple[int, ...]]) -> tuple[CaptionPart, ...]:
    """What the cache holds of a caption with a base of these shapes.

    Args:
        spec: of its family.
        own: shape of each tensor of its denoiser.
    """
    guided = any(mark in name for name in own for mark in _GUIDANCE)
    found = []
    for part in spec.captions:
        width = next((own[name][1] for name in part.inputs if name in own), part.width)
        tokens = part.unguided if part.unguided and not guided else part.tokens
        found.append(replace(part, tokens=tokens, width=width))
    return tuple(found)


def caption_bytes(family: str, size: Sizes | None, captions: Collection[str]) -> int:
    """Bytes of the files of these captions, each once; of a base of true size where it is not known.

    Lengths of captions that are kept without filling are taken from their bytes: no tokenizer is asked.

    Args:
        family: of the base; one that is not known yet counts as a CLIP of 1024 features.
        size: of the base, None when unknown.
        captions: different ones.
    """
    spec = family_spec(family)
    small = size is not None and size.denoiser < SMALL  # such a base has such encoders
    total = float(_HEADER * len(captions))
    known = size.captions if size is not None else ()
    for part in known or (spec.captions if spec is not None else _UNKNOWN):
        stored = 4 if part.fp32 or small else 2
        tokens = float(part.tokens * len(captions))
        if part.around >= 0:
            tokens = sum(
                min(part.tokens, part.around + len(text.encode("utf-8", "replace")) / BYTES_A_TOKEN)
                for text in captions
            )
        # without filling each token has its one in the mask, too
        total += tokens * (part.width + (part.around >= 0)) * stored
    return int(total)
