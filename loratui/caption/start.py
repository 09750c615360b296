"""Launch captioning: find models and pictures, report every problem at once, freeze it, start the job."""

from __future__ import annotations

import contextlib
import datetime
import difflib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import loratui
from loratui.caption.compose import check_template
from loratui.caption.engine import Picture
from loratui.caption.plan import CaptionPlan, Chosen, write_manifest, write_plan
from loratui.caption.settings import CaptionSettings
from loratui.captioners.locate import locate
from loratui.captioners.options import option_table, read_options
from loratui.captioners.protocol import Source
from loratui.captioners.spec import CAPTIONERS, ApiOptions, CaptionerSpec, TorchOptions, captioner_spec
from loratui.config.run import RunInfo
from loratui.dataset.scan import Scan
from loratui.errors import LoratuiError, MissingPackageError, Problem, RequestError
from loratui.project.history import History
from loratui.project.project import Project
from loratui.runs.directory import RunDir

_EXTRAS = {"onnxruntime": "wd"}


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
    rows = _rows(models, problems)
    settings, options = _settings(rows, dict(values or {}), problems)
    problems += check_template(settings, [row.name for row, _ in rows])
    chosen: list[Chosen] = []
    for row, model in rows:
        mine = replace(options[row.name], model=model) if model else options[row.name]
        source = Source()
        try:
            source = locate(row, mine.model)
        except (LoratuiError, OSError) as error:
            problems.append(_as_problem(f"{row.name}.model", error))
        problems += _own_problems(row, mine)
        chosen.append(Chosen(row, mine, source))
    scan = scan or project.scan()
    plan = _pictures(project, CaptionPlan(settings, tuple(chosen), ()), scan, only, problems)
    if problems:
        raise _error(problems)
    return plan


def start_captions(project: Project, plan: CaptionPlan, name: str = "") -> RunDir:
    """Launch a detached caption run; it lives on when this process ends.

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
    python = _python([c.row for c in plan.captioners])
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


def _rows(models: Sequence[str], problems: list[Problem]) -> list[tuple[CaptionerSpec, str]]:
    """(row, model) of each `NAME` or `NAME=MODEL`."""
    out: list[tuple[CaptionerSpec, str]] = []
    names = [c.name for c in CAPTIONERS]
    for text in models:
        name, _, model = text.partition("=")
        row = captioner_spec(name.strip())
        if row is None:
            near = difflib.get_close_matches(name, names, 1)
            advice = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(names)}."
            message = f"there is no captioner {name!r}."
            problems.append(Problem("model", "unknown-captioner", "error", message, advice=advice))
        elif any(row is known for known, _ in out):
            problems.append(Problem("model", "twice", "error", f"{name} is named twice."))
        else:
            out.append((row, model.strip()))
    if not models:
        problems.append(
            Problem(
                "model",
                "no-captioner",
                "error",
                "no captioner is named.",
                advice=f"There are: {', '.join(names)}.",
            )
        )
    return out


def _settings(
    rows: Sequence[tuple[CaptionerSpec, str]], values: dict[str, Any], problems: list[Problem]
) -> tuple[CaptionSettings, dict[str, Any]]:
    """The run's settings and each captioner's options; unknown and wrong values go to `problems`."""
    own = option_table(CaptionSettings)
    tables = {row.name: option_table(row.options) for row, _ in rows}
    shared: dict[str, Any] = {}
    by_name: dict[str, dict[str, Any]] = {name: {} for name in tables}
    for key, value in values.items():
        head, dot, tail = key.partition(".")
        if dot and head in tables and tail in tables[head]:
            by_name[head][tail] = value
        elif key in own:
            shared[key] = value
        elif takers := [name for name, table in tables.items() if key in table]:
            for name in takers:
                by_name[name].setdefault(key, value)
        elif rows:
            problems.append(_unknown(key, [*own, *(k for table in tables.values() for k in table)]))
    settings, wrong = read_options(CaptionSettings, shared)
    problems += [Problem(key, "bad-value", "error", text, "--set") for key, text in wrong.items()]
    options: dict[str, Any] = {}
    for row, _ in rows:
        options[row.name], wrong = read_options(row.options, by_name[row.name])
        problems += [
            Problem(f"{row.name}.{k}", "bad-value", "error", text, "--set") for k, text in wrong.items()
        ]
    return settings, options


def _unknown(key: str, known: list[str]) -> Problem:
    near = difflib.get_close_matches(key.rpartition(".")[2], known, 1, 0.6)
    advice = f"Did you mean `{near[0]}`?" if near else "`loratui captioners NAME` lists the options."
    return Problem(key, "unknown-key", "error", "no such option.", "--set", advice)


def _own_problems(row: CaptionerSpec, options: Any) -> list[Problem]:
    """What the options of one captioner say against a launch."""
    found: list[Problem] = []
    if isinstance(options, ApiOptions):
        found += _endpoint_problems(options)
    if isinstance(options, TorchOptions):
        from loratui.project.start import has_cuda

        if options.device.startswith("cuda") and not has_cuda():
            message = f"{options.device} is asked for and this machine has no CUDA device."
            found.append(
                Problem(
                    f"{row.name}.device", "no-cuda", "error", message, advice="Set device to cpu or auto."
                )
            )
    return found


def _endpoint_problems(options: ApiOptions) -> list[Problem]:
    key = "openai-api.endpoint"
    if not options.endpoint:
        message = "no server is named, and none is ever chosen for you."
        advice = "Give your own with --set endpoint=http://127.0.0.1:8000/v1."
        return [Problem(key, "not-configured", "error", message, advice=advice)]
    found = []
    if not options.endpoint.startswith(("http://", "https://")):
        message = f"{options.endpoint!r} is no address."
        found.append(
            Problem(key, "bad-value", "error", message, advice="It begins with http:// or https://.")
        )
    if not options.model:
        message = "the server wants the name of a model."
        found.append(
            Problem("openai-api.model", "no-model", "error", message, advice="Give it with --set model=NAME.")
        )
    if options.key_env and not os.environ.get(options.key_env):
        message = f"the environment variable {options.key_env} is not set."
        found.append(Problem("openai-api.key_env", "no-key", "error", message, advice="Export it first."))
    return found


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
        problems.append(_as_problem("history", error))
        pinned = set()
    if not scan.pictures:
        if scan.errors:
            problems += scan.errors
        else:
            message = "the project has no pictures."
            advice = f"`loratui import FOLDER {project.root}` copies some in."
            problems.append(Problem(str(project.root), "no-pictures", "error", message, advice=advice))
    taken: list[Picture] = []
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
            taken.append(Picture(len(taken), picture.path, picture.rel))
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


def _python(rows: Sequence[CaptionerSpec]) -> str:
    """The interpreter for these captioners.

    Raises:
        MissingPackageError: it lacks one of their packages.
    """
    from loratui.runs.launch import job_python

    needs = {package for row in rows for package in row.packages}
    if "torch" not in needs and not os.environ.get("LORATUI_PYTHON") and not _missing(needs):
        return sys.executable  # no torch needed: no interpreter that has it
    python = job_python()
    missing = _missing(needs) if Path(python) == Path(sys.executable) else []
    if missing:
        extra = next((_EXTRAS[name] for name in missing if name in _EXTRAS), "train")
        raise MissingPackageError(
            f"This captioner needs packages that are not installed: {', '.join(missing)}.",
            f"Install them with `pip install 'loratui[{extra}]'`.",
        )
    return python


def _missing(packages: set[str]) -> list[str]:
    return sorted(name for name in packages if importlib.util.find_spec(name) is None)


def _as_problem(path: str, error: Exception) -> Problem:
    message = error.message if isinstance(error, LoratuiError) else str(error)
    advice = error.advice if isinstance(error, LoratuiError) else ""
    return Problem(path, "model" if path.endswith("model") else "unreadable", "error", message, advice=advice)


def _error(problems: list[Problem]) -> RequestError:
    if len(problems) == 1:
        only = problems[0]
        message = only.message if only.path.endswith(".model") else f"{only.path}: {only.message}"
        return RequestError(message, only.advice, (only,))
    return RequestError(f"{len(problems)} problems keep the captioning from starting.", "", tuple(problems))
