"""What `doctor` looks at: the app, the interpreter of the jobs, GPU, disk, terminal, settings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from loratui.disks import file_system, is_network

Level = Literal["ok", "info", "attention"]
_PACKAGES = ("torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "safetensors")
_LITTLE_DISK_GIB = 5.0
_PROBE = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        found[name] = ""
cuda, broken = None, ""
if found.get("torch"):
    try:
        import torch
        cuda = torch.cuda.is_available()
        if found.get("torchvision"):
            import torchvision
            torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        broken = f"{type(error).__name__}: {error}"
print(json.dumps({"python": sys.version.split()[0], "packages": found, "cuda": cuda, "broken": broken}))
"""
"""Versions are read from metadata; torch is loaded to see whether it works with its torchvision."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `attention` makes doctor exit with 1."""

    name: str
    level: Level
    detail: str
    advice: str = ""


def all_checks(folder: Path) -> list[Check]:
    """Everything that doctor looks at; `folder` is where runs would go."""
    return [_app(), *training(), _gpu(), *_disk(folder), _formats(), _terminal(), _settings()]


def _app() -> Check:
    import loratui

    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("textual", "Pillow"))
    return Check("app", "ok", f"loratui {loratui.__version__} on Python {sys.version.split()[0]}, {versions}")


def training() -> list[Check]:
    """The interpreter that jobs run in, asked in a process of its own: torch is never loaded here."""
    from loratui.errors import LoratuiError
    from loratui.runs.launch import job_python

    try:
        python = job_python()
    except LoratuiError as error:
        return [Check("training", "attention", error.message, error.advice)]
    try:
        done = subprocess.run(
            [python, "-c", _PROBE, *_PACKAGES], capture_output=True, text=True, timeout=120, check=True
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [
            Check(
                "training",
                "attention",
                f"{python} does not run: {error}",
                "Set LORATUI_PYTHON to another one.",
            )
        ]
    packages: dict[str, str] = found["packages"]
    have = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    missing = [name for name, version in packages.items() if not version]
    checks = [Check("training", "ok", f"{have or 'nothing'} on Python {found['python']} ({python})")]
    if missing:
        advice = "Install them with `pip install 'loratui[train]'`."
        checks.append(Check("packages", "attention", f"not installed: {', '.join(missing)}", advice))
    if found["broken"]:
        first = str(found["broken"]).splitlines()[0]
        advice = "Where the two do not fit: `pip install -U torch torchvision`."
        checks.append(Check("torch", "attention", f"torch or torchvision does not work: {first}", advice))
    elif found["cuda"] is False and Path("/dev/nvidiactl").exists():
        advice = "Install the torch that fits the driver; pytorch.org names it."
        checks.append(Check("torch", "attention", "there is an NVIDIA driver, and torch sees no GPU", advice))
    return checks


def _gpu() -> Check:
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
        found = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            name = pynvml.nvmlDeviceGetName(handle)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            text = name.decode() if isinstance(name, bytes) else str(name)
            found.append(f"{text}, {memory.free / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")
        driver = pynvml.nvmlSystemGetDriverVersion()
        version = driver.decode() if isinstance(driver, bytes) else str(driver)
    except Exception as error:  # one card of several that fell off the bus raises here
        return Check("gpu", "attention", f"the GPU cannot be read: {error}", "Check `nvidia-smi`.")
    finally:
        pynvml.nvmlShutdown()
    return Check("gpu", "ok" if found else "info", f"{'; '.join(found) or 'none'} (driver {version})")


def _disk(folder: Path) -> list[Check]:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    free = usage.free / 2**30
    detail = f"{free:.1f} GiB free of {usage.total / 2**30:.1f} at {folder}"
    if free < _LITTLE_DISK_GIB:
        checks = [Check("disk", "attention", detail, "Free some space: checkpoints and caches need it.")]
    else:
        checks = [Check("disk", "ok", detail)]
    kind = file_system(folder)
    if is_network(kind):
        checks.append(
            Check(
                "file system",
                "info",
                f"{folder} is on {kind}: runs work there, watching files and locks are slower",
            )
        )
    if not os.access(folder, os.W_OK):
        checks.append(Check("folder", "attention", f"{folder} cannot be written", "Use another folder."))
    return checks


def _formats() -> Check:
    from loratui.dataset.formats import EXTRA, can_read

    names = {"avif": "AVIF", "heif": "HEIC", "jxl": "JPEG XL"}
    there = [name for kind, name in names.items() if can_read(kind)]
    missing = [name for name in names.values() if name not in there]
    detail = f"JPEG, PNG, WebP, BMP, TIFF, GIF{''.join(f', {name}' for name in there)}"
    if not missing:
        return Check("formats", "ok", detail)
    advice = (
        "AVIF comes with Pillow's wheels." if missing == ["AVIF"] else f"{EXTRA} brings HEIC and JPEG XL."
    )
    return Check("formats", "info", f"{detail}; not {', '.join(missing)}", advice)


def _terminal() -> Check:
    term = os.environ.get("TERM", "")
    if not sys.stdout.isatty():
        return Check("terminal", "info", "the answer does not go to a terminal")
    size = shutil.get_terminal_size()
    detail = f"{term or 'TERM not set'}, {size.columns} x {size.lines}"
    if size.columns < 80 or size.lines < 24:
        return Check("terminal", "attention", detail, "The app needs 80 x 24.")
    if term in {"", "dumb"}:
        return Check("terminal", "attention", detail, "Set TERM, as in TERM=xterm-256color.")
    if os.environ.get("COLORTERM", "") not in {"truecolor", "24bit"}:
        advice = "Where the terminal has 24-bit colour, COLORTERM=truecolor shows it."
        return Check("terminal", "info", f"{detail}, 256 colours", advice)
    return Check("terminal", "ok", f"{detail}, 24-bit colour")


def _settings() -> Check:
    from loratui.config.user import load_user_config, user_config_path
    from loratui.errors import LoratuiError

    path = user_config_path()
    try:
        load_user_config()
    except LoratuiError as error:
        return Check("settings", "attention", error.message, error.advice)
    return Check("settings", "ok", f"{path}" if path.exists() else f"none in {path}")
