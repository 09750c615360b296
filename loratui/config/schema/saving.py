"""[saving]: checkpoints and the exported file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class SavingConfig:
    """Checkpoints and the exported file."""

    every: int = 250
    """Write a checkpoint each so many steps; the last step always."""
    keep: int = 3
    """Checkpoints kept, newest first; at least 2."""
    name: str = ""
    """Stem of the exported file; empty takes the project's name."""
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    """Precision of the exported file."""


SHORT_NAMES: dict[str, str] = {
    "save_every": "every",
}
RANGES: dict[str, tuple[float | None, float | None]] = {
    "every": (1, 10_000_000),
    "keep": (2, 100_000),
}
POSITIVE: frozenset[str] = frozenset()
CHOICES: dict[str, tuple[str, ...]] = {}
