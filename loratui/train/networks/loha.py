"""LoHa: the update is (alpha / rank) (W1a W1b) * (W2a W2b), element by element.

Hyeon-Woo et al. 2021, arXiv:2108.06098 (FedPara), proposition 1: its rank goes up to the square of `rank`.
With `tucker` a 3x3 convolution's factors are cores of the kernel's size between two matrices (proposition 3).
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoHaConfig
from torch import Tensor, nn

from loratui.config.schema import NetworkConfig
from loratui.train.networks.protocol import NAME, Plan, draw_uniform, shrink_parts, zero

_ORDER = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")


class LoHa:
    """See `Network` for what each method promises."""

    def settings(
        self, plan: Plan, target_modules: str, rank_pattern: dict[str, int], alpha_pattern: dict[str, float]
    ) -> LoHaConfig:
        """LoHaConfig."""
        config = plan.config
        return LoHaConfig(
            r=config.rank,
            alpha=config.alpha,
            rank_dropout=config.rank_dropout,
            module_dropout=config.module_dropout,
            use_effective_conv2d=config.tucker,
            rank_pattern=rank_pattern,
            alpha_pattern=alpha_pattern,
            target_modules=target_modules,
            init_weights=True,
        )

    def initialise(self, layer: Any, config: NetworkConfig, random: torch.Generator) -> None:
        """Kaiming uniform, and W2b zero."""
        for part, parameter in self.parts(layer).items():
            if part == "hada_w2_b":
                zero(parameter)
            else:
                draw_uniform(parameter, parameter[0].numel(), random)

    def parts(self, layer: Any) -> dict[str, nn.Parameter]:
        """The four factors, and two cores with `tucker`."""
        return {name: getattr(layer, name)[NAME] for name in _ORDER if NAME in getattr(layer, name)}

    def stored(self, part: str, tensor: Tensor) -> Tensor:
        """As they are."""
        return tensor

    def alpha(self, layer: Any) -> float:
        """The layer's own."""
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


NETWORK = LoHa()
