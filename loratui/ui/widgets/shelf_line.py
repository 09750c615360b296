"""The line above the pictures: how many there are, captioned, to look at, marked; and what is going on."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.cells import cell_len

from loratui.ui import figures
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas

if TYPE_CHECKING:
    from loratui.ui.app import LoratuiApp


class ShelfLine(Canvas):
    """One line of counts."""

    DEFAULT_CSS = "ShelfLine { height: 1; padding: 0 2; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.busy = ""

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """Counts at the left, what is going on and the marks at the right."""
        app = cast("LoratuiApp", self.app)
        library = app.library
        if not library.rows and not library.read:
            return [[("reading…" + (f" {figures.count(app.scanned)}" if app.scanned else ""), colours.muted)]]
        captioned, look, broken = library.totals
        dot = ("  ·  ", colours.faint)
        row: Row = [(figures.plural(len(library.rows) - broken, "picture"), colours.text)]
        row += [dot, (f"{figures.count(captioned)} captioned", colours.text)]
        if look:
            row += [dot, (f"{figures.count(look)} to look at", colours.amber)]
        if broken:
            row += [dot, (f"{figures.plural(broken, 'file')} unusable", colours.red)]
        tail: Row = []
        if self.busy:
            tail.append((self.busy, colours.amber))
        elif library.measuring is not None:
            done, of = library.measuring
            tail.append((f"measuring {figures.count(done)}/{figures.count(of)}", colours.muted))
        if library.marked:
            tail += [
                ("   " if tail else "", None),
                (f"● {figures.count(len(library.marked))} marked", colours.accent),
            ]
        gap = width - sum(cell_len(words) for words, _ in (*row, *tail))
        if gap < 2 and len(tail) > 1:  # the marks matter more than the measuring
            tail = tail[-1:]
            gap = width - sum(cell_len(words) for words, _ in (*row, *tail))
        return [[*row, (" " * gap, None), *tail] if gap >= 2 else row]
