"""D-Adaptation for Adam (Defazio & Mishchenko 2023, arXiv:2301.07733)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loratui.optim.options import make, parse

if TYPE_CHECKING:
    from loratui.config.schema import OptimizerConfig


@dataclass(frozen=True, slots=True)
class DAdaptation:
    """Estimates the rate like Prodigy, more carefully; decoupled weight decay."""

    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: OptimizerConfig) -> DAdaptation:
        """Take the settings that it has."""
        return cls(
            config.lr, config.beta1, config.beta2, config.eps, config.weight_decay, parse(config.options)
        )

    def build(self, groups: Iterable[Any]) -> Any:
        """Make the optimizer."""
        from pytorch_optimizer import DAdaptAdam as Kind

        return make(
            Kind, groups, self.options, lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps,
            weight_decay=self.weight_decay, weight_decouple=True,
        )  # fmt: skip
