"""The learning rate as a function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from loratui.config.schema import OptimizerConfig


def lr_factor(config: OptimizerConfig, step: int, steps: int) -> float:
    """Share of the peak learning rate for an optimizer step.

    Args:
        config: `schedule` and `warmup_steps` are read.
        step: from 0.
        steps: optimizer steps of the whole run.
    """
    warmup = min(config.warmup_steps, steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    share = (step - warmup) / max(1, steps - warmup)
    if config.schedule == "linear":
        return max(0.0, 1.0 - share)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
