"""[objective]: what the loss is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveConfig:
    """What the loss is."""

    seed: int = 42
    """Seed of order, noise, timesteps, dropout and flips."""
    min_snr_gamma: float = 0.0
    """Min-SNR loss weighting (Hang et al. 2023); 5 is usual, 0 turns it off."""
    noise_offset: float = 0.0
    """Per-channel offset added to the noise; about 0.05 lets pictures be darker or brighter."""
    ema_decay: float = 0.0
    """Publish the exponential moving average of the weights with this decay, such as 0.99; 0 turns it off."""
    prediction: Literal["auto", "epsilon", "v_prediction"] = "auto"
    """What the U-Net predicts; `auto` reads it from the base."""


SHORT_NAMES: dict[str, str] = {
    "seed": "seed",
}
RANGES: dict[str, tuple[float | None, float | None]] = {
    "seed": (0, 2**63 - 1),
    "min_snr_gamma": (0, 1000),
    "noise_offset": (0, 1),
    "ema_decay": (0, 0.999999),
}
POSITIVE: frozenset[str] = frozenset()
CHOICES: dict[str, tuple[str, ...]] = {}
