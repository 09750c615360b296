"""[optimizer]: steps, learning rate and the rule of the update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loratui.optim.spec import OPTIMIZERS

Schedule = Literal["constant", "linear", "cosine", "polynomial", "rex", "wsd"]
OnNan = Literal["stop", "skip", "rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Steps, learning rate and the rule of the update."""

    name: str = "adamw"
    """Optimizer; `loratui optimizers` says what each is for."""
    other: str = ""
    """With name other: the class of pytorch-optimizer, such as Adan or SOAP."""
    options: tuple[str, ...] = ()
    """Further arguments of the optimizer as key=value, such as `d_coef=0.8` or `betas=(0.9, 0.99)`."""
    lr: float = 1e-4
    """Peak learning rate; about 1e-4 with AdamW, 1 with Prodigy and D-Adaptation."""
    steps: int = 0
    """Optimizer steps; 0 derives them from epochs."""
    epochs: int = 10
    """Passes over the repeated data set; used when steps is 0."""
    accumulation: int = 1
    """Forward passes per optimizer step."""
    schedule: Schedule = "constant"
    """Learning rate after the warm-up: constant; falling as a line, a cosine, a polynomial or REX; or wsd,
    constant and falling over the last steps only."""
    cycles: int = 1
    """Cosine: how often it begins again."""
    power: float = 2.0
    """Polynomial: its exponent; 1 is a line."""
    decay_share: float = 0.2
    """WSD: share of the steps over which the learning rate falls at the end, 0 to 1."""
    lr_floor: float = 0.0
    """Share of the peak that the learning rate does not fall below after the warm-up, 0 to 1."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    beta1: float = 0.9
    """Decay of the first moment; Lion and CAME have their own, see options."""
    beta2: float = 0.999
    """Decay of the second moment."""
    eps: float = 1e-8
    """Added to the denominator."""
    max_grad_norm: float = 1.0
    """Clip the gradient norm to this; 0 turns clipping off."""
    on_nan: OnNan = "stop"
    """When the loss or a gradient is no number: stop; skip the step; or roll back to the newest checkpoint
    with half the learning rate. Skipping and rolling back give up after a few times."""


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
    "cycles": (1, 10_000),
    "power": (0, 100),
    "decay_share": (0, 1),
    "lr_floor": (0, 1),
    "weight_decay": (0, 10),
    "beta1": (0, 0.9999999),
    "beta2": (0, 0.9999999),
    "eps": (0, 1),
    "max_grad_norm": (0, None),
}
POSITIVE: frozenset[str] = frozenset({"eps", "lr"})
CHOICES: dict[str, tuple[str, ...]] = {"name": tuple(spec.name for spec in OPTIMIZERS)}
