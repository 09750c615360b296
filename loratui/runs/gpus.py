"""What the driver tells of the GPUs of this machine, through NVML, without torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

GIB = float(1 << 30)
_AGAIN_S = 30.0
_LOST = 15  # NVML_ERROR_GPU_IS_LOST
_RESET = 16  # NVML_ERROR_RESET_REQUIRED
_UNINITIALISED = 1
_THROTTLES = (
    (0x04, "power cap"),
    (0x08, "hardware slowdown"),
    (0x20, "thermal"),
    (0x40, "hardware thermal"),
    (0x80, "power brake"),
)
HARMFUL = frozenset({"hardware slowdown", "thermal", "hardware thermal", "power brake"})
"""Reasons that mean something is wrong; a power cap is how most cards work under load."""


@dataclass(frozen=True)
class Tenant:
    """A process that holds memory of a GPU; its memory is None where the driver does not tell."""

    pid: int
    name: str
    used_gib: float | None = None


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one slice of a GPU; None where the driver does not tell."""

    index: int
    name: str
    used_gib: float
    total_gib: float
    ours_gib: float | None = None
    busy: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    clock_mhz: float | None = None
    memory_mhz: float | None = None
    throttled: tuple[str, ...] = ()
    others: tuple[Tenant, ...] = ()
    lost: str = ""
    """Why the GPU answers no more; empty while it does."""
    slice: str = ""
    """Which MIG slice this is; empty for a whole GPU."""

    @property
    def others_gib(self) -> float | None:
        """Memory that is not ours, None when ours is not known."""
        return None if self.ours_gib is None else max(0.0, self.used_gib - self.ours_gib)


class Gpus:
    """Keeps NVML open between two looks; a driver that went away is tried again each 30 s.

    Attributes:
        why: why there is no GPU, in one sentence; empty when there is one.
    """

    def __init__(self) -> None:
        self.why = ""
        self._nvml: Any = None
        self._handles: list[Any] = []
        self._tried_at = -_AGAIN_S
        self._names: dict[int, str] = {}

    @property
    def present(self) -> bool:
        """Whether there was a GPU at the last look."""
        return bool(self._handles)

    def _open(self) -> None:
        self._tried_at = time.monotonic()
        self._handles = []
        try:
            import pynvml
        except ImportError:
            self.why = "nvidia-ml-py is not installed, so GPUs cannot be read"
            return
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except (pynvml.NVMLError, OSError) as error:
            self.why = f"no NVIDIA driver ({error})"
            return
        for index in range(count):
            try:
                self._handles.append(pynvml.nvmlDeviceGetHandleByIndex(index))
            except pynvml.NVMLError:  # lost before we came, or kept from this user
                self._handles.append(None)
        self.why = "" if count else "the driver knows no GPU"

    def read(self, pids: frozenset[int] = frozenset()) -> tuple[Gpu, ...]:
        """All GPUs now; `pids` are the processes of the job."""
        if not self._handles and time.monotonic() - self._tried_at >= _AGAIN_S:
            self._open()
        found: list[Gpu] = []
        for index, handle in enumerate(self._handles):
            try:
                found += self._of(index, handle, pids)
            except self._nvml.NVMLError as error:
                code = getattr(error, "value", 0)
                if code == _UNINITIALISED:
                    self._handles = []
                    self.why = "the NVIDIA driver was unloaded"
                    return ()
                found.append(Gpu(index, "GPU", 0.0, 0.0, lost=str(error)))
        return tuple(found)

    def _of(self, index: int, handle: Any, pids: frozenset[int]) -> list[Gpu]:
        """One GPU, or its slices when it is cut into some.

        Raises:
            NVMLError: the GPU is lost.
        """
        nvml = self._nvml
        if handle is None:
            return [Gpu(index, "GPU", 0.0, 0.0, lost="it cannot be opened")]
        name = _text(self._ask(lambda: nvml.nvmlDeviceGetName(handle))) or "GPU"
        power = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        limit = self._ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        reasons = self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
        common = {
            "temperature_c": self._ask(
                lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
            "power_w": None if power is None else power / 1000,
            "power_limit_w": None if limit is None else limit / 1000,
            "clock_mhz": self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            "memory_mhz": self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            "throttled": tuple(word for bit, word in _THROTTLES if reasons & bit),
        }
        slices = self._slices(handle)
        if slices:
            return [self._unit(index, name, part, pids, common, str(n)) for n, part in slices]
        return [self._unit(index, name, handle, pids, common)]

    def _unit(
        self, index: int, name: str, handle: Any, pids: frozenset[int], common: dict[str, Any], part: str = ""
    ) -> Gpu:
        nvml = self._nvml
        memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        busy = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        if part:
            name = _text(self._ask(lambda: nvml.nvmlDeviceGetName(handle))) or name
        ours, others = self._tenants(handle, pids)
        return Gpu(
            index=index,
            name=name,
            used_gib=memory.used / GIB if memory else 0.0,
            total_gib=memory.total / GIB if memory else 0.0,
            ours_gib=ours,
            busy=None if busy is None else busy / 100,
            others=others,
            slice=part,
            **common,
        )

    def _slices(self, handle: Any) -> list[tuple[int, Any]]:
        nvml = self._nvml
        mode = self._ask(lambda: nvml.nvmlDeviceGetMigMode(handle))
        if not mode or not mode[0]:
            return []
        count = self._ask(lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0
        found = []
        for number in range(count):
            part = self._ask(partial(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number))
            if part is not None:
                found.append((number, part))
        return found

    def _tenants(self, handle: Any, pids: frozenset[int]) -> tuple[float | None, tuple[Tenant, ...]]:
        """Memory of the job's processes, and the other processes."""
        nvml = self._nvml
        seen = self._ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
        if seen is None:
            return None, ()
        drawing = self._ask(lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)) or []
        ours: float | None = None
        others: dict[int, Tenant] = {}
        for process in [*seen, *drawing]:
            used = process.usedGpuMemory / GIB if process.usedGpuMemory is not None else None
            if process.pid in pids:
                ours = (ours or 0.0) + used if used is not None else ours
            else:
                others[process.pid] = Tenant(process.pid, self._name(process.pid), used)
        kept = sorted(others.values(), key=lambda t: -(t.used_gib or 0.0))
        return ours, tuple(kept[:8])

    def _name(self, pid: int) -> str:
        if pid not in self._names:
            import psutil

            if len(self._names) > 256:
                self._names.clear()
            try:
                self._names[pid] = psutil.Process(pid).name()
            except (psutil.Error, OSError):
                self._names[pid] = ""  # of another container, or gone
        return self._names[pid]

    def _ask(self, question: Callable[[], Any]) -> Any:
        """What NVML answers, None for what this card or driver does not support.

        Raises:
            NVMLError: the GPU is lost or the driver is gone.
        """
        try:
            return question()
        except self._nvml.NVMLError as error:
            if getattr(error, "value", 0) in {_LOST, _RESET, _UNINITIALISED}:
                raise
            return None
        except (AttributeError, ValueError, UnicodeDecodeError):  # an older binding, an odd answer
            return None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
