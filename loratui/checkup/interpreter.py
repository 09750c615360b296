"""The interpreter that jobs run in, asked in a process of its own: torch is never loaded here."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from loratui.checkup.finding import Check

NEEDED = ("torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "safetensors")
OPTIONAL: dict[str, str] = {
    "bitsandbytes": "8-bit and paged optimizers",
    "prodigyopt": "Prodigy",
    "schedulefree": "schedule-free AdamW",
    "pytorch-optimizer": "Lion, CAME and any optimizer of its list",
    "open_clip_torch": "CoCa and CLIP captioners",
    "onnxruntime": "the WD taggers",
    "opencv-python-headless": "crops about faces, size of faces",
}
"""Package -> what it brings."""
_SECONDS = 120.0
_PROBE = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        found[name] = ""
cuda, broken, device = None, "", ""
if found.get("torch"):
    try:
        import torch
        cuda = torch.cuda.is_available()
        if found.get("torchvision"):
            import torchvision
            torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        if cuda:
            major, minor = torch.cuda.get_device_capability()
            bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: set precision to fp16"
            name = torch.cuda.get_device_name()
            device = f"{name}, compute {major}.{minor}, CUDA {torch.version.cuda}, {bf16}"
            one = torch.ones(8, 8, device="cuda")
            assert float((one @ one).sum()) == 512.0, "a product on the GPU came out wrong"
        else:
            device = f"the CPU, {torch.get_num_threads()} threads"
    except Exception as error:
        broken = f"{type(error).__name__}: {error}"
answer = {"python": sys.version.split()[0], "packages": found, "cuda": cuda, "broken": broken}
answer["device"] = device
print(json.dumps(answer))
"""
"""Versions are read from metadata; torch is loaded to see whether it works, with torchvision and the GPU."""


def training() -> list[Check]:
    """The interpreter of the jobs, its packages, whether its torch works, and on which device."""
    from loratui.errors import LoratuiError
    from loratui.runs.launch import job_python

    try:
        python = job_python()
    except LoratuiError as error:
        return [Check("training", "attention", error.message, error.advice)]
    try:
        done = subprocess.run(
            [python, "-c", _PROBE, *NEEDED, *OPTIONAL],
            capture_output=True, text=True, timeout=_SECONDS, check=True,
        )  # fmt: skip
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
    return _judged(python, found)


def _judged(python: str, found: dict[str, Any]) -> list[Check]:
    packages: dict[str, str] = found["packages"]
    have = ", ".join(f"{n} {v}" for n, v in packages.items() if v and n not in OPTIONAL)
    where = f"on Python {found['python']} ({python}{named_by()})"
    checks = [Check("training", "ok", f"{have or 'nothing'} {where}")]
    missing = [name for name, version in packages.items() if not version and name not in OPTIONAL]
    if missing:
        advice = "Install them with `pip install 'loratui[train]'`."
        checks.append(Check("packages", "attention", f"not installed: {', '.join(missing)}", advice))
    mismatch = fits(packages.get("torch", ""), packages.get("torchvision", ""))
    if found["broken"]:
        first = str(found["broken"]).splitlines()[0]
        advice = mismatch or "Where the two do not fit: `pip install -U torch torchvision`."
        checks.append(Check("torch", "attention", f"torch or torchvision does not work: {first}", advice))
    elif mismatch:
        checks.append(Check("torch", "attention", "torch and torchvision do not belong together", mismatch))
    elif found["cuda"] is False and Path("/dev/nvidiactl").exists():
        advice = "Install the torch that fits the driver; pytorch.org names it."
        checks.append(Check("torch", "attention", "there is an NVIDIA driver, and torch sees no GPU", advice))
    elif found.get("device"):
        checks.append(Check("device", "ok", f"trainings run on {found['device']}"))
    if any(name in packages for name in OPTIONAL):
        checks.append(_optional(python, packages))
    return checks


def named_by() -> str:
    """What names the interpreter, in words that go on after its path; empty for the app's own."""
    from loratui.errors import LoratuiError
    from loratui.runs.launch import named_python

    if os.environ.get("LORATUI_PYTHON"):
        return ", named by LORATUI_PYTHON"
    try:
        return ", named by jobs.python of the settings" if named_python() else ""
    except LoratuiError:
        return ""


def fits(torch: str, torchvision: str) -> str:
    """What to install when two versions do not belong together, else an empty string.

    torchvision 0.(N + 15) is built against torch 2.N, and both for one kind of device (`+cpu`, `+cu128`).
    """
    one = re.match(r"2\.(\d+)\.\d+(?:\+(\w+))?", torch)
    other = re.match(r"0\.(\d+)\.\d+(?:\+(\w+))?", torchvision)
    if one is None or other is None:
        return ""
    if int(other[1]) != int(one[1]) + 15:
        wanted = f"0.{int(one[1]) + 15}"
        advice = f"`pip install 'torchvision=={wanted}.*'`."
        return f"torch {torch} wants torchvision {wanted}, not {torchvision}: {advice}"
    if one[2] and other[2] and one[2] != other[2]:
        return f"torch is built for {one[2]}, torchvision for {other[2]}: install both from the same index."
    return ""


def _optional(python: str, packages: dict[str, str]) -> Check:
    have = [f"{name} {packages[name]}" for name in OPTIONAL if packages.get(name)]
    lack = [f"{name} ({brings})" for name, brings in OPTIONAL.items() if not packages.get(name)]
    detail = ", ".join(have) or "none"
    if not lack:
        return Check("optional", "ok", detail)
    return Check(
        "optional", "info", f"{detail}; not {', '.join(lack)}", f"`{python} -m pip install NAME` adds one."
    )
