"""`plan --fix`: the `--set` that mend what the rules find and are sure of."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loratui.cli.output import Output
from loratui.cli.training import tell_problems

if TYPE_CHECKING:
    from loratui.errors import Problem
    from loratui.project.project import Project

_ROUNDS = 6
"""A repair may bring out another problem."""


def run_fix(args: argparse.Namespace, project: Project, out: Output) -> int:
    """Print the changes, why each is made, and what is left; exit 2 when an error is left."""
    from loratui.config.presets import parse_set

    changes, reasons, left = mend(project, args.preset, parse_set(args.settings))
    errors = [p for p in left if p.severity == "error"]
    out.document(
        {
            "changes": {k: list(v) if isinstance(v, tuple) else v for k, v in changes.items()},
            "mended": [p.as_dict() for p in reasons],
            "problems": [p.as_dict() for p in left],
        }
    )
    for problem in reasons:
        out.line(f"{problem.path}: {problem.message}")
    if not changes:
        out.line("Nothing here has a sure repair." if left else "Nothing is wrong.")
    else:
        out.line()
        pairs = (shlex.quote(f"{path}={_written(value)}") for path, value in changes.items())
        out.line(" ".join(f"--set {pair}" for pair in pairs))
    tell_problems(left, out)
    return 2 if errors else 0


def mend(
    project: Project, preset: str | None, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Problem], list[Problem]]:
    """(changes, the problems they mend, what is left) of settings."""
    from loratui.config.load import mended

    changes: dict[str, Any] = {}
    reasons: list[Problem] = []
    found: list[Problem] = []
    for _ in range(_ROUNDS):
        found = _problems(project, preset, {**overrides, **changes})
        more = {k: v for k, v in mended(found).items() if k not in changes}
        if not more:
            break
        reasons += [p for p in found if any(path in more for path in p.fix)]
        changes |= more
    return changes, reasons, found


def _problems(project: Project, preset: str | None, overrides: Mapping[str, Any]) -> list[Problem]:
    """All that is wrong with settings, refused or not."""
    from loratui.errors import ConfigError
    from loratui.project.capacity import too_small
    from loratui.project.start import assess

    try:
        config = project.resolve(preset, overrides)
    except ConfigError as error:
        if not any(p.fix for p in error.problems):
            raise
        return list(error.problems)
    ready = assess(project, config)
    return [*ready.problems, *too_small(project, ready)]


def _written(value: Any) -> str:
    import json

    if isinstance(value, (list, tuple)):
        return json.dumps(list(value))
    return str(value).lower() if isinstance(value, bool) else str(value)
