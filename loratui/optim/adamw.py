"""AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loratui.config.schema import OptimizerConfig

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass(frozen=True, slots=True)
class AdamW:
    """Settings of AdamW; see the fields of `OptimizerConfig` of the same names."""

    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01

    @classmethod
    def from_config(cls, config: OptimizerConfig) -> AdamW:
        """Take the settings that AdamW has."""
        return cls(config.lr, config.beta1, config.beta2, config.eps, config.weight_decay)

    def build(self, groups: Iterable[Any]) -> Optimizer:
        """Make the optimizer: the fused kernel, one launch for all of a LoRA's many small matrices."""
        import torch

        return torch.optim.AdamW(
            groups,
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )
