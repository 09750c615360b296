"""A stand-in for pynvml: as many GPUs as wanted, in any condition.

monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(cards(8)))
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

GIB = 1 << 30
UNSUPPORTED, NOT_FOUND, NOT_LOADED, UNINITIALISED, LOST = 3, 12, 9, 1, 15


class NVMLError(Exception):
    """As pynvml's."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        words = {
            UNSUPPORTED: "Not Supported",
            NOT_FOUND: "NVML Shared Library Not Found",
            LOST: "GPU is lost",
        }
        return words.get(self.value, f"error {self.value}")


@dataclass
class Card:
    """One GPU; `unsupported` names questions that it refuses, `lost` makes it refuse all."""

    name: str = "NVIDIA RTX 4090"
    used_gib: float = 17.9
    total_gib: float = 24.0
    busy: int = 97
    temperature: int = 71
    power_w: float = 402.0
    limit_w: float = 450.0
    sm_mhz: int = 2520
    memory_mhz: int = 10501
    reasons: int = 0
    processes: list[tuple[int, float | None]] = field(default_factory=list)
    slices: list[Card] = field(default_factory=list)
    unsupported: frozenset[str] = frozenset()
    lost: bool = False


def cards(count: int, **changes: Any) -> list[Card]:
    """`count` GPUs alike."""
    return [Card(**changes) for _ in range(count)]


class FakeNvml:
    """Put into sys.modules as pynvml."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM, NVML_CLOCK_MEM = 0, 1, 2

    def __init__(self, found: list[Card], fails: int = 0) -> None:
        self.cards, self.fails = found, fails

    def nvmlInit(self) -> None:
        if self.fails:
            raise NVMLError(self.fails)

    def nvmlShutdown(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def _asked(self, card: Card, what: str) -> None:
        if self.fails:
            raise NVMLError(self.fails)
        if card.lost:
            raise NVMLError(LOST)
        if what in card.unsupported:
            raise NVMLError(UNSUPPORTED)

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        return f"GPU-{self.cards.index(card)}"

    def nvmlDeviceGetName(self, card: Card) -> str:
        self._asked(card, "name")
        return card.name

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> Any:
        self._asked(card, "memory")
        return SimpleNamespace(used=int(card.used_gib * GIB), total=int(card.total_gib * GIB))

    def nvmlDeviceGetUtilizationRates(self, card: Card) -> Any:
        self._asked(card, "busy")
        return SimpleNamespace(gpu=card.busy, memory=10)

    def nvmlDeviceGetTemperature(self, card: Card, sensor: int) -> int:
        self._asked(card, "temperature")
        return card.temperature

    def nvmlDeviceGetPowerUsage(self, card: Card) -> int:
        self._asked(card, "power")
        return int(card.power_w * 1000)

    def nvmlDeviceGetEnforcedPowerLimit(self, card: Card) -> int:
        self._asked(card, "power")
        return int(card.limit_w * 1000)

    def nvmlDeviceGetClockInfo(self, card: Card, which: int) -> int:
        self._asked(card, "clocks")
        return card.memory_mhz if which == self.NVML_CLOCK_MEM else card.sm_mhz

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, card: Card) -> int:
        self._asked(card, "throttle")
        return card.reasons

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[Any]:
        self._asked(card, "processes")
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=None if used is None else int(used * GIB))
            for pid, used in card.processes
        ]

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: Card) -> list[Any]:
        self._asked(card, "graphics")
        return []

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        self._asked(card, "mig")
        return [int(bool(card.slices)), int(bool(card.slices))]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Card:
        if index >= len(card.slices):
            raise NVMLError(6)
        return card.slices[index]
