"""Lion (Chen et al. 2023, arXiv:2302.06675)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loratui.optim.options import make, parse

if TYPE_CHECKING:
    from loratui.config.schema import OptimizerConfig


@dataclass(frozen=True, slots=True)
class Lion:
    """Decays 0.9 and 0.99 unless the options say otherwise."""

    lr: float = 1e-4
    weight_decay: float = 0.01
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: OptimizerConfig) -> Lion:
        """Take the settings that it has."""
        return cls(config.lr, config.weight_decay, parse(config.options))

    def build(self, groups: Iterable[Any]) -> Any:
        """Make the optimizer."""
        from pytorch_optimizer import Lion as Kind

        return make(Kind, groups, self.options, lr=self.lr, weight_decay=self.weight_decay)
