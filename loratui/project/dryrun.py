"""A dry run: the training itself on its largest bucket, for some steps, in a child process; then it is known.

The pictures of the largest bucket, one forward, backward and optimizer step after another, one checkpoint and
one sample with its decoding. What it takes goes into the plan and into the machine's record.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import loratui
from loratui.config.run import RunInfo
from loratui.config.write import write_run
from loratui.errors import JobError, RunError
from loratui.plan.measured import Measurement, device_name, remember, settings_key
from loratui.project import manifest

if TYPE_CHECKING:
    from loratui.config.schema import RunConfig
    from loratui.dataset.scan import Picture
    from loratui.project.project import Project
    from loratui.project.start import Ready

STEPS = 6
"""Steps of a dry run: two for memory, one to warm up, the others for speed."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a dry run found.

    Attributes:
        measurement: for the record.
        phases: peak in GiB while loading, caching, training, sampling.
        held_gib: most memory that the allocator kept, freed blocks included, in GiB.
        device_gib: memory of the device in GiB; of the machine on the CPU.
        bucket: (width, height) of the largest bucket in px.
        fits: whether the peak is below the device's memory.
        sample_error: why the sample could not be drawn, empty when it was.
    """

    measurement: Measurement
    phases: dict[str, float]
    held_gib: float
    device_gib: float
    bucket: tuple[int, int]
    fits: bool
    sample_error: str = ""

    def as_json(self) -> dict[str, Any]:
        """What `loratui dryrun --json` prints of it."""
        m = self.measurement
        return {
            "device": m.device,
            "device_gib": round(self.device_gib, 3),
            "peak_gib": round(m.peak_gib, 4),
            "held_gib": round(self.held_gib, 4),
            "phases": self.phases,
            "step_s": round(m.step_s, 5),
            "sample_s": round(m.sample_s, 4),
            "save_s": round(m.save_s, 4),
            "estimate_gib": round(m.estimate_gib, 4),
            "bucket": list(self.bucket),
            "fits": self.fits,
            "sample_error": self.sample_error,
        }


class Child:
    """A child process that can be ended from another thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.stopped = False

    def stop(self) -> None:
        """End it, with all it started."""
        self.stopped = True
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def answers(self, command: list[str], log: Path) -> tuple[list[dict[str, Any]], int]:
        """Run a command that prints JSON lines; all of them and the exit code."""
        found: list[dict[str, Any]] = []
        self.each(command, log, found.append)
        assert self._process is not None
        return found, self._process.wait()

    def each(self, command: list[str], log: Path, on_line: Callable[[dict[str, Any]], None]) -> int:
        """Run a command and hand on each JSON line as it comes; its exit code."""
        with open(log, "w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                start_new_session=True, errors="replace",
            )  # fmt: skip
            assert self._process.stdout is not None
            try:
                for line in self._process.stdout:
                    with contextlib.suppress(ValueError):
                        row = json.loads(line)
                        if isinstance(row, dict):
                            on_line(row)
            except BaseException:
                self.stop()
                raise
        return self._process.wait()


def dry_run(
    project: Project, ready: Ready, on_progress: Progress = lambda what, done, total: None,
    child: Child | None = None, steps: int = STEPS,
) -> DryRun:  # fmt: skip
    """Measure a prepared training on this machine.

    Args:
        project: the project; its caches serve, and gain the entries of the largest bucket.
        ready: from `project.start.prepare`.
        on_progress: told what is done, how much of it, and of how much (0 when that is not known).
        child: to stop it from another thread.
        steps: optimizer steps to run.

    Raises:
        JobError: it could not be done: out of memory, killed, or whatever the training would end with.
        MissingPackageError: no interpreter with torch.
    """
    from loratui.optim.spec import optimizer_spec
    from loratui.runs.directory import RunDir
    from loratui.runs.launch import job_python

    spec = optimizer_spec(ready.config.optimizer.name)
    python = job_python(spec.package if spec else "")
    child = child or Child()
    pictures, bucket = largest_bucket(ready)
    parent = project.cache_dir
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="dryrun-", dir=parent))
    except OSError as error:
        raise RunError(f"{parent} cannot be written: {error.strerror}.", "Check its mode.") from error
    try:
        run = RunDir(folder)
        config = _short(ready.config, steps)
        info = RunInfo(
            id=folder.name, name="dry run", project=str(project.root), base_path=str(ready.base),
            family=ready.family, trigger=project.trigger, steps=steps, epochs=1,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            version=loratui.__version__,
        )  # fmt: skip
        write_run(run.config_path, info, config)
        run.manifest_path.write_text(
            "".join(json.dumps(row) + "\n" for row in _rows(pictures, config, project, bucket))
        )
        answer = _ask(python, run, child, on_progress, steps)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _found(ready, answer, bucket)


def largest_bucket(ready: Ready) -> tuple[list[Picture], tuple[int, int]]:
    """The pictures of the bucket with the largest area, enough for a step where there are, and its size."""
    from loratui.dataset.framing import grids
    from loratui.dataset.scan import buckets_of_picture

    known = grids(ready.config.data)
    size = largest_size(ready)
    wanted = ready.config.data.batch_size * ready.config.optimizer.accumulation
    there = (
        picture
        for picture in ready.scan.pictures
        for bucket in buckets_of_picture(picture, known)
        if bucket.size == size
    )
    return list(islice(there, wanted)), size


def largest_size(ready: Ready) -> tuple[int, int]:
    """Width and height in px of the bucket with the largest area; the scan has counted them."""
    sizes = ((b.width, b.height) for b in ready.scan.buckets)
    return max(sizes, key=lambda s: (s[0] * s[1], s))


def _rows(
    pictures: list[Picture], config: RunConfig, project: Project, bucket: tuple[int, int]
) -> list[dict[str, Any]]:
    """Manifest rows of one bucket, repeated so that every batch is full."""
    wanted = config.data.batch_size * config.optimizer.accumulation
    repeats = -(-wanted // len(pictures)) * config.data.batch_size
    rows = manifest.rows(tuple(pictures), config, project.trigger)
    return [row | {"repeats": repeats} for row in rows if row["bucket"] == [*bucket]]


def _short(config: RunConfig, steps: int) -> RunConfig:
    """The settings, cut to a few steps, one save and one sample."""
    every = 10_000_000 if config.samples.every else 0
    return replace(
        config,
        # one process measures the share that each of several has
        memory=replace(config.memory, processes=1),
        data=replace(
            config.data,
            repeats=1,
            reg_dir="",
            reg_generate=0,
            reg_prompt="",
            batch_size=config.data.batch_size // config.memory.processes,
        ),
        optimizer=replace(config.optimizer, steps=steps, warmup_steps=0, on_nan="skip"),
        objective=replace(config.objective, validation_share=0.0),
        network=replace(config.network, text_stop=0),
        samples=replace(config.samples, every=every, prompts=config.samples.prompts[:1]),
        saving=replace(config.saving, every=10_000_000),
    )


def _ask(python: str, run: Any, child: Child, on_progress: Progress, steps: int) -> dict[str, Any]:
    """Run the child to its answer.

    Raises:
        JobError: there is none.
    """
    last: dict[str, Any] = {}

    def hear(row: dict[str, Any]) -> None:
        if "progress" in row:
            total = row.get("total")
            on_progress(
                str(row["progress"]), int(row.get("done") or 0), int(steps if total is None else total)
            )
        else:
            last.update(row)

    code = child.each([python, "-m", "loratui.jobs.dryrun", str(run.path)], run.path / "log.txt", hear)
    if "answer" in last:
        answer: dict[str, Any] = last["answer"]
        return answer
    if child.stopped:
        raise JobError("The dry run was stopped.")
    if last.get("code") == "out-of-memory":
        raise JobError(
            f"These settings do not fit this device: {last['error']}", "`loratui plan` lists what would fit."
        )
    if "error" in last:
        raise JobError(f"The dry run failed: {last['error']}", str(last.get("advice") or ""))
    if code == -signal.SIGKILL:
        raise JobError(
            "The dry run was killed, most likely by the kernel as the machine ran out of memory.",
            "`loratui plan` lists what would fit.",
        )
    tail = next(iter(reversed((run.path / "log.txt").read_text(errors="replace").strip().splitlines())), "")
    raise JobError(f"The dry run ended with code {code}: {tail}"[:400])


def _found(ready: Ready, answer: dict[str, Any], bucket: tuple[int, int]) -> DryRun:
    import psutil

    cpu = answer["device"] == "cpu"
    device = device_name("cpu") if cpu else str(answer["device"])
    total = psutil.virtual_memory().total / float(1 << 30) if cpu else float(answer["device_gib"])
    memory = ready.plan.memory
    measurement = Measurement(
        key=settings_key(ready.config, ready.base, bucket[0] * bucket[1]),
        device=device,
        family=ready.family,
        peak_gib=float(answer["peak_gib"]),
        step_s=float(answer["step_s"]),
        sample_s=float(answer["sample_s"]),
        save_s=float(answer["save_s"]),
        estimate_gib=memory.total_gib if memory is not None else 0.0,
    )
    remember(measurement)
    phases = {str(k): float(v) for k, v in answer["phases"].items()}
    fits = measurement.peak_gib < total and not answer["sample_error"]
    return DryRun(
        measurement, phases, float(answer["held_gib"]), total, bucket, fits, str(answer["sample_error"])
    )
