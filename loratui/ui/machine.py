"""Figures of the machine: GPUs through NVML, the process and the host through psutil. Read in a thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

GIB = float(1 << 30)


@dataclass(frozen=True)
class Gpu:
    """One GPU; None where the driver does not tell."""

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


@dataclass(frozen=True)
class Reading:
    """The machine at one moment. `job_*` is the process of the running job, None when it is not here."""

    at: float = 0.0
    gpus: tuple[Gpu, ...] = ()
    ram_used_gib: float = 0.0
    ram_total_gib: float = 0.0
    cpu: float = 0.0
    cores: int = 1
    disk_free_gib: float = 0.0
    job_rss_gib: float | None = None
    job_cpu: float | None = None
    history: tuple[float, ...] = field(default_factory=tuple)
    """Shares 0..1 of how busy the first GPU (else the CPU) was, newest last."""


class Machine:
    """Reads the figures; keeps NVML open and the history of the last minutes."""

    def __init__(self, folder: str) -> None:
        """Start reading; `folder` lies on the disk whose free space matters."""
        self._folder = folder
        self._nvml: Any = None
        self._handles: list[Any] = []
        self._history: list[float] = []
        self._process: Any = None
        self._open_nvml()

    def _open_nvml(self) -> None:
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
            self._nvml = pynvml
        except pynvml.NVMLError:
            self._handles = []

    def read(self, at: float, pid: int = 0) -> Reading:
        """The figures now; `pid` is the job's process when it runs on this host."""
        import psutil

        memory = psutil.virtual_memory()
        cpu = psutil.cpu_percent() / 100
        gpus = tuple(self._gpu(index, handle, pid) for index, handle in enumerate(self._handles))
        busy = gpus[0].busy if gpus and gpus[0].busy is not None else cpu
        self._history = [*self._history[-119:], busy]
        rss, job_cpu = self._job(pid)
        try:
            free = psutil.disk_usage(self._folder).free / GIB
        except OSError:
            free = 0.0
        return Reading(
            at=at,
            gpus=gpus,
            ram_used_gib=(memory.total - memory.available) / GIB,
            ram_total_gib=memory.total / GIB,
            cpu=cpu,
            cores=psutil.cpu_count() or 1,
            disk_free_gib=free,
            job_rss_gib=rss,
            job_cpu=job_cpu,
            history=tuple(self._history),
        )

    def _job(self, pid: int) -> tuple[float | None, float | None]:
        import psutil

        if not pid:
            self._process = None
            return None, None
        try:
            if self._process is None or self._process.pid != pid:
                self._process = psutil.Process(pid)
                self._process.cpu_percent()
            return self._process.memory_info().rss / GIB, self._process.cpu_percent() / 100
        except (psutil.Error, OSError):
            self._process = None
            return None, None

    def _gpu(self, index: int, handle: Any, pid: int) -> Gpu:
        nvml = self._nvml
        memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        name = self._ask(lambda: nvml.nvmlDeviceGetName(handle)) or "GPU"
        busy = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        power = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        limit = self._ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        ours = self._ask(lambda: self._ours(handle, pid)) if pid else None
        return Gpu(
            index=index,
            name=name.decode(errors="replace") if isinstance(name, bytes) else str(name),
            used_gib=memory.used / GIB if memory else 0.0,
            total_gib=memory.total / GIB if memory else 0.0,
            ours_gib=ours,
            busy=None if busy is None else busy / 100,
            temperature_c=self._ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            power_w=None if power is None else power / 1000,
            power_limit_w=None if limit is None else limit / 1000,
            clock_mhz=self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
        )

    def _ours(self, handle: Any, pid: int) -> float | None:
        for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == pid and process.usedGpuMemory is not None:
                return float(process.usedGpuMemory / GIB)
        return None

    def _ask(self, question: Callable[[], Any]) -> Any:
        """What NVML answers, None for what this card or driver does not support."""
        try:
            return question()
        except self._nvml.NVMLError:
            return None
