"""Launch a training: check everything that can be checked without torch, freeze it on disk, start the job."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import loratui
from loratui.config.checks import check, check_device
from loratui.config.finding import error
from loratui.config.run import RunInfo
from loratui.config.schema import RunConfig
from loratui.config.write import write_run
from loratui.dataset.scan import Picture
from loratui.errors import BaseModelError, LoratuiError, Problem, RequestError, RunError
from loratui.families.emphasis import escaped, with_trigger
from loratui.optim.spec import optimizer_spec
from loratui.plan.family_checks import check_family
from loratui.project import manifest
from loratui.project.project import Project, slug
from loratui.project.regularisation import class_pictures

if TYPE_CHECKING:
    from loratui.dataset.scan import Scan
    from loratui.families.detect import Detected
    from loratui.plan.plan import Plan
    from loratui.runs.directory import RunDir


_MOST_LISTED = 3


@dataclass(frozen=True, slots=True)
class Ready:
    """A training as it would be launched.

    Attributes:
        config: with base, family and prompts filled in.
        base: the folder or file of the base; an empty path when it was not found.
        family: name of its family, empty when unknown.
        scan: the pictures.
        plan: the arithmetic.
        problems: what keeps it from starting (errors), and what should be known.
    """

    config: RunConfig
    base: Path
    family: str
    scan: Scan
    plan: Plan
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> list[Problem]:
        """What keeps it from starting."""
        return [p for p in self.problems if p.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        """What should be known and does not stop it."""
        return [p for p in self.problems if p.severity != "error"]


def assess(project: Project, config: RunConfig, device: str | None = None, scan: Scan | None = None) -> Ready:
    """Check a training in every way that needs no torch, changing nothing on disk.

    Args:
        project: the project.
        config: resolved settings.
        device: overrides memory.device.
        scan: the project's pictures read with the same data settings, when that was done already.
    """
    from loratui.plan.plan import plan

    if device:
        config = replace(config, memory=replace(config.memory, device=device))
    if not config.model.base:
        config = replace(config, model=replace(config.model, base=project.base))
    problems = [*_errors(check(config)), *check_device(config, cuda_devices())]
    files = {"network.start_from": config.network.start_from, "model.adapter": config.model.adapter}
    for path, name in files.items():
        if name and not (project.root / Path(name).expanduser()).is_file():
            problems.append(Problem(path, "missing-file", "error", f"{name} is not there."))
    base, family = Path(), ""
    try:
        base, family, found = find_base(project, config)
        problems += found
    except LoratuiError as error:
        problems += _as_problems(error, "model.base")
    scan = scan or project.scan(config.data)
    problems += _packages(config, scan)
    if not scan.pictures:
        problems += _unusable(project, scan)
    elif scan.errors:
        count = len(scan.errors)
        message = f"{count} picture{'s' if count > 1 else ''} or folders cannot be read and are left out."
        problems.append(Problem("data", "left-out", "warning", message, advice="`loratui scan` lists them."))
    config = _filled(project, config, family, scan)
    extra: tuple[Picture, ...] = ()
    try:
        extra = class_pictures(project, config, scan.pictures)
    except LoratuiError as error:
        problems += _as_problems(error, "data.reg_dir")
    planned = plan(project, config, scan, base=base if family else None, class_pictures=extra)
    problems += planned.problems
    if scan.pictures and not planned.steps:
        problems.append(
            Problem("optimizer.steps", "no-steps", "error", "the settings give no training step.")
        )
    return Ready(config, base, family, scan, planned, tuple(problems))


def prepare(
    project: Project, config: RunConfig, device: str | None = None, scan: Scan | None = None
) -> Ready:
    """`assess`, with an error when something keeps the training from starting.

    Raises:
        RequestError: with every problem found: base, pictures, settings, device, disk.
    """
    ready = assess(project, config, device, scan)
    if ready.errors:
        raise request_error(ready.errors)
    return ready


def start_training(
    project: Project,
    config: RunConfig,
    name: str = "",
    preset: str = "",
    device: str | None = None,
    score: str = "",
    launcher: str = "",
    queue: bool = False,
    anyway: bool = False,
) -> RunDir:
    """Launch a detached training; it lives on when this process ends.

    Args:
        project: the project.
        config: resolved settings.
        name: what to call the run; the project's name when empty.
        preset: name of the preset they came from, for the record.
        device: overrides memory.device.
        score: scorer that judges pictures before and after (`demo`), or empty.
        launcher: `local` or `torchrun`; empty takes torchrun for several processes.
        queue: wait for the run that has the CPU, too; for a GPU each run waits.
        anyway: start it although the device should be too small for it.

    Raises:
        RequestError: with every problem, nothing made on disk.
        RunError: the run folder cannot be written.
        MissingPackageError: no interpreter with torch.
    """
    from loratui.project.capacity import too_small
    from loratui.runs.launch import job_python

    if launcher == "local" and config.memory.processes > 1:
        message = f"the launcher local starts one process, and memory.processes is {config.memory.processes}."
        problem = Problem(
            "memory.processes", "one-process", "error", message, advice="Use --launcher torchrun."
        )
        raise request_error([problem])
    ready = prepare(project, config, device)
    small = [] if anyway else too_small(project, ready)
    if small:
        raise request_error(small)
    spec = optimizer_spec(config.optimizer.name)
    python = job_python(spec.package if spec else "")
    return launch(project, ready, name, preset, score, python, launcher, queue=queue)


def launch(
    project: Project, ready: Ready, name: str, preset: str, score: str, python: str | None = None,
    through: str = "",
    queue: bool = False,
) -> RunDir:  # fmt: skip
    """Make the run directory of a prepared training and start its job."""
    from loratui.runs import launch as launcher
    from loratui.runs.directory import RunDir

    name = slug(name or project.name)
    try:
        run = RunDir.create(project.runs_dir, name)
    except OSError as error:
        raise _unwritable(project.runs_dir, error) from error
    info = RunInfo(
        id=run.id,
        name=name,
        project=str(project.root),
        base_path=str(ready.base),
        family=ready.family,
        preset=preset,
        trigger=project.trigger,
        steps=ready.plan.steps,
        epochs=ready.plan.epochs,
        created=datetime.datetime.now(datetime.UTC).astimezone().isoformat(timespec="seconds"),
        version=loratui.__version__,
        score=score,
        queue=queue,
    )
    try:
        write_run(run.config_path, info, ready.config)
        manifest.write(run, project, ready.config, ready.scan)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(run.path)  # made a moment ago by us, and nothing ran in it
        raise
    launcher.launch(run, "train", python=python, launcher=through)
    return run


def find_base(project: Project, config: RunConfig) -> tuple[Path, str, list[Problem]]:
    """(path, family, findings) of the base of a run.

    Raises:
        BaseModelError: it is not on this machine, or cannot be read.
    """
    from loratui.families.detect import detect, locate

    try:
        base = locate(config.model.base or project.base, project.root)
        found = detect(base)
    except OSError as failure:  # a folder without the right to look inside
        raise BaseModelError(
            f"The base model {config.model.base or project.base} cannot be read: {failure.strerror}.",
            "Check its owner and mode.",
        ) from failure
    family, problems = _family(base, found, config, project.root)
    return base, family, [*problems, *check_family(config, family, base, found)]


def _family(base: Path, found: Detected, config: RunConfig, root: Path) -> tuple[str, list[Problem]]:
    """The family to train as, and what speaks against it."""
    from loratui.families.spec import FAMILIES, family_spec

    problems = _lacking(base, found, config, root)
    wanted = config.model.family
    if wanted != "auto":
        if family_spec(wanted) is None:
            names = ", ".join(f.name for f in FAMILIES)
            message, fix = f"there is no family {wanted!r}.", {"model.family": "auto"}
            problems.append(error("model.family", "unknown-family", message, f"There are: {names}.", fix))
        elif found.family and found.family != wanted:
            message = f"the base is {found.family}, not {wanted}."
            fix = {"model.family": "auto"}
            problems.append(error("model.family", "wrong-family", message, "Use auto.", fix))
        return wanted, problems
    if not found.family and not any(p.severity == "error" for p in problems):
        message = f"{base} is not a base model of a family known here."
        problems.append(
            Problem("model.base", "unknown-base", "error", message, advice="`loratui families` lists them.")
        )
    return found.family, problems


def _lacking(base: Path, found: Detected, config: RunConfig, root: Path) -> list[Problem]:
    """What detection found; of parts that the base lacks, those that the settings do not name either."""
    from loratui.families.encoders import missing
    from loratui.families.spec import family_spec

    parts = {"no-vae": config.model.vae, "no-text": config.model.text}
    row = family_spec(found.family)
    if row is None or not row.flow:
        return [p for p in found.problems if not parts.get(p.code)]
    vae = root / Path(config.model.vae).expanduser() if config.model.vae else None
    text = [root / Path(name).expanduser() for name in config.model.text]
    return [*(p for p in found.problems if p.code not in parts), *missing(row, base, vae, text)]


def has_cuda() -> bool:
    """Whether this machine has an NVIDIA device that jobs may see."""
    return cuda_devices() > 0


def cuda_devices() -> int:
    """How many NVIDIA devices jobs may see, asked of the driver, not of torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in {"", "-1"}:
        return 0
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            count = int(pynvml.nvmlDeviceGetCount())
            return count if visible is None else min(count, len(visible.split(",")))
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no driver, or no library: NVML has its own exceptions for each
        return 0


def _packages(config: RunConfig, scan: Scan) -> list[Problem]:
    """What the settings need and this interpreter lacks; another one for jobs is asked at launch."""
    from loratui.runs.launch import named_python

    if named_python():
        return []
    return [*_optimizer_package(config), *_face_package(config, scan)]


def _face_package(config: RunConfig, scan: Scan) -> list[Problem]:
    """The detector of faces, unless the names of all files tell where they are."""
    if config.data.crop != "face":
        return []
    from loratui.dataset import faces

    if faces.can_see() or all(faces.named(p.path, p.width, p.height, p.frame) for p in scan.pictures):
        return []
    message = "faces are found by OpenCV, which is not installed, and the files' names tell of none."
    advice = f"Install it with `{sys.executable} -m pip install '{faces.PACKAGE}'`, or set it to random."
    fix = {"data.crop": "centre"}
    return [Problem("data.crop", "missing-package", "error", message, advice=advice, fix=fix)]


def _optimizer_package(config: RunConfig) -> list[Problem]:
    """The library behind the optimizer."""
    spec = optimizer_spec(config.optimizer.name)
    if spec is None or not spec.package or importlib.util.find_spec(spec.module):
        return []
    advice = f"Install it with `{sys.executable} -m pip install {spec.package}`."
    message = f"{spec.title} needs the package {spec.package}, which is not installed."
    return [Problem("optimizer.name", "missing-package", "error", message, advice=advice)]


def request_error(problems: list[Problem]) -> RequestError:
    """One error for all problems: the only one itself, or a count and the list."""
    if len(problems) == 1:
        only = problems[0]
        where = f"{only.where}: " if only.where else ""
        return RequestError(f"{where}{only.path}: {only.message}", only.advice, (only,))
    return RequestError(f"{len(problems)} problems keep the training from starting.", "", tuple(problems))


def _errors(problems: list[Problem]) -> list[Problem]:
    return [p for p in problems if p.severity == "error"]


def _as_problems(error: LoratuiError, path: str) -> list[Problem]:
    return list(error.problems) or [Problem(path, "bad-base", "error", error.message, advice=error.advice)]


def _unusable(project: Project, scan: Scan) -> list[Problem]:
    """Why there is nothing to train on: each file when they are few, else their count and the first."""
    root = str(project.root)
    if not scan.errors:
        folders = ", ".join(s.path for s in project.sources)
        message, advice = (
            f"there is no picture in {folders}.",
            f"`loratui import FOLDER {root}` copies some in.",
        )
        return [Problem(root, "no-pictures", "error", message, advice=advice)]
    if len(scan.errors) <= _MOST_LISTED:
        return list(scan.errors)
    first = scan.errors[0]
    message = f"none of {len(scan.errors)} pictures can be read; {first.path} {first.message}"
    return [Problem(root, "no-pictures", "error", message, advice=f"`loratui scan {root}` lists them all.")]


def _filled(project: Project, config: RunConfig, family: str, scan: Scan) -> RunConfig:
    """The settings with everything that the project decides written out."""
    prompts = config.samples.prompts or project.prompts
    if not prompts:
        first = scan.pictures[0].caption if scan.pictures else ""
        said = project.trigger or first or "a photo"
        prompts = (escaped(said) if config.samples.weights else said,)
    prompts = tuple(with_trigger(p, project.trigger, config.samples.weights).strip() for p in prompts)
    return replace(
        config,
        model=replace(config.model, family=family or config.model.family),
        samples=replace(config.samples, prompts=prompts),
        saving=replace(config.saving, name=slug(config.saving.name or project.name)),
    )


def _unwritable(folder: Path, error: OSError) -> RunError:
    return RunError(
        f"The run folder {folder} cannot be written: {error.strerror}.",
        "Check that the project is not read-only and the disk not full.",
    )
