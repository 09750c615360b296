"""Adafactor (Shazeer & Stern 2018, arXiv:1804.04235) as transformers has it, with a given learning rate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loratui.optim.options import make, parse

if TYPE_CHECKING:
    from loratui.config.schema import OptimizerConfig


@dataclass(frozen=True, slots=True)
class Adafactor:
    """No relative step, no scaling by the weights: B begins at zero and would never move."""

    lr: float = 1e-4
    weight_decay: float = 0.01
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: OptimizerConfig) -> Adafactor:
        """Take the settings that it has."""
        return cls(config.lr, config.weight_decay, parse(config.options))

    def build(self, groups: Iterable[Any]) -> Any:
        """Make the optimizer."""
        from transformers.optimization import Adafactor as Kind

        return make(
            Kind, groups, self.options, lr=self.lr, weight_decay=self.weight_decay, scale_parameter=False,
            relative_step=False, warmup_init=False,
        )  # fmt: skip
