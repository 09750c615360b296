"""LoKr: the update is (alpha / rank) times the Kronecker product of a small and a larger matrix.

Yeh et al. 2023, arXiv:2309.14859 (LyCORIS), section 3.2. The larger matrix is a product of rank `rank` where
that is smaller. Where neither factor is decomposed there is no rank, and the scale is 1: that is how ComfyUI,
A1111 and LyCORIS read such a module, so it is trained like that.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoKrConfig
from torch import Tensor, nn

from loratui.config.schema import NetworkConfig
from loratui.train.networks.protocol import NAME, Plan, draw_uniform, shrink_parts, zero

_ORDER = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")


class LoKr:
    """See `Network` for what each method promises."""

    def settings(
        self, plan: Plan, target_modules: str, rank_pattern: dict[str, int], alpha_pattern: dict[str, float]
    ) -> LoKrConfig:
        """LoKrConfig."""
        config = plan.config
        return LoKrConfig(
            r=config.rank,
            alpha=config.alpha,
            rank_dropout=config.rank_dropout,
            module_dropout=config.module_dropout,
            use_effective_conv2d=config.tucker,
            decompose_both=config.decompose_both,
            decompose_factor=config.factor,
            rank_pattern=rank_pattern,
            alpha_pattern=alpha_pattern,
            target_modules=target_modules,
            init_weights=True,
        )

    def initialise(self, layer: Any, config: NetworkConfig, random: torch.Generator) -> None:
        """Kaiming uniform, and the last factor zero."""
        parts = self.parts(layer)
        last = "lokr_w2" if "lokr_w2" in parts else "lokr_w2_b"
        for part, parameter in parts.items():
            if part == last:
                zero(parameter)
            else:
                draw_uniform(parameter, parameter[0].numel(), random)
        if {"lokr_w1", "lokr_w2"} <= parts.keys():
            layer.scaling[NAME], layer.alpha[NAME] = 1.0, float(layer.r[NAME])

    def parts(self, layer: Any) -> dict[str, nn.Parameter]:
        """The factors there are."""
        return {name: getattr(layer, name)[NAME] for name in _ORDER if NAME in getattr(layer, name)}

    def stored(self, part: str, tensor: Tensor) -> Tensor:
        """As they are."""
        return tensor

    def alpha(self, layer: Any) -> float:
        """The layer's own; the rank where there is no scale."""
        return float(layer.alpha[NAME])

    def is_fast(self, part: str) -> bool:
        """LoRA+ says nothing of it."""
        return False

    def dropping(self, layer: Any) -> list[nn.Module]:
        """The layer itself drops rows and modules by its mode; its base has no mode."""
        return [layer]

    def shrink(self, layer: Any, limit: float) -> Tensor:
        """By the norm of the whole update."""
        with torch.no_grad():
            norm = layer.get_delta_weight(NAME).norm()
            shrink_parts([p for n, p in self.parts(layer).items() if "_t" not in n], norm, limit)
        return norm


NETWORK = LoKr()
