"""GPU, memory, disk, file system, and whether locks hold where runs would go."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from loratui.checkup.finding import Check
from loratui.disks import file_system, is_network
from loratui.errors import LoratuiError

_LITTLE_DISK_GIB = 5.0
_LITTLE_RAM_GIB = 3.0
_GIB = float(1 << 30)
_TRY = """
import sys
from pathlib import Path
from loratui.errors import LockedError
from loratui.runs.lock import FileLock
lock = FileLock(Path(sys.argv[1]), "test")
try:
    lock.acquire()
except LockedError:
    print("refused")
else:
    print("taken")
    lock.release()
"""


def gpu() -> Check:
    """The GPUs as NVML tells them, with the driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:  # no driver, no library: NVML has its own exceptions for each
        if Path("/dev/nvidiactl").exists():
            return Check(
                "gpu", "attention", f"the NVIDIA driver does not answer: {error}", "Check `nvidia-smi`."
            )
        return Check("gpu", "info", "no NVIDIA GPU here: trainings run on the CPU, which suits the demo only")
    try:
        found = [_card(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
        driver = pynvml.nvmlSystemGetDriverVersion()
        version = driver.decode() if isinstance(driver, bytes) else str(driver)
    except Exception as error:  # one card of several that fell off the bus raises here
        return Check("gpu", "attention", f"the GPU cannot be read: {error}", "Check `nvidia-smi`.")
    finally:
        pynvml.nvmlShutdown()
    return Check("gpu", "ok" if found else "info", f"{'; '.join(found) or 'none'} (driver {version})")


def _card(nvml: Any, index: int) -> str:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    name = nvml.nvmlDeviceGetName(handle)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    text = name.decode() if isinstance(name, bytes) else str(name)
    return f"{text}, {memory.free / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free"


def memory() -> Check:
    """The machine's main memory."""
    import psutil

    found = psutil.virtual_memory()
    detail = f"{found.available / _GIB:.1f} GiB free of {found.total / _GIB:.1f}"
    if found.available / _GIB < _LITTLE_RAM_GIB:
        advice = "Loading a base needs its size in main memory: close what is not needed."
        return Check("memory", "attention", detail, advice)
    return Check("memory", "ok", detail)


def disk(folder: Path) -> list[Check]:
    """Free space, file system, and whether the folder (or the nearest above it) can be written and locked."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    free = usage.free / _GIB
    detail = f"{free:.1f} GiB free of {usage.total / _GIB:.1f} at {folder}"
    if free < _LITTLE_DISK_GIB:
        checks = [Check("disk", "attention", detail, "Free some space: checkpoints and caches need it.")]
    else:
        checks = [Check("disk", "ok", detail)]
    kind = file_system(folder)
    if is_network(kind):
        detail = (
            f"{folder} is on {kind}, a network disk: watching files is slower, a lost connection stops runs"
        )
        advice = "Keep projects on a disk of this machine where there is one."
        checks.append(Check("file system", "warning", detail, advice))
    elif kind:
        checks.append(Check("file system", "ok", f"{kind}, of this machine"))
    if not os.access(folder, os.W_OK):
        checks.append(Check("folder", "attention", f"{folder} cannot be written", "Use another folder."))
        return checks
    return [*checks, locks(folder)]


def locks(folder: Path) -> Check:
    """Take a lock in the folder, let another process try it, let go, and let it try again."""
    from loratui.runs.lock import FileLock

    advice = "Two trainings could write one run here: use a disk of this machine."
    holder = ""
    try:
        holder = tempfile.mkdtemp(prefix=".loratui-doctor-", dir=folder)
        lock = FileLock(Path(holder) / "test.lock", "test")
        lock.acquire()
        held = _other(lock.path)
        soft = lock.soft
        lock.release()
        free = _other(lock.path)
    except (OSError, LoratuiError, subprocess.SubprocessError) as error:
        return Check("locks", "attention", f"cannot be taken in {folder}: {error}", advice)
    finally:
        if holder:
            shutil.rmtree(holder, ignore_errors=True)
    if held != "refused":
        return Check("locks", "attention", f"two processes hold the same lock in {folder}", advice)
    if free != "taken":
        return Check("locks", "attention", f"a lock that was let go stays taken in {folder}", advice)
    if soft:
        return Check("locks", "warning", "the disk knows no flock; a lock file stands in", "")
    return Check("locks", "ok", "one process at a time, tried with two")


def _other(path: Path) -> str:
    """What another process says when it tries the lock."""
    from loratui.paths import PACKAGE

    env = dict(os.environ)
    env["PYTHONPATH"] = os.pathsep.join(p for p in (str(PACKAGE.parent), env.get("PYTHONPATH", "")) if p)
    done = subprocess.run(
        [sys.executable, "-c", _TRY, str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=env,
    )
    return done.stdout.strip()
