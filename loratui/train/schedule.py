"""The learning rate as a function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from loratui.config.schema import OptimizerConfig


def lr_factor(config: OptimizerConfig, step: int, steps: int) -> float:
    """Share of the peak learning rate for an optimizer step.

    Args:
        config: `schedule`, `warmup_steps` and what belongs to them are read.
        step: from 0.
        steps: optimizer steps of the whole run.
    """
    warmup = min(config.warmup_steps, steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    share = min(1.0, (step - warmup) / max(1, steps - warmup))
    return config.lr_floor + (1.0 - config.lr_floor) * _fall(config, share)


def _fall(config: OptimizerConfig, share: float) -> float:
    """From 1 at share 0 to 0 at share 1."""
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "linear":
        return 1.0 - share
    if config.schedule == "cosine":  # SGDR: Loshchilov & Hutter 2017, eq. 5, cycles of one length
        return 0.5 * (1.0 + math.cos(math.pi * (share * config.cycles % 1.0 if share < 1.0 else 1.0)))
    if config.schedule == "polynomial":
        return float((1.0 - share) ** config.power)
    if config.schedule == "rex":  # Chen et al. 2021, arXiv:2107.04197, eq. 1
        return (1.0 - share) / (0.5 + 0.5 * (1.0 - share))
    # Warm-up, stable, decay: Hu et al. 2024, arXiv:2404.06395, section 4, with a straight fall
    left = 1.0 - share
    return min(1.0, left / config.decay_share) if config.decay_share > 0 else 1.0
