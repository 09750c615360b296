"""The GPUs of this machine as NVML tells them, and the sizes that GPUs are sold with."""

from __future__ import annotations

import os
from dataclasses import dataclass

SIZES_GIB = (6, 8, 12, 16, 24, 48)


@dataclass(frozen=True, slots=True)
class Card:
    """What a training would run on.

    Attributes:
        name: of the GPU, or empty for one that is only named by its size.
        gib: its memory in GiB; of the machine when it is the CPU.
        cpu: whether it is the CPU.
    """

    name: str = ""
    gib: float = 0.0
    cpu: bool = False

    def __str__(self) -> str:
        if self.cpu:
            return "the CPU"
        return f"{self.name}, {self.gib:.0f} G" if self.name else f"{self.gib:.0f} G"


def cards() -> list[Card]:
    """The GPUs that jobs may see, largest first; empty without one or without its driver."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        return []
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            found = []
            for index in range(pynvml.nvmlDeviceGetCount()):
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                name = pynvml.nvmlDeviceGetName(handle)
                total = pynvml.nvmlDeviceGetMemoryInfo(handle).total / (1 << 30)
                found.append(Card(name.decode() if isinstance(name, bytes) else str(name), total))
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no driver, or no library: NVML has its own exceptions for each
        return []
    return sorted(found, key=lambda card: -card.gib)


def processor() -> Card:
    """The CPU, with the memory of the machine."""
    import psutil

    return Card(gib=psutil.virtual_memory().total / (1 << 30), cpu=True)


def choices() -> list[Card]:
    """What to choose from: the GPUs here, or else the CPU, first; then sizes of GPUs that are elsewhere."""
    here = list(dict.fromkeys(cards()))
    others = [Card(gib=float(size)) for size in SIZES_GIB]
    return [*here, *others, processor()] if here else [processor(), *others]
