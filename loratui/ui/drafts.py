"""What was changed in the form, with undo; the form as TOML and back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from loratui.config.docs import field_table, sections
from loratui.config.load import convert, full_key
from loratui.config.toml import value_text
from loratui.errors import Problem

_MOST = 500


def written(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return json.dumps(list(value), ensure_ascii=False)
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


class Draft:
    """Changes on top of a preset and the project's own settings: dotted path -> text, as `--set` takes it."""

    def __init__(self) -> None:
        self.edits: dict[str, str] = {}
        self._before: list[dict[str, str]] = []
        self._after: list[dict[str, str]] = []

    def change(self, changes: Mapping[str, str | None]) -> bool:
        """Take changes as one step of undo; None takes a change back. Whether anything is other now."""
        new = {**self.edits, **{k: v for k, v in changes.items() if v is not None}}
        for path in [k for k, v in changes.items() if v is None]:
            new.pop(path, None)
        return self.replace(new)

    def replace(self, edits: Mapping[str, str]) -> bool:
        """Other changes instead of all there are, as one step of undo."""
        if dict(edits) == self.edits:
            return False
        self._before = [*self._before[-_MOST:], self.edits]
        self._after = []
        self.edits = dict(edits)
        return True

    def undo(self) -> bool:
        """One step back; whether there was one."""
        if not self._before:
            return False
        self._after.append(self.edits)
        self.edits = self._before.pop()
        return True

    def redo(self) -> bool:
        """One step forth again; whether there was one."""
        if not self._after:
            return False
        self._before.append(self.edits)
        self.edits = self._after.pop()
        return True


def settled(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without changes of the form: a preset's values under the project's own."""
    found, table = dict(base), field_table()
    paths = {full_key(key): value for key, value in overrides.items()}
    if "optimizer.epochs" in paths:
        paths.setdefault("optimizer.steps", 0)
    for path, value in paths.items():
        with contextlib.suppress(ValueError, KeyError):  # the plan says what is wrong with it
            found[path] = convert(table[path], value)
    return found


def edits_for(wanted: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, str]:
    """The changes, as `--set` takes them, that lead from `before` to `wanted`."""
    return {path: written(value) for path, value in wanted.items() if value != before.get(path)}


_MARK = "#! "


def marked(words: str, problems: Sequence[Problem]) -> str:
    """The text with each problem as a comment under its line, or on top when it names none."""
    notes: dict[int, list[str]] = {}
    for problem in problems:
        said = " ".join(f"{problem.message} {problem.advice}".split())
        notes.setdefault(line_of(problem), []).append(f"{_MARK}{said}")
    lines = words.splitlines()
    out = list(notes.get(0, ()))
    for number, line in enumerate(lines, 1):
        out += [line, *notes.get(number, ())]
    return "\n".join(out) + "\n"


def unmarked(words: str) -> str:
    """The text without the comments that `marked` put in."""
    return "".join(f"{line}\n" for line in words.splitlines() if not line.startswith(_MARK))


def form_text(values: Mapping[str, Any], base: Mapping[str, Any], title: str) -> str:
    """All settings as TOML: what differs from the preset as it is, the rest as comments with the help."""
    lines = [
        f"# {title}",
        "# A line without # changes a setting; a # before it gives it back to the preset.",
    ]
    for section in sections():
        lines += ["", f"[{section}]"]
        for path, info in field_table().items():
            if info.section == section and path in values:
                off = "" if values[path] != base.get(path) else "# "
                about = info.help.split(". ")[0].rstrip(".")
                lines.append(f"{off}{info.key} = {value_text(values[path])}  # {about}")
    return "\n".join(lines) + "\n"


def read_form(words: str, name: str) -> tuple[dict[str, Any], list[Problem]]:
    """The settings of a TOML text, and all that is wrong with it, each with `name:line`.

    Rules across fields are not looked at: they are the plan's.
    """
    import tempfile
    from pathlib import Path

    from loratui.config.load import collect, settings_of
    from loratui.config.toml import read_toml
    from loratui.errors import ConfigError

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(words, encoding="utf-8", errors="replace")
        try:
            document = read_toml(path)
        except ConfigError as error:
            return {}, [_named(p, str(path), name) for p in error.problems]
        lines = {key: document.where(key) for key in document.lines}
        values, _, problems = collect(settings_of(document.data, str(path), lines))
    return values, [_named(p, str(path), name) for p in problems]


def _named(problem: Problem, path: str, name: str) -> Problem:
    from dataclasses import replace

    return replace(
        problem, where=problem.where.replace(path, name), message=problem.message.replace(path, name)
    )


def line_of(problem: Problem) -> int:
    """The line that a problem is about, 1-based; 0 when it names none."""
    tail = problem.where.rpartition(":")[2]
    return int(tail) if tail.isdigit() else 0
