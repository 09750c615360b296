"""The queue of this machine: what works on a device, and what waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical

from loratui.ui import figures, text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.line_list import LineList

if TYPE_CHECKING:
    from loratui.runs.queue import Entry, Holder

_MOST = 8


class QueuePanel(Vertical):
    """A line for each waiting run, under those for the runs that have a device; gone when nothing waits."""

    DEFAULT_CSS = """
    QueuePanel { height: auto; max-height: 10; display: none; padding: 0; }
    QueuePanel.-shown { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(id="queue-panel", classes="panel")
        self.holders: list[Holder] = []
        self.entries: list[Entry] = []
        self.now = 0.0

    def compose(self) -> ComposeResult:
        """One list."""
        self.border_title = "queue"
        yield LineList(self._row, None, "", id="queue")

    def update(self, holders: list[Holder], entries: list[Entry], now: float) -> None:
        """Show what works and what waits."""
        before = self.current
        self.holders, self.entries, self.now = holders, entries, now
        self.set_class(bool(entries), "-shown")
        view = self.query_one(LineList)
        count = len(holders) + len(entries)
        view.styles.height = max(1, min(count, _MOST))
        at = view.cursor
        if before is not None:
            same = [n for n, entry in enumerate(entries) if entry.run == before.run]
            at = len(holders) + same[0] if same else at
        view.show_rows(count, at)

    @property
    def current(self) -> Entry | None:
        """The waiting run under the cursor."""
        at = self.query_one(LineList).cursor - len(self.holders)
        return self.entries[at] if 0 <= at < len(self.entries) else None

    @property
    def has_cursor(self) -> bool:
        """Whether keys go to the queue."""
        return self.query_one(LineList).has_focus

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        name = max(10, width - 44)
        if index < len(self.holders):
            holder = self.holders[index]
            words = Path(holder.run).name if holder.run else f"process {holder.pid}"
            return [
                (" ● ", colours.green),
                (text.fit(text.plain(words), name), colours.text),
                ("  works   ", colours.green),
                (text.fit(text.plain(holder.device), 31), colours.muted),
            ]
        entry = self.entries[index - len(self.holders)]
        standing = entry.standing
        held = standing != "waiting"
        word = {"waiting": "waits", "held": "held", "restarted": "held"}.get(standing, standing)
        devices = " or ".join(entry.devices) if entry.count == 1 else f"{entry.count} devices"
        note = "machine restarted" if standing == "restarted" else f"for {devices}"
        since = figures.ago(entry.added, self.now).rjust(10)
        return [
            (str(index - len(self.holders) + 1).rjust(2) + " ", colours.muted),
            (text.fit(text.plain(Path(entry.run).name), name), colours.muted if held else colours.text),
            (f"  {word.ljust(6)}  ", colours.amber if held else colours.muted),
            (text.fit(text.plain(note), 20), colours.muted),
            (since, colours.muted),
        ]
