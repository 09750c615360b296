"""A rough estimate of peak memory, from sizes and settings alone. A dry run measures; this only warns early.

The one constant is counted, with fake tensors (`train/imagined.py`): what an SD1.5 U-Net (860 M numbers) at
512 px, batch 1, bf16 autocast, attention without its matrices kept, holds for the backward pass is 1.0 GiB;
a fifth is added for what allocators cannot use. It grows with batch and area, and with the square root of the
U-Net's size: 6.9 GiB for SDXL at 1024 px, where 6.1 are counted. Checkpointing keeps a fifth at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from loratui.config.schema import RunConfig
from loratui.families.spec import family_spec
from loratui.optim.spec import optimizer_spec
from loratui.plan.sizes import Sizes
from loratui.weights.networks import STARTS

GIB = float(1 << 30)
_BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
_STORED = {"fp8": 1.0, "int8": 1.0, "nf4": 0.5 + 4 / 64}
"""Bytes of a number in a quantised block; nf4 has a scale of four bytes for 64 numbers."""
_ACTIVATIONS_GIB = 1.2
_REFERENCE_NUMBERS = 860e6
_REFERENCE_AREA = 512 * 512
_CHECKPOINTED = 0.2
_IN_BLOCKS = 0.9
"""Share of a denoiser's weights in the blocks that can be swapped: 0.91 for SD1.5 and SD2, 0.98 for SDXL."""
_VISITING = 2
"""Swapped blocks on the device at a time: the one that runs, and the next."""
_CONTEXT_GIB = 0.6
"""What a process with torch holds before anything is loaded."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Parts of the estimate in GiB: of a step, and of encoding captions where that comes alone, before."""

    weights_gib: float
    lora_gib: float
    activations_gib: float
    context_gib: float
    caching_gib: float = 0.0

    @property
    def total_gib(self) -> float:
        """The estimated peak."""
        return self.context_gib + max(
            self.caching_gib, self.weights_gib + self.lora_gib + self.activations_gib
        )

    def as_json(self) -> dict[str, float | str]:
        """Rounded, with the word for how far to trust it."""
        return {
            "basis": "rough",
            "total_gib": round(self.total_gib, 2),
            "weights_gib": round(self.weights_gib, 2),
            "lora_gib": round(self.lora_gib, 3),
            "activations_gib": round(self.activations_gib, 2),
            "context_gib": round(self.context_gib, 2),
            **({"caching_gib": round(self.caching_gib, 2)} if self.caching_gib else {}),
        }


def state_bytes(config: RunConfig) -> float:
    """Bytes that the optimizer keeps for a trained number."""
    spec = optimizer_spec(config.optimizer.name)
    return spec.state_bytes if spec is not None else 8.0


def checkpoint_bytes(config: RunConfig) -> float:
    """Bytes of a checkpoint for a trained number: fp32, the optimizer's, and the trained weights once more
    where samples and files show an average of them.
    """
    spec = optimizer_spec(config.optimizer.name)
    averaged = bool(config.objective.ema_decay) or (spec is not None and spec.averaging)
    weights = 8 if config.network.init in STARTS else 4
    return weights + state_bytes(config) + (weights if averaged else 0)


def _swapped(config: RunConfig, blocks: int) -> float:
    """Share of the denoiser's blocks that block swap keeps off the device; two are there at a time."""
    away = min(config.memory.blocks_to_swap, blocks) - _VISITING
    return max(0, away) / blocks if blocks else 0.0


def estimate(config: RunConfig, size: Sizes, area_px: int) -> Memory:
    """Estimate the peak of a training.

    Args:
        config: settings.
        size: counts of numbers.
        area_px: area of the largest bucket in px.
    """
    precision = config.memory.precision
    base = precision if config.memory.base_precision == "auto" else config.memory.base_precision
    family = family_spec(config.model.family)
    alone = family is not None and family.flow and not config.network.text_encoder
    # Codec and text encoder come back to draw, and stay where captions are learned. The large encoders of
    # flow models do not: what samples say is encoded with the captions, in 16 bits, before the denoiser is
    # on the device.
    spoken = size.others if (config.samples.every or config.network.trains_text) and not alone else 0
    caching = 2 * size.others / GIB if alone else 0.0
    blocks = _IN_BLOCKS * size.denoiser * (1 - _swapped(config, size.blocks))
    rest = (1 - _IN_BLOCKS) * size.denoiser + spoken
    weights = (blocks * _STORED.get(config.memory.base_weights, _BYTES[base]) + rest * _BYTES[base]) / GIB
    average = 4 if config.objective.ema_decay else 0
    # factors and gradient in fp32, their average, and what the optimizer keeps
    start = 4 if config.network.init in STARTS else 0
    lora = (size.lora + size.tokens) * (8 + start + average + state_bytes(config)) / GIB
    activations = (
        _ACTIVATIONS_GIB
        * (_BYTES[precision] / 2)
        * config.data.batch_size
        * (area_px / _REFERENCE_AREA)
        * math.sqrt(size.denoiser / _REFERENCE_NUMBERS)
    )
    if config.memory.gradient_checkpointing:
        activations *= _CHECKPOINTED
    return Memory(weights, lora, activations, _CONTEXT_GIB, caching)
