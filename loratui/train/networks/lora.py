"""LoRA: W' = W + (alpha / rank) B A, with B = 0 at the start (Hu et al. 2021, arXiv:2106.09685, eq. 3).

rsLoRA scales by alpha / sqrt(rank) (Kalajdzievski 2023, arXiv:2312.03732); files say so by another alpha.
For a convolution A is one with the layer's kernel and `rank` channels, B a 1x1 one (LoCon).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from loratui.config.schema import NetworkConfig
from loratui.train.networks.protocol import NAME, Plan, draw_uniform, shrink_parts, zero


class Lora:
    """See `Network` for what each method promises."""

    dora = False

    def settings(
        self, plan: Plan, target_modules: str, rank_pattern: dict[str, int], alpha_pattern: dict[str, float]
    ) -> LoraConfig:
        """LoraConfig; its own initialisation is replaced by `initialise`."""
        config = plan.config
        return LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            use_rslora=config.rank_stabilized,
            use_dora=self.dora,
            rank_pattern=rank_pattern,
            alpha_pattern=alpha_pattern,
            target_modules=target_modules,
            init_lora_weights=True,
        )

    def initialise(self, layer: Any, config: NetworkConfig, random: torch.Generator) -> None:
        """A as `network.init` says, B zero."""
        down, up = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
        if config.init == "gaussian":
            down.data = (torch.randn(down.shape, generator=random) / down.shape[0]).to(down.device)
            zero(up)
        elif config.init == "orthogonal":
            _orthogonal(down, up, random)
        else:
            draw_uniform(down, down[0].numel(), random)
            zero(up)

    def parts(self, layer: Any) -> dict[str, nn.Parameter]:
        """A and B."""
        return {
            "lora_down.weight": layer.lora_A[NAME].weight,
            "lora_up.weight": layer.lora_B[NAME].weight,
        }

    def stored(self, part: str, tensor: Tensor) -> Tensor:
        """As they are."""
        return tensor

    def alpha(self, layer: LoraLayer) -> float:
        """What gives readers the scale when they divide it by the rank."""
        alpha, rank = float(layer.lora_alpha[NAME]), layer.r[NAME]
        stabilized = not math.isclose(layer.scaling[NAME], alpha / rank)
        return float(layer.scaling[NAME] * rank) if stabilized else alpha

    def is_fast(self, part: str) -> bool:
        """B (Hayou et al. 2024, arXiv:2402.12354)."""
        return part.startswith("lora_up")

    def dropping(self, layer: Any) -> list[nn.Module]:
        """The dropout on the update's input."""
        return [layer.lora_dropout]

    def shrink(self, layer: Any, limit: float) -> Tensor | None:
        """By the Frobenius norm of scale * B A, from two r x r products instead of the whole matrix."""
        with torch.no_grad():
            down, up = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
            a, b = down.flatten(1), up.flatten(1)
            norm = layer.scaling[NAME] * ((a @ a.T) * (b.T @ b)).sum().clamp_min(0.0).sqrt()
            shrink_parts([down, up], norm, limit)
        return norm


def _orthogonal(down: nn.Parameter, up: nn.Parameter, random: torch.Generator) -> None:
    """A and B over the odd and the even rows of one orthogonal matrix: neither is zero, their product is."""
    rank = down.shape[0]
    q, _ = torch.linalg.qr(torch.randn(rank, rank, generator=random))
    a = torch.randn(down[0].numel(), rank // 2, generator=random) @ q[0::2] / 10.0
    b = torch.randn(up.shape[0], rank // 2, generator=random) @ q[1::2] / 10.0
    down.data = a.T.reshape(down.shape).contiguous().to(down.device)
    up.data = b.reshape(up.shape).contiguous().to(up.device)


NETWORK = Lora()
