"""DoRA: W' = m * (W + (alpha / rank) B A) / ||W + (alpha / rank) B A||, norms along each output's row.

Liu et al. 2024, arXiv:2402.09353, eq. 5; the norm is a constant to the gradient (section 4.3). m begins as
||W||. Files have m as [out, 1], or [out, 1, 1, 1] for a convolution.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from loratui.train.networks.lora import Lora
from loratui.train.networks.protocol import NAME


class Dora(Lora):
    """LoRA with a magnitude beside it."""

    dora = True

    def parts(self, layer: Any) -> dict[str, nn.Parameter]:
        """A, B and m."""
        magnitude: nn.Parameter = layer.lora_magnitude_vector[NAME].weight
        return {**super().parts(layer), "dora_scale": magnitude}

    def stored(self, part: str, tensor: Tensor) -> Tensor:
        """peft has m as [out], or [1, out, 1, 1] for a convolution."""
        if part != "dora_scale":
            return tensor
        return tensor[:, None] if tensor.ndim == 1 else tensor.transpose(0, 1)

    def shrink(self, layer: Any, limit: float) -> Tensor | None:
        """m alone says how large W' is."""
        return None


NETWORK = Dora()
