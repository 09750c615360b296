"""Where each tag of a caption comes from, read out of the history."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratui.dataset.tags import fold, split_caption
from loratui.project.history import History


@dataclass(frozen=True, slots=True)
class Origin:
    """The step that brought a tag in.

    Attributes:
        entry: its number; 0 for tags that were there before the history began.
        time: unix time, 0 when unknown.
        actor: who, as the history keeps it; empty when unknown.
        label: what was done.
    """

    entry: int = 0
    time: float = 0.0
    actor: tuple[tuple[str, Any], ...] = ()
    label: str = ""


IMPORTED = Origin()


def provenance(history: History, caption: Path) -> dict[str, Origin]:
    """Tag (case-folded) -> the step that brought it in, for the caption as the history last left it.

    A tag that was removed and added again counts from the last time; undo gives it its old origin back.
    """
    known: dict[bytes | None, dict[str, Origin]] = {}
    now: dict[str, Origin] = {}
    for step in history.of(caption):
        old = known.setdefault(step.before, dict.fromkeys(_tags(step.before), IMPORTED))
        entry = step.entry
        returns = entry.undoes or entry.redoes
        if returns and step.after in known:
            now = known[step.after]
            continue
        origin = Origin(entry.id, entry.time, tuple(sorted(entry.actor.items())), entry.label)
        now = {tag: old.get(tag, origin) for tag in _tags(step.after)}
        known[step.after] = now
    return now


def _tags(data: bytes | None) -> list[str]:
    if data is None:
        return []
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")
    return [fold(tag) for tag in split_caption(text.replace("\r", "\n"))]
