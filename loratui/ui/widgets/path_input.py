"""An input for a path: the rest of the nearest name stands in grey, the right arrow takes it."""

from __future__ import annotations

import os
from pathlib import Path

from textual.suggester import Suggester
from textual.widgets import Input


class _Paths(Suggester):
    """Completes the last part of a path; hidden names only when they are begun."""

    def __init__(self, base: Path) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._base = base

    async def get_suggestion(self, value: str) -> str | None:
        """The first name that goes on from `value`."""
        if not value.startswith(("/", "~", ".")):
            return None
        head, _, tail = value.rpartition("/")
        folder = self._base / Path((head or "/") if value.startswith("/") else head).expanduser()
        try:
            with os.scandir(folder) as entries:
                names = sorted(
                    entry.name + ("/" if entry.is_dir() else "")
                    for entry in entries
                    if entry.name.startswith(tail) and (tail or not entry.name.startswith("."))
                )
        except OSError:
            return None
        plain = [name for name in names if name.isprintable() and name != tail]
        return f"{head}/{plain[0]}" if plain and "/" in value else None


class PathInput(Input):
    """A one-line input that completes paths."""

    def __init__(self, value: str, placeholder: str, base: Path, *, id: str | None = None) -> None:
        super().__init__(value, placeholder=placeholder, suggester=_Paths(base), id=id, compact=True)
