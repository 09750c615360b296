"""Prodigy (Mishchenko & Defazio 2023, arXiv:2306.06101), its authors' implementation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loratui.optim.options import make, parse

if TYPE_CHECKING:
    from loratui.config.schema import OptimizerConfig


@dataclass(frozen=True, slots=True)
class Prodigy:
    """Estimates the distance to the solution; `lr` multiplies the rate that follows from it."""

    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: OptimizerConfig) -> Prodigy:
        """Take the settings that it has."""
        return cls(
            config.lr, config.beta1, config.beta2, config.eps, config.weight_decay, parse(config.options)
        )

    def build(self, groups: Iterable[Any]) -> Any:
        """Make the optimizer."""
        from prodigyopt import Prodigy as Kind

        return make(
            Kind, groups, self.options, lr=self.lr, betas=(self.beta1, self.beta2), eps=self.eps,
            weight_decay=self.weight_decay,
        )  # fmt: skip
