"""What trainings and dry runs took on this machine: a record that plans learn from.

One JSON object a line in `measured.jsonl` of the state folder. A line names the device, a hash of all
settings that weigh on memory and speed, and what was measured; the newest line of a hash counts. Settings
that were not measured take the estimate, multiplied by how far it was off for the same family and device.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from loratui.config.schema import RunConfig
from loratui.paths import state_dir

FILE = "measured.jsonl"
_MOST_BYTES = 4 * 1024 * 1024
_LINES_FOR_CORRECTION = 12
_CORRECTION = (0.4, 2.5)
"""An estimate that is further off than this was of something else; it is not learnt from."""
_MORE = (
    "data.batch_size", "data.max_tokens", "data.resolution", "data.also_at", "optimizer.name",
    "optimizer.other", "optimizer.accumulation", "model.vae", "objective.ema_decay", "objective.masked",
    "samples.width", "samples.height",
)  # fmt: skip
_WITHOUT = {"memory.device"}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured training.

    Attributes:
        key: hash of the settings, from `settings_key`.
        device: name of the device.
        family: of the base.
        peak_gib: most memory taken, in GiB: allocated on a GPU; on the CPU resident above what imports take.
        step_s: median seconds of an optimizer step, accumulation included.
        sample_s: seconds of one sample, 0 when none was drawn.
        save_s: seconds of writing a checkpoint.
        estimate_gib: what was estimated for these settings, 0 when nothing was.
        from_run: whether a real run gave it, and not a dry run.
    """

    key: str
    device: str
    family: str
    peak_gib: float
    step_s: float
    sample_s: float = 0.0
    save_s: float = 0.0
    estimate_gib: float = 0.0
    from_run: bool = False


def settings_key(config: RunConfig, base: Path, area_px: int) -> str:
    """A hash of all that memory and speed of a step depend on.

    Args:
        config: resolved settings.
        base: the base's file or folder.
        area_px: area of the largest bucket in px.
    """
    from loratui.config.load import as_dict

    weighty = {
        key: value
        for key, value in as_dict(config).items()
        if key.startswith(("memory.", "network.")) and key not in _WITHOUT
    }
    for key in _MORE:
        weighty[key] = as_dict(config)[key]
    text = json.dumps([weighty, str(base), area_px], sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@functools.cache
def device_name(device: str = "auto") -> str:
    """The device that `memory.device` stands for, as its driver calls it; `CPU, model` without a GPU."""
    if device != "cpu" and os.environ.get("CUDA_VISIBLE_DEVICES") not in {"", "-1"}:
        index = int(device.partition(":")[2] or 0) if device.partition(":")[2].isdecimal() else 0
        name = _nvml_name(index)
        if name:
            return name
    return f"CPU, {_cpu_model()}"


def _nvml_name(index: int) -> str:
    """The driver's name of a GPU; empty without driver, library or device."""
    try:
        import pynvml
    except ImportError:
        return ""
    try:
        pynvml.nvmlInit()
        try:
            name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index))
            return name.decode() if isinstance(name, bytes) else str(name)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return ""


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def remember(measurement: Measurement, folder: Path | None = None) -> None:
    """Add a measurement; a record that cannot be written is no reason to fail."""
    path = (folder or state_dir()) / FILE
    line = json.dumps(asdict(measurement), separators=(",", ":")) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _MOST_BYTES:
            kept = path.read_text("utf-8", "replace").splitlines(keepends=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_text("".join(kept[len(kept) // 2 :]), "utf-8")
            temporary.replace(path)
        with open(path, "a", encoding="utf-8") as file:
            file.write(line)
    except OSError:
        return


def measurements(folder: Path | None = None) -> list[Measurement]:
    """All that was measured, oldest first; lines that cannot be read are passed over."""
    path = (folder or state_dir()) / FILE
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return []
    names = {f.name for f in fields(Measurement)}
    found: list[Measurement] = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
            measured = Measurement(**{k: v for k, v in row.items() if k in names})
            numbers = (measured.peak_gib, measured.step_s, measured.sample_s, measured.save_s)
            if all(isinstance(n, (int, float)) and math.isfinite(n) and n >= 0 for n in numbers):
                found.append(measured)
        except (ValueError, TypeError, AttributeError):
            continue
    return found


def newest(rows: Iterable[Measurement], key: str, device: str) -> Measurement | None:
    """The newest measurement of the same settings on the same device."""
    same = [row for row in rows if row.key == key and row.device == device]
    return same[-1] if same else None


def correction(rows: Iterable[Measurement], device: str, family: str) -> float:
    """Measured over estimated, the median of the newest of a family on a device; 1 when there is none."""
    low, high = _CORRECTION
    ratios = [
        row.peak_gib / row.estimate_gib
        for row in rows
        if row.device == device and row.family == family and row.estimate_gib > 0 and row.peak_gib > 0
        and low <= row.peak_gib / row.estimate_gib <= high
    ][-_LINES_FOR_CORRECTION:]  # fmt: skip
    return statistics.median(ratios) if ratios else 1.0


def as_json(measurement: Measurement) -> dict[str, Any]:
    """The measurement for `--json`, rounded."""
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(measurement).items()}
