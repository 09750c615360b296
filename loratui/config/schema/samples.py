"""[samples]: pictures drawn during training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sampler = Literal["ddim", "euler", "euler_a", "dpmpp_2m"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplesConfig:
    """Pictures drawn during training."""

    prompts: tuple[str, ...] = ()
    """Prompts; `{trigger}` stands for the project's trigger. Empty takes the project's."""
    negative: str = ""
    """Negative prompt."""
    weights: bool = True
    """Read `(word:1.2)`, `(word)` and `[word]` in prompts as weights, as A1111 does; `\\(` is a bracket."""
    every: int = 250
    """Draw samples each so many steps, and at step 0; 0 never."""
    steps: int = 20
    """Sampler steps."""
    guidance: float = 7.0
    """Classifier-free guidance scale."""
    sampler: Sampler = "ddim"
    """Sampler."""
    seed: int = 1
    """Seed of the first prompt; the next ones count up."""
    width: int = 0
    """Width in px; 0 takes data.resolution."""
    height: int = 0
    """Height in px; 0 takes data.resolution."""


SHORT_NAMES: dict[str, str] = {
    "sample_every": "every",
}
RANGES: dict[str, tuple[float | None, float | None]] = {
    "every": (0, 10_000_000),
    "steps": (1, 1000),
    "guidance": (0, 100),
    "seed": (0, 2**63 - 1),
    "width": (0, 8192),
    "height": (0, 8192),
}
POSITIVE: frozenset[str] = frozenset()
CHOICES: dict[str, tuple[str, ...]] = {}
