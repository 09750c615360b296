"""[memory]: precision and the trades of speed for memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["bf16", "fp16", "fp32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryConfig:
    """Precision and the trades of speed for memory."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    processes: int = 1
    """Processes that share each batch: one a GPU, or parts of the CPU. They divide data.batch_size."""
    precision: Precision = "bf16"
    """Autocast precision; the LoRA and its optimizer are fp32 always. fp16 needs CUDA."""
    base_precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Precision the frozen base is held in; `auto` follows precision."""
    base_weights: Literal["full", "fp8", "int8", "nf4"] = "full"
    """How the frozen blocks are stored: in full, or in 8 or 4 bits and made anew at each use, slower."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about 1.3 times slower."""
    blocks_to_swap: int = 0
    """Blocks of the base whose weights stay in main memory and visit the device to be used; 0 is none."""
    compile: bool = False
    """Compile the base's blocks (torch.compile): minutes at first, then faster on a GPU; needs g++."""
    attention: Literal["sdpa", "sliced"] = "sdpa"
    """Attention: torch's fused kernels, or slice by slice, slower, for devices that have none."""
    tf32: bool = False
    """CUDA: let fp32 products use TF32, faster with 10 bits of mantissa."""


SHORT_NAMES: dict[str, str] = {
    "processes": "processes",
    "precision": "precision",
}
RANGES: dict[str, tuple[float | None, float | None]] = {"blocks_to_swap": (0, 200), "processes": (1, 64)}
POSITIVE: frozenset[str] = frozenset()
CHOICES: dict[str, tuple[str, ...]] = {}
