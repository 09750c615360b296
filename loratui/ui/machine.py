"""Figures of the machine: GPUs through NVML, the process and the host through psutil. Read in a thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratui.runs.gpus import GIB, Gpu, Gpus, Tenant

__all__ = ["GIB", "Gpu", "Machine", "Reading", "Tenant"]


@dataclass(frozen=True)
class Reading:
    """The machine at one moment. `job_*` is the process of the running job, None when it is not here."""

    at: float = 0.0
    gpus: tuple[Gpu, ...] = ()
    gpus_why: str = ""
    """Why there is no GPU."""
    ram_used_gib: float = 0.0
    ram_total_gib: float = 0.0
    cpu: float = 0.0
    cores: int = 1
    disk_free_gib: float = 0.0
    job_rss_gib: float | None = None
    job_cpu: float | None = None
    job_waits: bool = False
    """Whether the job's process waits for a disk."""
    history: tuple[float, ...] = field(default_factory=tuple)
    """Shares 0..1 of how busy the first GPU (else the CPU) was, newest last."""
    histories: tuple[tuple[float, ...], ...] = ()
    """The same for each of `gpus`."""


class Machine:
    """Reads the figures; keeps NVML open and the history of the last minutes."""

    def __init__(self, folder: str) -> None:
        """Start reading; `folder` lies on the disk whose free space matters."""
        self._folder = folder
        self._gpus = Gpus()
        self._histories: list[list[float]] = []
        self._process: Any = None

    def read(self, at: float, pid: int = 0) -> Reading:
        """The figures now; `pid` is the job's process when it runs on this host."""
        import psutil

        memory = psutil.virtual_memory()
        cpu = psutil.cpu_percent() / 100
        gpus = self._gpus.read(self._family(pid) if self._gpus.present else frozenset())
        busy = [gpu.busy or 0.0 for gpu in gpus] or [cpu]
        if len(busy) != len(self._histories):
            self._histories = [[] for _ in busy]
        for kept, share in zip(self._histories, busy, strict=True):
            kept.append(share)
            del kept[:-120]
        rss, job_cpu, waits = self._job(pid)
        try:
            free = psutil.disk_usage(self._folder).free / GIB
        except OSError:
            free = 0.0
        return Reading(
            at=at,
            gpus=gpus,
            gpus_why=self._gpus.why,
            ram_used_gib=(memory.total - memory.available) / GIB,
            ram_total_gib=memory.total / GIB,
            cpu=cpu,
            cores=psutil.cpu_count() or 1,
            disk_free_gib=free,
            job_rss_gib=rss,
            job_cpu=job_cpu,
            job_waits=waits,
            history=tuple(self._histories[0]),
            histories=tuple(tuple(kept) for kept in self._histories),
        )

    def _job(self, pid: int) -> tuple[float | None, float | None, bool]:
        """Resident GiB, cores used, and whether the process waits for a disk."""
        import psutil

        if not pid:
            self._process = None
            return None, None, False
        try:
            if self._process is None or self._process.pid != pid:
                self._process = psutil.Process(pid)
                self._process.cpu_percent()
            with self._process.oneshot():
                waits = self._process.status() == psutil.STATUS_DISK_SLEEP
                return self._process.memory_info().rss / GIB, self._process.cpu_percent() / 100, waits
        except (psutil.Error, OSError):
            self._process = None
            return None, None, False

    @staticmethod
    def _family(pid: int) -> frozenset[int]:
        """The job's process and those below it: a training on several GPUs is more than one."""
        if not pid:
            return frozenset()
        found, todo = {pid}, [pid]
        while todo and len(found) < 64:
            try:
                for task in Path(f"/proc/{todo.pop()}/task").iterdir():
                    children = [int(word) for word in (task / "children").read_text().split()]
                    todo += [child for child in children if child not in found]
                    found.update(children)
            except (OSError, ValueError):
                continue
        return frozenset(found)
