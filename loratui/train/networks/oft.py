"""OFT: W' = W R with R block-diagonal and orthogonal, so that each neuron keeps its length and their angles.

Qiu et al. 2023, arXiv:2306.07280; R by the Cayley transform of skew-symmetric blocks, approximated by peft
with a Neumann series. R is the identity at the start. peft rotates a layer's input: no other program does.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import OFTConfig
from torch import Tensor, nn

from loratui.config.schema import NetworkConfig
from loratui.train.networks.protocol import NAME, Plan, zero


class Oft:
    """See `Network` for what each method promises."""

    def settings(
        self, plan: Plan, target_modules: str, rank_pattern: dict[str, int], alpha_pattern: dict[str, float]
    ) -> OFTConfig:
        """OFTConfig: blocks of one size, as many as a layer's input has room for."""
        config = plan.config
        return OFTConfig(
            r=0,
            oft_block_size=config.block_size,
            module_dropout=config.module_dropout,
            target_modules=target_modules,
            init_weights=True,
        )

    def initialise(self, layer: Any, config: NetworkConfig, random: torch.Generator) -> None:
        """Zero angles."""
        for parameter in self.parts(layer).values():
            zero(parameter)

    def parts(self, layer: Any) -> dict[str, nn.Parameter]:
        """The blocks' upper triangles, [blocks, size (size - 1) / 2]."""
        return {"oft_R.weight": layer.oft_R[NAME].weight}

    def stored(self, part: str, tensor: Tensor) -> Tensor:
        """As they are."""
        return tensor

    def alpha(self, layer: Any) -> None:
        """There is no scale."""

    def is_fast(self, part: str) -> bool:
        """LoRA+ says nothing of it."""
        return False

    def dropping(self, layer: Any) -> list[nn.Module]:
        """What sets blocks to the identity."""
        return [layer.oft_dropout]

    def shrink(self, layer: Any, limit: float) -> Tensor | None:
        """A rotation has no length."""
        return None


NETWORK = Oft()
