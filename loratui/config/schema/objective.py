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
    weighting: Literal["none", "debiased", "p2"] = "none"
    """Another weighting of timesteps: debiased (Yu et al. 2023) or P2 (Choi et al. 2022)."""
    p2_gamma: float = 1.0
    """P2: its exponent; 0.5 and 1 are usual."""
    loss: Literal["l2", "huber", "smooth_l1"] = "l2"
    """Loss: squared error, or pseudo-Huber, which minds outliers less (smooth_l1 is the same, scaled)."""
    huber_c: float = 0.1
    """Huber: error at which it turns from square to straight; with a schedule that of the noisiest step."""
    huber_schedule: Literal["constant", "exponential", "snr"] = "snr"
    """Huber: how that error falls towards the noisy timesteps (Khrapov et al. 2024)."""
    zero_terminal_snr: bool = False
    """Stretch the base's noise schedule so that it ends in pure noise (Lin et al. 2023); needs
    v-prediction, and samples then follow it too."""
    noise_offset: float = 0.0
    """Per-channel offset added to the noise; about 0.05 lets pictures be darker or brighter."""
    multires_iterations: int = 0
    """Add noise of that many coarser resolutions (pyramid noise); 6 to 10 is usual, 0 turns it off."""
    multires_discount: float = 0.3
    """Share of each coarser resolution's noise in the one before."""
    input_perturbation: float = 0.0
    """Extra noise in what the U-Net sees but not in its target (Ning et al. 2023); 0.1 is usual."""
    timestep_min: int = 0
    """Smallest timestep trained on; 0 is a nearly clean picture."""
    timestep_max: int = 1000
    """Timesteps trained on are below this; 1000 is pure noise."""
    timestep_bias: Literal["none", "content", "style"] = "none"
    """Draw more of the noisy timesteps (content: composition) or of the clean ones (style: detail)."""
    timestep_distribution: Literal["auto", "uniform", "sigmoid", "mode", "weighted"] = "auto"
    """Flow models: how timesteps are drawn: uniform, sigmoid (logit-normal) or mode (Esser et al. 2024),
    or weighted (uniform, with a loss weight that is largest in the middle); auto is sigmoid."""
    sigmoid_mean: float = 0.0
    """Sigmoid: mean of the normal draw; above 0 means more noise."""
    sigmoid_std: float = 1.0
    """Sigmoid: deviation of the normal draw; smaller keeps to the middle timesteps."""
    mode_scale: float = 1.29
    """Mode: above 0 draws more of the middle timesteps, below 0 more of both ends."""
    shift: float = 0.0
    """Flow models: shift of the timesteps towards noise, such as 3; 1 is none, 0 takes the base's own."""
    shift_by_area: bool = False
    """Flow models: let the shift grow with the picture's area, as some bases do; needs shift 0."""
    guidance: float = 1.0
    """Guidance that distilled models with a guidance input (dev ones) are told in training."""
    masked: bool = False
    """Weigh the loss by masks beside the pictures (NAME-masklabel.png: white counts, black does not)."""
    mask_floor: float = 0.1
    """What black parts of a mask still count, 0 to 1."""
    mask_normalize: bool = True
    """Divide by the mask's mean, so that a small white part is learned as fast as a large one."""
    validation_share: float = 0.0
    """Share of the pictures that is held back to measure the loss on, 0 to 1; 0 for none."""
    validation_every: int = 50
    """Measure that loss each so many steps."""
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
    "p2_gamma": (0, 10),
    "huber_c": (0, 10),
    "multires_iterations": (0, 20),
    "multires_discount": (0, 1),
    "input_perturbation": (0, 1),
    "sigmoid_mean": (-10, 10),
    "sigmoid_std": (0, 10),
    "mode_scale": (-1, 1.75),
    "shift": (0, 100),
    "guidance": (0, 100),
    "timestep_min": (0, 999),
    "timestep_max": (1, 1000),
    "mask_floor": (0, 1),
    "validation_share": (0, 0.9),
    "validation_every": (1, 10_000_000),
    "ema_decay": (0, 0.999999),
}
POSITIVE: frozenset[str] = frozenset({"huber_c", "sigmoid_std"})
CHOICES: dict[str, tuple[str, ...]] = {}
