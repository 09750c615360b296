"""Pictures that look the same and are no duplicates, as a person said: notes in the project's history.

Each picture of such a set keeps the name of the set and its own hash, so that the saying lapses when the
picture becomes another, and a picture that comes later is still found to look like them.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from loratui.project.history import Actor, History, NoteChange, Outcome

APART = "apart"


def read_apart(history: History) -> dict[Path, dict[str, int]]:
    """Picture -> name of each set it is in -> its hash when that was said; unreadable ones left out."""
    out: dict[Path, dict[str, int]] = {}
    for path, value in history.notes(APART).items():
        if isinstance(value, Mapping):
            out[path] = {str(name): int(h, 16) for name, h in value.items() if _is_hash(h)}
    return out


def set_apart(history: History, hashes: Mapping[Path, int]) -> Outcome:
    """Say that these are no duplicates of each other, as one step.

    Args:
        history: of the project.
        hashes: picture -> its perceptual hash.

    Raises:
        DatasetError: the history cannot be written.
        LockedError: another process holds it.
    """
    if len(hashes) < 2:
        return Outcome()
    keys = "\0".join(sorted(map(history.key, hashes)))
    name = sha256(keys.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    before = read_apart(history)
    notes = []
    for path, phash in hashes.items():
        sets = {**before.get(path, {}), name: phash}
        notes.append(NoteChange(path, APART, {n: f"{h:016x}" for n, h in sets.items()}))
    return history.commit((), Actor("hand"), f"{len(hashes)} pictures are no duplicates", notes)


def _is_hash(value: object) -> bool:
    try:
        return isinstance(value, str) and int(value, 16) >= 0
    except ValueError:
        return False
