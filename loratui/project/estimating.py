"""The memory estimate of a plan: from fake tensors in a child process, kept by settings, and put right by
what was measured on this machine.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.config.run import RunInfo
from loratui.config.write import write_run, write_text
from loratui.errors import JobError, LoratuiError
from loratui.paths import cache_dir
from loratui.plan.measured import (
    Measurement,
    correction,
    device_name,
    measurements,
    newest,
    settings_key,
)
from loratui.project.dryrun import Child, largest_size

if TYPE_CHECKING:
    from loratui.plan.plan import Plan
    from loratui.project.project import Project
    from loratui.project.start import Ready

VERSION = "2"
"""Part of what names a kept estimate: raise it when the way of estimating changes."""
CONTEXT_GIB = 0.6
"""What CUDA and its libraries take on a device before anything is loaded."""
_MOST_KEPT = 400


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What is known of a training's memory and speed before it runs.

    Attributes:
        basis: `measured`, `corrected` (estimated, and put right by measurements) or `estimated`.
        peak_gib: the highest need in GiB.
        parts: GiB by phase or kind, for showing.
        step_s: seconds a step, 0 when nothing is known.
        sample_s: seconds a sample, 0 when nothing is known.
        save_s: seconds a checkpoint, 0 when nothing is known.
        device: the device that this is said of.
    """

    basis: str
    peak_gib: float
    parts: dict[str, float]
    device: str
    step_s: float = 0.0
    sample_s: float = 0.0
    save_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """What `plan --json` shows of it."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def foresee(
    project: Project, ready: Ready, child: Child | None = None, *, ask: bool = True
) -> Foreseen | None:
    """The best that can be said: measured on this device, else estimated by fake tensors.

    Args:
        project: the project.
        ready: an assessed training, without errors.
        child: to stop the estimate from another thread.
        ask: whether to make an estimate that is not kept yet (some seconds, in a child process).

    Returns:
        None when there is nothing to say yet.

    Raises:
        JobError: the estimate could not be made.
        MissingPackageError: no interpreter with torch.
    """
    if ready.errors or not ready.scan.pictures or not ready.family:
        return None
    size = largest_size(ready)
    key = settings_key(ready.config, ready.base, size[0] * size[1])
    device = device_name(ready.config.memory.device)
    rows = measurements()
    known = newest(rows, key, device)
    if known is not None:
        return _measured(known, device)
    kept = _kept(key)
    if kept is None and ask:
        kept = _estimate(project, ready, size, child or Child())
        _keep(key, kept)
    if kept is None:
        return None
    factor = correction(rows, device, ready.family)
    parts = {name.removesuffix("_gib"): value for name, value in kept.items()}
    peak = max(parts[name] for name in ("weights", "cache", "train", "sample"))
    context = 0.0 if device.startswith("CPU") else CONTEXT_GIB
    return Foreseen("corrected" if factor != 1.0 else "estimated", peak * factor + context, parts, device)


def run_seconds(plan: Plan, seen: Foreseen) -> float:
    """Seconds that a run takes at the speed that was measured, saves and samples counted; 0 without one."""
    pictures = plan.pictures + plan.class_pictures
    return plan.steps * seen.step_s + pictures * seen.sample_s + plan.saves * seen.save_s


def _measured(row: Measurement, device: str) -> Foreseen:
    context = 0.0 if device.startswith("CPU") else CONTEXT_GIB
    return Foreseen(
        "measured",
        row.peak_gib + context,
        {"train": row.peak_gib},
        device,
        row.step_s,
        row.sample_s,
        row.save_s,
    )


def estimate_gib(ready: Ready) -> float:
    """The kept estimate for these settings, without correction; 0 when there is none."""
    size = largest_size(ready)
    kept = _kept(settings_key(ready.config, ready.base, size[0] * size[1]))
    return max(kept.values()) if kept else 0.0


def _path(key: str) -> Path:
    return cache_dir() / "estimates" / f"{VERSION}-{key}.json"


def _kept(key: str) -> dict[str, float] | None:
    try:
        found = json.loads(_path(key).read_text("utf-8"))
        return {str(k): float(v) for k, v in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _keep(key: str, values: dict[str, float]) -> None:
    path = _path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(values))
        others = sorted(path.parent.glob("*.json"), key=lambda p: p.stat().st_mtime)
        for old in others[:-_MOST_KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, LoratuiError):
        return


def _estimate(project: Project, ready: Ready, size: tuple[int, int], child: Child) -> dict[str, float]:
    from loratui.optim.spec import optimizer_spec
    from loratui.runs.directory import RunDir
    from loratui.runs.launch import job_python

    spec = optimizer_spec(ready.config.optimizer.name)
    python = job_python(spec.package if spec else "")
    folder = Path(tempfile.mkdtemp(prefix="loratui-estimate-"))
    last: dict[str, Any] = {}
    try:
        run = RunDir(folder)
        info = RunInfo(
            id="estimate", project=str(project.root), base_path=str(ready.base), family=ready.family,
            trigger=project.trigger, steps=1, epochs=1,
        )  # fmt: skip
        write_run(run.config_path, info, ready.config)
        command = [python, "-m", "loratui.jobs.estimate", str(folder), str(size[0]), str(size[1])]
        code = child.each(command, folder / "log.txt", last.update)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if "answer" not in last:
        why = str(last.get("error") or f"it ended with code {code}")
        raise JobError(f"Memory could not be estimated: {why}", str(last.get("advice") or ""))
    return {str(k): float(v) for k, v in last["answer"].items()}
