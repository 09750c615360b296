"""Draw more samples from a run's checkpoints: other prompts, strengths, bases, LoRAs beside, embeddings.

What is wanted is checked without torch, every problem at once, and frozen in a run directory of its own
(`drawing.json`, and the LoRA files linked in, as a live run may prune its checkpoints); `jobs/sample.py`
draws.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import loratui
from loratui.config.load import load_run
from loratui.config.run import RunInfo
from loratui.config.schema import RunConfig
from loratui.config.write import write_run
from loratui.errors import LoratuiError, Problem, RequestError, RunError
from loratui.project.start import request_error
from loratui.runs.directory import RunDir
from loratui.runs.status import status

NAME = "drawing.json"
STRONGEST = 10.0
_MOST = 2000
"""Pictures of one run: more is a mistake, as a rule."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A LoRA that is put in as well."""

    path: Path
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A LoRA file of the source run and the step it is of."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class DrawPlan:
    """What is to be drawn: every prompt with every checkpoint at every strength.

    Attributes:
        source: the run whose checkpoints these are.
        info: its identity.
        config: its settings, changed to what is wanted.
        checkpoints: in order.
        strengths: of the source's LoRA, in order; 0 is the base.
        base: folder or file.
        family: of the base.
        beside: other LoRAs.
        embeddings: files whose names the prompts may use.
    """

    source: RunDir
    info: RunInfo
    config: RunConfig
    checkpoints: tuple[Checkpoint, ...]
    strengths: tuple[float, ...]
    base: Path
    family: str
    beside: tuple[Beside, ...] = ()
    embeddings: tuple[Path, ...] = ()

    @property
    def count(self) -> int:
        """How many pictures that makes; strength 0 is drawn once, not once a checkpoint."""
        with_lora = sum(1 for s in self.strengths if s) * len(self.checkpoints)
        return (with_lora + (0.0 in self.strengths)) * len(self.config.samples.prompts)


def available(run: RunDir) -> list[Checkpoint]:
    """Checkpoints of a run whose LoRA file is there, oldest first."""
    found = []
    for path in run.checkpoints_dir.glob("step-*/lora.safetensors"):
        number = path.parent.name.removeprefix("step-")
        if number.isdecimal():
            found.append(Checkpoint(int(number), path))
    return sorted(found, key=lambda c: c.step)


def prepare(
    run: RunDir,
    prompts: Sequence[str] = (),
    checkpoints: Sequence[str] = (),
    strengths: Sequence[float] = (1.0,),
    base: str = "",
    loras: Sequence[str] = (),
    embeddings: Sequence[str] = (),
    seed: int | None = None,
    cwd: Path | None = None,
) -> DrawPlan:
    """Check what is wanted, changing nothing on disk.

    Args:
        run: the source.
        prompts: to draw; those of the run when empty.
        checkpoints: steps, `last` or `all`; the newest when empty.
        strengths: of the run's LoRA.
        base: another base of the same family; the run's own when empty.
        loras: `FILE` or `FILE:STRENGTH`, put in beside.
        embeddings: textual-inversion files.
        seed: of the first prompt; the run's when None.
        cwd: what file names are relative to.

    Raises:
        RequestError: with every problem.
        RunError, ConfigError: the run cannot be read.
    """
    if not run.exists():
        raise RunError(f"{run.path} is not a run.", "`loratui runs` lists the runs of a project.")
    info, config = load_run(run.config_path)
    if info.job == "sample":
        origin = RunDir(run.path.parent / str(read(run).get("source", "")))
        if not origin.exists():
            raise RunError(f"{run.id} drew from a run that is gone.", "Choose a training.")
        return prepare(origin, prompts, checkpoints, strengths, base, loras, embeddings, seed, cwd)
    if info.job != "train":
        raise RunError(f"{run.id} is no training: it has no checkpoints.", "Choose a training.")
    problems: list[Problem] = []
    here = cwd or Path.cwd()
    chosen = _checkpoints(run, checkpoints, problems)
    wanted = _prompts(run, info, config, prompts, problems)
    steps = tuple(dict.fromkeys(float(s) for s in strengths))
    if not steps or not all(math.isfinite(s) and abs(s) <= STRONGEST for s in steps):
        message = f"strengths are numbers from -{STRONGEST:g} to {STRONGEST:g}, separated by commas."
        problems.append(Problem("--strengths", "bad-strength", "error", message))
    path, family = _base(info, base, here, problems)
    beside = tuple(b for text in loras if (b := _beside(text, here, problems)) is not None)
    files = tuple((here / Path(text).expanduser()).absolute() for text in embeddings)
    _check_files([*(c.path for c in chosen[:1]), *(b.path for b in beside)], files, family, config, problems)
    config = replace(
        config,
        samples=replace(config.samples, prompts=wanted, seed=config.samples.seed if seed is None else seed),
        memory=replace(config.memory, base_weights="full", blocks_to_swap=0, processes=1, compile=False),
        model=replace(config.model, base=base or config.model.base),
    )
    plan = DrawPlan(run, info, config, tuple(chosen), steps, path, family, beside, files)
    if plan.count > _MOST:
        message = f"that makes {plan.count:,} pictures, more than {_MOST:,}."
        problems.append(Problem("--strengths", "too-many", "error", message))
    if problems:
        raise _all(problems)
    return plan


def start(plan: DrawPlan, name: str = "", queue: bool = False) -> RunDir:
    """Launch the drawing as a detached run; it lives on when this process ends.

    Raises:
        RunError: the run folder cannot be written.
        MissingPackageError: no interpreter with torch.
    """
    from loratui.runs import launch as launcher

    python = launcher.job_python()
    now = datetime.datetime.now(datetime.UTC).astimezone().isoformat(timespec="seconds")
    name = name or f"more-{plan.source.name}"
    run = RunDir.create(plan.source.path.parent, name)
    info = RunInfo(
        id=run.id, name=name, job="sample", project=str(plan.source.path.parent.parent),
        base_path=str(plan.base), family=plan.family, preset=plan.info.preset, trigger=plan.info.trigger,
        steps=plan.count, created=now, version=loratui.__version__, queue=queue,
    )  # fmt: skip
    try:
        write_run(run.config_path, info, plan.config)
        document = _document(run, plan)
        (run.path / NAME).write_text(json.dumps(document, indent=1), encoding="utf-8")
    except OSError as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(run.path)  # made a moment ago by us, and nothing ran in it
        raise RunError(
            f"The run folder {run.path} cannot be written: {error.strerror or error}.", "Free some space."
        ) from error
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(run.path)
        raise
    launcher.launch(run, "sample", python=python)
    return run


def read(run: RunDir) -> dict[str, Any]:
    """The drawing.json of a run.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        found = json.loads((run.path / NAME).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{run.path / NAME} cannot be read: {error}.", "Start the drawing again.") from error
    if not isinstance(found, dict):
        raise RunError(f"{run.path / NAME} holds no drawing.", "Start the drawing again.")
    return found


def _document(run: RunDir, plan: DrawPlan) -> dict[str, Any]:
    """What the job reads; the files of the source are linked into the run."""
    folder = run.path / "loras"
    folder.mkdir()
    kept = []
    for checkpoint in plan.checkpoints:
        target = folder / f"step-{checkpoint.step:06d}.safetensors"
        try:
            os.link(checkpoint.path, target)
        except OSError:
            shutil.copyfile(checkpoint.path, target)
        kept.append({"step": checkpoint.step, "path": target.relative_to(run.path).as_posix()})
    return {
        "source": plan.source.id,
        "checkpoints": kept,
        "strengths": list(plan.strengths),
        "beside": [{"path": str(b.path), "strength": b.strength} for b in plan.beside],
        "embeddings": [str(path) for path in plan.embeddings],
    }


def _checkpoints(run: RunDir, wanted: Sequence[str], problems: list[Problem]) -> list[Checkpoint]:
    there = available(run)
    if not there:
        message = f"the run {run.id} has no checkpoint yet."
        problems.append(Problem("--checkpoint", "no-checkpoint", "error", message))
        return []
    found: list[Checkpoint] = []
    for text in wanted or ["last"]:
        if text == "all":
            found += there
        elif text == "last":
            found.append(there[-1])
        elif match := [c for c in there if str(c.step) == text.strip()]:
            found += match
        else:
            steps = ", ".join(str(c.step) for c in there[-12:])
            message = f"there is no checkpoint {text!r}."
            advice = f"There are: {steps}; or last, or all."
            problems.append(Problem("--checkpoint", "no-checkpoint", "error", message, advice=advice))
    return list(dict.fromkeys(found))


def _prompts(
    run: RunDir, info: RunInfo, config: RunConfig, given: Sequence[str], problems: list[Problem]
) -> tuple[str, ...]:
    asked = [p for p in given if p.strip()]
    if not asked:
        with contextlib.suppress(LoratuiError):
            asked = list(status(run).prompts)
    asked = asked or list(config.samples.prompts)
    if not asked:
        problems.append(Problem("--prompt", "no-prompt", "error", "there is no prompt to draw."))
    return tuple(p.replace("{trigger}", info.trigger).strip() for p in asked)


def _base(info: RunInfo, base: str, here: Path, problems: list[Problem]) -> tuple[Path, str]:
    from loratui.families.detect import detect, locate

    try:
        path = locate(base, here) if base else Path(info.base_path)
        found = detect(path)
    except (LoratuiError, OSError) as error:
        advice = getattr(error, "advice", "")
        problems.append(Problem("--base", "bad-base", "error", str(error), advice=advice))
        return Path(), info.family
    wrong = [p for p in found.problems if p.severity == "error"]
    problems += wrong
    if not wrong and found.family != info.family:
        message = f"the base is {found.family or 'of an unknown family'}, and the LoRA is for {info.family}."
        problems.append(Problem("--base", "wrong-family", "error", message))
    return path, info.family


def _beside(text: str, here: Path, problems: list[Problem]) -> Beside | None:
    """`FILE:STRENGTH`; a colon that no number follows belongs to the name."""
    name, colon, number = text.rpartition(":")
    try:
        strength = float(number) if colon else 1.0
    except ValueError:
        name, colon, strength = text, "", 1.0
    path = (here / Path(name if colon else text).expanduser()).absolute()
    if not math.isfinite(strength) or abs(strength) > STRONGEST:
        message = f"{text}: a strength is a number from -{STRONGEST:g} to {STRONGEST:g}."
        problems.append(Problem("--lora", "bad-strength", "error", message))
        return None
    return Beside(path, strength)


def _check_files(
    loras: Sequence[Path], embeddings: Sequence[Path], family: str, config: RunConfig, problems: list[Problem]
) -> None:
    from loratui.weights.embedding_files import open_embedding
    from loratui.weights.updates import open_lora

    if config.network.kind == "oft":
        message = "an OFT can only be computed by PEFT: no strength, base or LoRA beside it can be tried."
        problems.append(Problem("network.kind", "not-drawn", "error", message))
        loras = loras[1:]
    if config.network.tokens_only:
        loras = loras[1:]
    for path in loras:
        try:
            opened = open_lora(path)
            if opened.family != family:
                message = f"{path} is for {opened.family}, and the base is {family}."
                problems.append(Problem("--lora", "wrong-family", "error", message))
        except LoratuiError as error:
            problems.append(Problem("--lora", "bad-lora", "error", error.message, advice=error.advice))
    for path in embeddings:
        try:
            open_embedding(path, family)
        except LoratuiError as error:
            problems.append(
                Problem("--embedding", "bad-embedding", "error", error.message, advice=error.advice)
            )


def _all(problems: list[Problem]) -> RequestError:
    if len(problems) == 1:
        return request_error(problems)
    return RequestError(f"{len(problems)} problems keep it from being drawn.", "", tuple(problems))
