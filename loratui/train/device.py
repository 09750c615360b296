"""Where and in which precision a run computes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from loratui.config.schema import MemoryConfig
from loratui.errors import ConfigError

GIB = float(1 << 30)
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
CPU_FP32_LIMIT = 250_000_000
"""Parameters (1 GiB of them) up to which the CPU holds a base in fp32, so that samples are exact."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Device and precisions of a run.

    Attributes:
        device: where the denoiser trains.
        compute: autocast dtype; fp32 turns autocast off.
        accelerator: accelerate's view of the same: backward, gradient scaling and clipping go through it.
    """

    device: torch.device
    compute: torch.dtype
    accelerator: Accelerator

    def autocast(self, enabled: bool = True) -> torch.autocast:
        """The context the denoiser runs in."""
        on = enabled and self.compute != torch.float32
        return torch.autocast(self.device.type, self.compute if on else torch.bfloat16, enabled=on)

    def free(self) -> None:
        """Give cached memory of the device back."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def memory(self) -> dict[str, Any]:
        """Fields of a `memory` event, GiB."""
        fields: dict[str, Any] = {
            "device": str(self.device),
            "rss_gib": psutil.Process().memory_info().rss / GIB,
        }
        if self.device.type == "cuda":
            fields |= {
                "allocated_gib": torch.cuda.memory_allocated(self.device) / GIB,
                "reserved_gib": torch.cuda.memory_reserved(self.device) / GIB,
                "peak_gib": torch.cuda.max_memory_allocated(self.device) / GIB,
            }
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in fields.items()}


def place(config: MemoryConfig) -> Placement:
    """Choose the device and check the precision on it.

    Raises:
        ConfigError: no such device, or one that cannot compute so.
    """
    device = _device(config)
    if config.precision == "fp16" and device.type != "cuda":
        raise ConfigError("fp16 needs a CUDA device.", "Set memory.precision to bf16 or fp32 on the CPU.")
    if config.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise ConfigError(
            f"{torch.cuda.get_device_name(device)} has no bf16.", "Set memory.precision to fp16."
        )
    if config.precision == "fp32" and config.base_precision not in {"auto", "fp32"}:
        raise ConfigError(
            f"memory.base_precision = {config.base_precision} needs a memory.precision below fp32.",
            "Set memory.base_precision to auto.",
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.tf32
    # accelerate keeps process-wide state and refuses a second precision; jobs in one process (tests) differ.
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)
    accelerator = Accelerator(
        mixed_precision="no" if config.precision == "fp32" else config.precision, cpu=device.type == "cpu"
    )
    return Placement(device, _DTYPES[config.precision], accelerator)


def _device(config: MemoryConfig) -> torch.device:
    name = config.device
    if config.processes > 1 and name in {"auto", "cuda"} and torch.cuda.is_available():
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"  # each process has a GPU of its own
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"There is no device {name!r}.", "Set memory.device to auto, cpu or cuda:0."
        ) from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or (device.index or 0) >= count:
            raise ConfigError(
                f"There is no {name} here: {count} CUDA device{'s' * (count != 1)} found.",
                "Set memory.device to auto, or install a torch build for this GPU.",
            )
        return torch.device("cuda", device.index or 0)
    if device.type != "cpu":
        raise ConfigError(f"{name} is not supported.", "Set memory.device to auto, cpu or cuda:0.")
    return device


def base_dtype(config: MemoryConfig, parameters: int, device: torch.device) -> torch.dtype:
    """What the frozen denoiser is held in.

    `auto` follows `memory.precision`, except for small bases on the CPU: there fp32 is cheap, and samples are
    then the exact ones that the exported file gives elsewhere.
    """
    if config.base_precision != "auto":
        return _DTYPES[config.base_precision]
    if device.type == "cpu" and parameters <= CPU_FP32_LIMIT:
        return torch.float32
    return _DTYPES[config.precision]


def count_parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())
