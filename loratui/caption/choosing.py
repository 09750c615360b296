"""From names and values to captioners with options and weights: every problem at once, nothing loaded."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loratui.caption.compose import check_template
from loratui.caption.plan import Chosen
from loratui.caption.settings import CaptionSettings
from loratui.captioners.locate import locate
from loratui.captioners.options import option_table, read_options
from loratui.captioners.protocol import Source
from loratui.captioners.spec import CAPTIONERS, ApiOptions, CaptionerSpec, TorchOptions, captioner_spec
from loratui.errors import LoratuiError, MissingPackageError, Problem, RequestError

_EXTRAS = {"onnxruntime": "wd"}


def choose(
    models: Sequence[str], values: Mapping[str, Any] | None = None
) -> tuple[CaptionSettings, tuple[Chosen, ...]]:
    """Settings and captioners of a run or of a try; see `prepare_captions`.

    Raises:
        RequestError: with every problem.
    """
    problems: list[Problem] = []
    settings, chosen = chosen_of(models, dict(values or {}), problems)
    if problems:
        raise all_problems(problems)
    return settings, chosen


def chosen_of(
    models: Sequence[str], values: dict[str, Any], problems: list[Problem]
) -> tuple[CaptionSettings, tuple[Chosen, ...]]:
    """Settings and captioners; what is wrong goes to `problems`."""
    rows = _rows(models, problems)
    settings, options = _settings(rows, values, problems)
    problems += check_template(settings, [row.name for row, _ in rows])
    chosen: list[Chosen] = []
    for row, model in rows:
        mine = replace(options[row.name], model=model) if model else options[row.name]
        source = Source()
        try:
            source = locate(row, mine.model)
        except (LoratuiError, OSError) as error:
            problems.append(as_problem(f"{row.name}.model", error))
        problems += _own_problems(row, mine)
        chosen.append(Chosen(row, mine, source))
    return settings, tuple(chosen)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a captioner could start now.

    Attributes:
        ready: nothing is missing.
        where: folder or file of its weights; empty when they are not here or none are needed.
        problem: what is missing, one sentence.
        advice: the command that fetches it, or the folder to copy it into.
    """

    ready: bool
    where: str = ""
    problem: str = ""
    advice: str = ""


def readiness(row: CaptionerSpec, model: str = "", options: Any = None) -> Readiness:
    """What a captioner still needs on this machine; packages are those of this interpreter unless another one
    is named for jobs.

    Args:
        row: the captioner.
        model: folder, file or Hub id; empty for its default.
        options: its options, where they decide (the server's address).
    """
    try:
        source = locate(row, model)
    except (LoratuiError, OSError) as error:
        advice = error.advice if isinstance(error, LoratuiError) else ""
        return Readiness(False, "", error.message if isinstance(error, LoratuiError) else str(error), advice)
    where = str(source.weights or source.folder or "")
    own = _own_problems(row, options if options is not None else row.options())
    if own:
        return Readiness(False, where, f"{own[0].message[:1].upper()}{own[0].message[1:]}", own[0].advice)
    try:
        interpreter([row], quick=True)
    except LoratuiError as error:
        return Readiness(False, where, error.message, error.advice)
    return Readiness(True, where)


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


def interpreter(rows: Sequence[CaptionerSpec], quick: bool = False) -> str:
    """The interpreter for these captioners.

    Args:
        rows: the captioners.
        quick: start no other interpreter to ask what it has.

    Raises:
        MissingPackageError: it lacks one of their packages.
    """
    from loratui.runs.launch import job_python, named_python

    needs = {package for row in rows for package in row.packages}
    if "torch" not in needs and not os.environ.get("LORATUI_PYTHON") and not _missing(needs):
        return sys.executable  # no torch needed: no interpreter that has it
    if quick and named_python():
        return ""
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


def as_problem(path: str, error: Exception) -> Problem:
    """An error as a problem of the thing at `path`."""
    message = error.message if isinstance(error, LoratuiError) else str(error)
    advice = error.advice if isinstance(error, LoratuiError) else ""
    return Problem(path, "model" if path.endswith("model") else "unreadable", "error", message, advice=advice)


def all_problems(problems: list[Problem]) -> RequestError:
    """One error for all of them."""
    if len(problems) == 1:
        only = problems[0]
        message = only.message if only.path.endswith(".model") else f"{only.path}: {only.message}"
        return RequestError(message, only.advice, (only,))
    return RequestError(f"{len(problems)} problems keep the captioning from starting.", "", tuple(problems))
