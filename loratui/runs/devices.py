"""Which devices a run may take, told from its settings and the driver, without torch.

A device is known by its number on this machine (`cuda:3`), whatever CUDA_VISIBLE_DEVICES makes of it for one
process: locks and the queue must mean the same card from every terminal.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Want:
    """What a run asks for.

    Attributes:
        devices: those it may take, best first.
        count: how many of them it needs at once.
        visible: device -> how CUDA_VISIBLE_DEVICES names it; empty when the job chooses by itself.
    """

    devices: tuple[str, ...]
    count: int = 1
    visible: tuple[tuple[str, str], ...] = ()

    def environment(self, taken: list[str]) -> dict[str, str]:
        """What shows the job the devices it was given and no others; empty when it had no choice."""
        names = dict(self.visible)
        if len(self.devices) <= self.count or not all(device in names for device in taken):
            return {}
        return {"CUDA_VISIBLE_DEVICES": ",".join(names[device] for device in taken)}


def wanted(document: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Want | None:
    """The devices that the run of this run.toml has to itself; None for none.

    The CPU is shared by all, unless the run was told to wait in the queue (`run.queue`).
    """
    run, memory = _table(document, "run"), _table(document, "memory")
    names = names_device(document)
    gpus = visible_gpus(environment) if any(name != CPU for name in names) else []
    labels = [label for label, _ in gpus]
    for name in names:
        number = name.removeprefix("cuda:")
        if name.startswith("cuda:") and number.isdecimal() and int(number) < len(labels):
            return Want((labels[int(number)],))
    if labels and any(name in {"auto", "cuda"} for name in names):
        count = memory.get("processes", 1)
        count = min(count, len(labels)) if isinstance(count, int) and count > 1 else 1
        return Want(tuple(labels), count, tuple(gpus))
    return Want((CPU,)) if run.get("queue") is True else None


def names_device(document: Mapping[str, Any]) -> list[str]:
    """The devices as the settings of a run name them (`auto`), one for each model; none for other jobs."""
    memory, captioners = _table(document, "memory"), _table(document, "captioner")
    tables = [memory, *(options for options in captioners.values() if isinstance(options, dict))]
    return [str(table["device"]) for table in tables if "device" in table]


def visible_gpus(environment: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """(device, its name in CUDA_VISIBLE_DEVICES) of the GPUs that a job started here may use."""
    given = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES")
    ids = _gpu_ids() if given is None or given.strip() not in {"", "-1"} else []
    if not ids or given is None:
        return [(f"cuda:{number}", str(number)) for number in range(len(ids))]
    found: list[tuple[str, str]] = []
    for word in (part.strip() for part in given.split(",")):
        if word.isdecimal():
            if int(word) >= len(ids):  # CUDA ends the list at the first one that is not there
                break
            found.append((f"cuda:{word}", word))
            continue
        numbers = [number for number, name in enumerate(ids) if name.startswith(word)]
        found.append((f"cuda:{numbers[0]}" if numbers else word, word))
    return found


def _gpu_ids() -> list[str]:
    """The UUID of each GPU, in the order of their slots; empty without driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
            names = [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
            return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no driver, or no library: NVML has its own exceptions for each
        return []


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = document.get(name)
    return table if isinstance(table, dict) else {}
