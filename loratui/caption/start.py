"""Launch captioning: find models and pictures, report every problem at once, freeze it, start the job."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import loratui
from loratui.caption.choosing import all_problems, as_problem, chosen_of, interpreter
from loratui.caption.engine import Picture
from loratui.caption.plan import CaptionPlan, write_manifest, write_plan
from loratui.config.run import RunInfo
from loratui.dataset.scan import Scan
from loratui.errors import LoratuiError, Problem, RequestError
from loratui.project.history import History
from loratui.project.project import Project
from loratui.runs.directory import RunDir


def prepare_captions(
    project: Project,
    models: Sequence[str],
    values: Mapping[str, Any] | None = None,
    only: Callable[[Path], bool] | None = None,
    scan: Scan | None = None,
) -> CaptionPlan:
    """Check a caption run in every way that needs no torch, changing nothing on disk.

    Args:
        project: the project.
        models: captioners by name, each may name its weights: `blip`, `blip=/models/blip-large`.
        values: settings and options by key, raw; `wd.top_k` where several captioners take `top_k`.
        only: takes the path of a picture; False leaves it out.
        scan: the project's pictures, when they were read already.

    Raises:
        RequestError: with every problem.
    """
    problems: list[Problem] = []
    settings, chosen = chosen_of(models, dict(values or {}), problems)
    scan = scan or project.scan()
    plan = _pictures(project, CaptionPlan(settings, chosen, ()), scan, only, problems)
    if problems:
        raise all_problems(problems)
    return plan


def start_captions(project: Project, plan: CaptionPlan, name: str = "", queue: bool = False) -> RunDir:
    """Launch a detached caption run; it lives on when this process ends.

    Args:
        project: the project.
        plan: captioners, settings and pictures.
        name: what to call the run.
        queue: wait for the run that has the CPU, too; for a GPU each run waits.

    Raises:
        RequestError: nothing to caption.
        RunError: the run folder cannot be written.
        MissingPackageError: no interpreter with what the captioners need.
    """
    from loratui.runs import launch as launcher

    if not plan.pictures:
        raise RequestError(
            nothing_to_do(plan), "Choose the mode replace, append or prepend to change captions."
        )
    python = interpreter([c.row for c in plan.captioners])
    run = RunDir.create(project.runs_dir, name or f"caption-{plan.name}")
    folders = [c.source.weights or c.source.folder for c in plan.captioners]
    info = RunInfo(
        id=run.id,
        name=name or f"caption-{plan.name}",
        job="caption",
        project=str(project.root),
        base_path=str(next((f for f in folders if f), "")),
        family=plan.name,
        trigger=project.trigger,
        steps=len(plan.pictures),
        created=datetime.datetime.now(datetime.UTC).astimezone().isoformat(timespec="seconds"),
        version=loratui.__version__,
        queue=queue,
    )
    try:
        write_plan(run.path, info, plan)
        write_manifest(run.path, plan.pictures)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(run.path)  # made a moment ago by us, and nothing ran in it
        raise
    launcher.launch(run, "caption", python=python)
    return run


def nothing_to_do(plan: CaptionPlan) -> str:
    """One sentence on why no picture is left to caption."""
    parts = []
    if plan.captioned:
        parts.append(f"{plan.captioned} have a caption already")
    if plan.pinned:
        parts.append(f"{plan.pinned} were captioned by hand")
    if plan.other:
        parts.append(f"{plan.other} were left out")
    return f"No picture to caption: {', '.join(parts) or 'there is none'}."


def _pictures(
    project: Project,
    plan: CaptionPlan,
    scan: Scan,
    only: Callable[[Path], bool] | None,
    problems: list[Problem],
) -> CaptionPlan:
    """The plan with its pictures: those the mode wants, without pinned ones, one for each caption file."""
    from loratui.dataset.sidecar import caption_path

    try:
        pinned = History(project.root).pinned()
    except LoratuiError as error:
        problems.append(as_problem("history", error))
        pinned = set()
    if not scan.pictures:
        if scan.errors:
            problems += scan.errors
        else:
            message = "the project has no pictures."
            advice = f"`loratui import FOLDER {project.root}` copies some in."
            problems.append(Problem(str(project.root), "no-pictures", "error", message, advice=advice))
    taken: list[Picture] = []
    paper = project.paper
    seen: set[Path] = set()
    counts = {"pinned": 0, "captioned": 0, "other": 0}
    for picture in scan.pictures:
        path = picture.caption_path or caption_path(picture.path)
        has = picture.caption_path is not None and bool(picture.caption)
        if (only is not None and not only(picture.path)) or path in seen:
            counts["other"] += 1
        elif path in pinned:
            counts["pinned"] += 1
        elif plan.settings.mode == "missing" and has:
            counts["captioned"] += 1
        else:
            taken.append(Picture(len(taken), picture.path, picture.rel, picture.frame, paper))
        seen.add(path)
    locked = sorted({str(p.path.parent) for p in taken if not os.access(p.path.parent, os.W_OK | os.X_OK)})
    problems += [
        Problem(
            folder,
            "read-only",
            "error",
            "captions cannot be written there.",
            advice="Check its owner and mode.",
        )
        for folder in locked
    ]
    return replace(
        plan,
        pictures=tuple(taken),
        pinned=counts["pinned"],
        captioned=counts["captioned"],
        other=counts["other"],
    )
