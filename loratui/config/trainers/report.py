"""What became of each key of another trainer's config."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from loratui.config.docs import field_table
from loratui.config.load import convert
from loratui.errors import Problem

Kind = Literal["taken", "changed", "default", "ignored", "unknown", "wrong"]
KINDS: dict[Kind, str] = {
    "taken": "taken as it stands",
    "changed": "taken with another meaning or value",
    "default": "not in the file: that trainer's default, where ours differs",
    "ignored": "has no counterpart here",
    "unknown": "not a key of that trainer as far as is known here",
    "wrong": "a value that cannot be used",
}
_NOTHING: Any = object()
_MOST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Line:
    """One key and its fate.

    Attributes:
        kind: what became of it; see `KINDS`.
        key: as that trainer spells it; for a default, the key that is missing.
        value: what stands there, as text, shortened.
        to: our dotted path, empty when it went nowhere.
        result: our value as text, empty when it went nowhere.
        why: what differs, or why it was left out.
        where: `file:line` when known.
    """

    kind: Kind
    key: str
    value: str
    to: str = ""
    result: str = ""
    why: str = ""
    where: str = ""

    def as_dict(self) -> dict[str, str]:
        """The line as plain JSON."""
        names = ("kind", "key", "value", "to", "result", "why", "where")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        target = f" -> {self.to} = {self.result}" if self.to else ""
        given = "" if self.kind == "default" else f" = {self.value}"
        why = f" ({self.why})" if self.why else ""
        return f"{self.key}{given}{target}{why}"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of pictures that the config names.

    Attributes:
        path: as it stands there.
        repeats: how often each picture counts.
        caption: caption of pictures without one.
        regularisation: whether they are pictures of the class in general.
    """

    path: str
    repeats: int = 1
    caption: str = ""
    regularisation: bool = False


@dataclass(frozen=True, slots=True)
class Imported:
    """Another trainer's config as our settings.

    Attributes:
        trainer: `sd-scripts`, `kohya_ss`, `ai-toolkit` or `onetrainer`.
        path: the file.
        values: dotted path -> value.
        lines: what became of each key.
        folders: where the pictures lie.
        trigger: the trigger word, empty when it names none.
        name: stem of the result, empty when it names none.
    """

    trainer: str
    path: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[Line, ...] = ()
    folders: tuple[Folder, ...] = ()
    trigger: str = ""
    name: str = ""

    def count(self, kind: Kind) -> int:
        """How many keys met that fate."""
        return sum(line.kind == kind for line in self.lines)

    def as_json(self) -> dict[str, Any]:
        """What `loratui config import --json` prints."""
        return {
            "trainer": self.trainer,
            "path": str(self.path),
            "name": self.name,
            "trigger": self.trigger,
            "values": {k: list(v) if isinstance(v, tuple) else v for k, v in self.values.items()},
            "folders": [
                {
                    "path": f.path,
                    "repeats": f.repeats,
                    "caption": f.caption,
                    "regularisation": f.regularisation,
                }
                for f in self.folders
            ],
            "report": [line.as_dict() for line in self.lines],
        }


class Ledger:
    """The keys of a foreign config while they are read; each is entered once, with its fate.

    Args:
        given: flat key -> value, as parsed.
        where: `file:line` of a key.
        spelled: our reader's key -> the key as the file spells it, where they differ.
        original: the file's own keys and values, where the reader was handed translated ones.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        where: Callable[[str], str] = lambda key: "",
        spelled: Mapping[str, str] | None = None,
        original: Mapping[str, Any] | None = None,
    ) -> None:
        self._original = original or {}
        self._given = dict(given)
        self._where = where
        self._spelled = spelled or {}
        self._entered: set[str] = set()
        self.values: dict[str, Any] = {}
        self.lines: list[Line] = []

    def __contains__(self, key: str) -> bool:
        """Whether the file sets the key to something."""
        return self._given.get(key) not in (None, "")

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or the default when it is missing or empty."""
        return self._given[key] if key in self else default

    def number(self, key: str, default: float = 0.0) -> float:
        """The value as a number; what is none is entered as wrong and counts as the default."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            try:
                number = float(value)
                if number == number and abs(number) != float("inf"):
                    return number
            except (TypeError, ValueError, OverflowError):
                pass
        self.wrong(key, "wants a number")
        return default

    def truth(self, key: str) -> bool:
        """The value as yes or no; `"true"` and 1 count too."""
        value = self.get(key, False)
        return value.strip().lower() in {"true", "yes", "on", "1"} if isinstance(value, str) else bool(value)

    def text(self, key: str) -> str:
        """The value as text, empty when it is missing or none."""
        value = self.get(key, "")
        return value if isinstance(value, str) else "" if isinstance(value, (dict, list)) else str(value)

    def done(self, key: str) -> bool:
        """Whether the key has been entered."""
        return key in self._entered

    def take(self, key: str, to: str, value: Any = _NOTHING, why: str = "") -> None:
        """Enter a key that becomes a setting of ours; with `why`, one whose meaning changes."""
        given = self._given.get(key)
        raw = given if value is _NOTHING else value
        if isinstance(raw, (int, float)) and not isinstance(raw, bool) and field_table()[to].kind in {
            "str", "choice"
        }:  # fmt: skip
            raw = f"{raw:g}" if isinstance(raw, float) else str(raw)
        try:
            self.values[to] = convert(field_table()[to], raw)
        except ValueError as error:
            self.wrong(key, str(error))
            return
        kind: Kind = "changed" if why else "taken"
        self._enter(kind, key, to, shown(self.values[to]), why)

    def also(self, to: str, value: Any) -> None:
        """Set a further setting that an entered key implies; a value out of range is left out."""
        try:
            self.values[to] = convert(field_table()[to], value)
        except ValueError:
            return

    def default(self, key: str, to: str, value: Any) -> None:
        """Enter a missing key whose default in that trainer differs from ours."""
        if key in self or to in self.values or value == field_table()[to].default:
            return
        self.values[to] = convert(field_table()[to], value)
        spelled = self._spelled.get(key, key)
        self.lines.append(Line("default", spelled, "", to, shown(self.values[to])))

    def ignore(self, key: str, why: str = "") -> None:
        """Enter a key that has no counterpart here."""
        self._enter("ignored", key, why=why)

    def fine(self, key: str, why: str) -> None:
        """Enter a key that asks for what happens here anyhow."""
        self._enter("taken", key, why=why)

    def wrong(self, key: str, why: str) -> None:
        """Enter a key whose value cannot be used."""
        self._enter("wrong", key, why=why)

    def rest(self, known: Mapping[str, str], others: Collection[str] = ()) -> None:
        """Enter all that is left: known keys as ignored with their reason, the others as unknown.

        Args:
            known: keys without counterpart -> why.
            others: further keys of that trainer, for `did you mean`.
        """
        names = [*known, *others, *self._entered]
        for key, value in self._given.items():
            if key in self._entered:
                continue
            unset = value in (None, "", False, 0, [], {})
            if key in known or (key in names and unset):
                self._enter("ignored", key, why="" if unset else known[key])
            else:
                near = difflib.get_close_matches(key, names, 1, 0.8)
                self._enter("unknown", key, why=f"did you mean {near[0]}?" if near else "")

    def _enter(self, kind: Kind, key: str, to: str = "", result: str = "", why: str = "") -> None:
        if key in self._entered:
            return
        self._entered.add(key)
        spelled = self._spelled.get(key, key)
        given = self._original.get(spelled, self._given.get(key))
        self.lines.append(Line(kind, spelled, shown(given), to, result, why, self._where(spelled)))


def shown(value: Any) -> str:
    """A value as short text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        text = "[" + ", ".join(shown(v) for v in value[:20]) + "]"
    elif isinstance(value, float):
        text = f"{value:g}"
    else:
        text = "" if value is None else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def problems(lines: Iterable[Line]) -> list[Problem]:
    """The wrong values as problems."""
    return [
        Problem(line.key, "bad-value", "warning", f"{line.why}; it stands at {line.value}.", line.where)
        for line in lines
        if line.kind == "wrong"
    ]
