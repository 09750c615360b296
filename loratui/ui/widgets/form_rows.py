"""The lines of a form: headings, settings, and the values of a choice that is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loratui.config.docs import FieldInfo

_NAMES = {
    "model.adapter": "training adapter",
    "model.text": "text encoders",
    "optimizer.lr": "learning rate",
    "samples.every": "sample every",
    "saving.every": "save every",
    "saving.keep": "keep saves",
    "saving.name": "file name",
    "memory.gradient_checkpointing": "checkpointing",
    "optimizer.accumulation": "accumulation",
}
"""Where the key alone would be unclear, or too long."""


@dataclass(frozen=True)
class Group:
    """A heading in the form."""

    title: str


@dataclass(frozen=True)
class Pick:
    """A value of a choice that is open."""

    field: FieldInfo
    value: str


Line = FieldInfo | Group | Pick


def arranged(given: Sequence[FieldInfo | Group], words: str, opened: str) -> list[Line]:
    """The lines in sight.

    Args:
        given: settings under headings.
        words: settings are left out whose name, path and help have not all of these; case does not matter.
        opened: path of the choice whose values stand below it, empty for none.
    """
    wanted = words.casefold().split()
    shown: list[Line] = []
    for line in given:
        if isinstance(line, Group):
            if shown and isinstance(shown[-1], Group):
                shown.pop()
            shown.append(line)
        elif all(word in f"{label(line)} {line.path} {line.help}".casefold() for word in wanted):
            shown.append(line)
            if line.path == opened:
                shown += [Pick(line, value) for value in line.choices]
    if shown and isinstance(shown[-1], Group):
        shown.pop()
    return shown


def index_of(lines: Sequence[Line], wanted: Line) -> int | None:
    """Where a line is now, or the setting it belongs to."""
    for at, line in enumerate(lines):
        if line == wanted:
            return at
    path = wanted.field.path if isinstance(wanted, Pick) else getattr(wanted, "path", "")
    return next((at for at, line in enumerate(lines) if getattr(line, "path", " ") == path), None)


def label(field: FieldInfo) -> str:
    """The name of a setting in the form."""
    return _NAMES.get(field.path, field.key.replace("_", " "))


def plain_value(value: Any) -> str:
    """A value as it is edited."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "; ".join(str(v) for v in value)
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value)
