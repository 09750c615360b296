"""The log of the watched run: newest below, by level, searched, followed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from loratui.ui import text
from loratui.ui.titles import set_title
from loratui.ui.widgets.log_view import LogLine, LogView

LEVELS: tuple[tuple[str, frozenset[str]], ...] = (
    ("all", frozenset()),
    ("warnings and errors", frozenset({"warning", "error"})),
    ("errors", frozenset({"error"})),
)


class LogPanel(LogView):
    """`f` changes the level, `/` searches, `n` and `N` go from hit to hit, `G` follows again."""

    TITLE: ClassVar[str] = "log"

    def __init__(self) -> None:
        super().__init__(id="log")
        self.add_class("panel")
        self.border_title = self.TITLE
        self._all: Sequence[LogLine] = ()
        self._total = 0
        self._level = 0
        self.needle = ""
        self._words = ""
        self._shown: tuple[int, int, int] | None = None

    def update(self, lines: Sequence[LogLine], total: int) -> None:
        """Show these lines; `total` counts all there ever were."""
        mark = (id(lines), total, self._level)
        if mark == self._shown:
            return
        self._all, self._total, self._shown = lines, total, mark
        levels = LEVELS[self._level][1]
        if levels:
            lines = [line for line in lines if line.level in levels]
        self.empty = (
            f"No {LEVELS[self._level][0].replace(' and ', ' or ')}; f shows all lines." if levels else ""
        )
        self.show(lines, total * 8 + self._level)
        self.mark(self.needle)
        self._title()

    def next_level(self) -> None:
        """All, warnings and errors, errors, and again."""
        self._level = (self._level + 1) % len(LEVELS)
        self.following = True
        self.update(self._all, self._total)

    def search(self, needle: str) -> int:
        """Mark what holds `needle`, go to the newest hit; returns how many lines hold it."""
        self.needle = needle.strip().casefold()
        hits = self.mark(self.needle)
        if hits:
            self.go_to_hit(-1, newest=True)
        self._title()
        return len(hits)

    def _title(self) -> None:
        parts: list[str] = [self.TITLE]
        if self._level:
            parts.append(LEVELS[self._level][0])
        if self.needle:
            parts.append(f"/{text.crop(text.plain(self.needle), 20)}: {len(self.hits)}")
        parts.append("follow" if self.following else "G follows")
        words = " · ".join(parts)
        if words != self._words:
            self._words = words
            set_title(self, words)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Following may have stopped or begun again."""
        super().watch_scroll_y(old_value, new_value)
        self._title()
