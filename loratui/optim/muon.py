"""Muon (Jordan et al. 2024): orthogonalised momentum for matrices and kernels, AdamW for vectors.

Updates are scaled to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982). On the demo base the thin
matrices of a LoRA want ten times AdamW's rate all the same (benchmarks/learning.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loratui.optim.options import make, parse

if TYPE_CHECKING:
    from loratui.config.schema import OptimizerConfig


@dataclass(frozen=True, slots=True)
class Muon:
    """Momentum 0.95 unless the options say otherwise; the betas are those of the AdamW part."""

    lr: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: OptimizerConfig) -> Muon:
        """Take the settings that it has."""
        return cls(
            config.lr, config.beta1, config.beta2, config.eps, config.weight_decay, parse(config.options)
        )

    def build(self, groups: Iterable[Any]) -> Any:
        """Make the optimizer."""
        from pytorch_optimizer import Muon as Kind

        split = []
        for group in groups:
            shared = {k: v for k, v in group.items() if k != "params"}
            matrices = [p for p in group["params"] if p.ndim >= 2]
            vectors = [p for p in group["params"] if p.ndim < 2]
            if matrices:
                split.append(shared | {"params": matrices, "use_muon": True})
            if vectors:
                name = f"{shared.get('name', 'unet')} vectors"
                split.append(shared | {"params": vectors, "use_muon": False, "name": name})
        return make(
            Kind, split, self.options, lr=self.lr, weight_decay=self.weight_decay, use_adjusted_lr=True,
            adamw_betas=(self.beta1, self.beta2), adamw_eps=self.eps, adamw_wd=self.weight_decay,
        )  # fmt: skip
