"""[optimizer]: steps, learning rate and the rule of the update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Steps, learning rate and the rule of the update."""

    name: str = "adamw"
    """Optimizer."""
    lr: float = 1e-4
    """Peak learning rate."""
    steps: int = 0
    """Optimizer steps; 0 derives them from epochs."""
    epochs: int = 10
    """Passes over the repeated data set; used when steps is 0."""
    accumulation: int = 1
    """Forward passes per optimizer step."""
    schedule: Schedule = "constant"
    """Learning rate after the warm-up."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.999
    """Decay of the second moment."""
    eps: float = 1e-8
    """Added to the denominator."""
    max_grad_norm: float = 1.0
    """Clip the gradient norm to this; 0 turns clipping off."""


SHORT_NAMES: dict[str, str] = {
    "steps": "steps",
    "epochs": "epochs",
    "lr": "lr",
    "optimizer": "name",
}
RANGES: dict[str, tuple[float | None, float | None]] = {
    "lr": (0, 100),
    "steps": (0, 10_000_000),
    "epochs": (1, 1_000_000),
    "accumulation": (1, 100_000),
    "warmup_steps": (0, 10_000_000),
    "weight_decay": (0, 10),
    "beta1": (0, 0.9999999),
    "beta2": (0, 0.9999999),
    "eps": (0, 1),
    "max_grad_norm": (0, None),
}
POSITIVE: frozenset[str] = frozenset({"eps", "lr"})
CHOICES: dict[str, tuple[str, ...]] = {"name": ("adamw",)}
