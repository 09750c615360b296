"""8-bit states by bitsandbytes (Dettmers et al. 2022, arXiv:2110.02861), on CUDA and on the CPU.

Tensors below 4,096 numbers keep 32-bit states; `optimizer.options = ["min_8bit_size=0"]` changes that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loratui.optim.options import make, parse

if TYPE_CHECKING:
    from loratui.config.schema import OptimizerConfig


@dataclass(frozen=True, slots=True)
class AdamW8bit:
    """AdamW with block-wise 8-bit moments."""

    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: OptimizerConfig) -> AdamW8bit:
        """Take the settings that it has."""
        return cls(
            config.lr, config.beta1, config.beta2, config.eps, config.weight_decay, parse(config.options)
        )

    def build(self, groups: Iterable[Any]) -> Any:
        """Make the optimizer."""
        import bitsandbytes

        return make(
            bitsandbytes.optim.AdamW8bit, groups, self.options, lr=self.lr, betas=(self.beta1, self.beta2),
            eps=self.eps, weight_decay=self.weight_decay,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PagedAdamW8bit:
    """The same in unified memory: pages move to the host when the card is full. CUDA only."""

    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: OptimizerConfig) -> PagedAdamW8bit:
        """Take the settings that it has."""
        return cls(
            config.lr, config.beta1, config.beta2, config.eps, config.weight_decay, parse(config.options)
        )

    def build(self, groups: Iterable[Any]) -> Any:
        """Make the optimizer."""
        import bitsandbytes

        return make(
            bitsandbytes.optim.PagedAdamW8bit, groups, self.options, lr=self.lr,
            betas=(self.beta1, self.beta2), eps=self.eps, weight_decay=self.weight_decay,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lion8bit:
    """Lion with an 8-bit moment; decays 0.9 and 0.99 unless the options say otherwise."""

    lr: float = 1e-4
    weight_decay: float = 0.01
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: OptimizerConfig) -> Lion8bit:
        """Take the settings that it has."""
        return cls(config.lr, config.weight_decay, parse(config.options))

    def build(self, groups: Iterable[Any]) -> Any:
        """Make the optimizer."""
        import bitsandbytes

        return make(
            bitsandbytes.optim.Lion8bit, groups, self.options, lr=self.lr, weight_decay=self.weight_decay
        )
