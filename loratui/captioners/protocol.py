"""What a captioner answers, and the few calls the caption job makes of it. Torch-free.

A captioner's module has one function that the job calls:

    def load(options, source: Source) -> Captioner

`options` is its dataclass from `spec.py`, `source` where its weights lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag or phrase.

    Attributes:
        text: as the model has it.
        confidence: 0 to 1; -1 when the model gives none.
        facet: medium, subject, character, general ...; empty when the model has no such parts.
    """

    text: str
    confidence: float = -1.0
    facet: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """What a captioner says about one picture.

    Attributes:
        text: prose.
        tags: or tags, the surest first.
        error: why this one picture could not be described, else empty.
    """

    text: str = ""
    tags: tuple[Tag, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights lie.

    Attributes:
        folder: with configuration and tokenizer; None for captioners that need no weights.
        weights: the one file to load, when the user named a file; else None.
        name: what the user or the default named.
    """

    folder: Path | None = None
    weights: Path | None = None
    name: str = ""


class Captioner(Protocol):
    """A loaded model."""

    first_batch: int
    """Pictures per pass to begin with when the user named none."""

    def prepare(self, image: Image.Image) -> Any:
        """Turn an upright RGB picture into what `caption` takes, on the CPU.

        Called from several threads at once, ahead of the device.
        """
        ...

    def caption(self, prepared: list[Any]) -> list[Said]:
        """Describe a batch: one answer for each of `prepared`, in order."""
        ...

    def free(self) -> None:
        """Give back memory that a pass which ran out of it left behind."""
        ...
