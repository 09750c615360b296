"""The `[run]` table of run.toml: what a run is, beside its settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from loratui.config.toml import Document
from loratui.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Identity of a run and what launch time decided.

    Attributes:
        id: name of the run directory.
        name: what the user called it.
        job: module of `loratui.jobs` that runs it.
        project: absolute path of the project folder.
        base_path: the base, as an absolute path.
        family: resolved family name.
        preset: name of the preset, empty for none.
        trigger: the project's trigger.
        steps: optimizer steps of the whole run.
        epochs: passes over the repeated data set that these steps make, rounded up.
        created: ISO 8601 time with offset.
        version: of loratui.
        score: scorer that judges pictures before and after (`demo`), empty for none.
        queue: whether it waits its turn on the CPU, too.
    """

    id: str = ""
    name: str = ""
    job: str = "train"
    project: str = ""
    base_path: str = ""
    family: str = ""
    preset: str = ""
    trigger: str = ""
    steps: int = 0
    epochs: int = 0
    created: str = ""
    version: str = ""
    score: str = ""
    queue: bool = False


def read_info(document: Document) -> RunInfo:
    """The `[run]` table of a run.toml; unknown keys are left out, missing ones keep their default.

    Raises:
        ConfigError: no `[run]` table, or a value of the wrong type.
    """
    table = document.data.get("run")
    if not isinstance(table, dict):
        raise ConfigError(
            f"{document.path} has no [run] table.", "This is not the run.toml of a run directory."
        )
    hints = get_type_hints(RunInfo)
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for f in fields(RunInfo):
        if f.name not in table:
            continue
        value = table[f.name]
        if type(value) is not hints[f.name]:
            message = f"wants {hints[f.name].__name__}, not {type(value).__name__}."
            problems.append(
                Problem(f"run.{f.name}", "bad-value", "error", message, document.where(f"run.{f.name}"))
            )
        else:
            values[f.name] = value
    if problems:
        raise ConfigError(str(problems[0]), "The run directory may be damaged.", tuple(problems))
    return RunInfo(**values)
