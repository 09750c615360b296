"""A dialog that shows rows to read, and may do one thing with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from loratui.ui import text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.line_list import LineList


class RowsDialog(ModalScreen[bool]):
    """Columns of words; enter does `verb` where there is one, esc leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss(False)", "leave")]
    DEFAULT_CSS = """
    RowsDialog { align: center middle; background: $background 60%; }
    RowsDialog Vertical { width: 110; max-width: 96%; height: auto; background: $panel;
        border: round $accent; border-title-color: $accent; border-subtitle-color: $muted; padding: 0 1; }
    RowsDialog LineList { background: $panel; }
    RowsDialog Facts { height: 4; border-top: solid $faint; background: $panel; }
    """

    def __init__(
        self,
        title: str,
        heading: Sequence[str],
        rows: Sequence[Sequence[str]],
        empty: str,
        verb: str = "",
        details: Sequence[str] = (),
    ) -> None:
        """Show.

        Args:
            title: of the dialog; may be foreign.
            heading: of the columns.
            rows: their words; may be foreign.
            empty: what to say without rows.
            verb: what enter does; empty for nothing.
            details: the whole of each row, to stand below while the cursor is on it; may be foreign.
        """
        super().__init__()
        self._title, self._verb, self._empty = title, verb, empty
        self._names = list(heading)
        self._details = [text.plain(detail) for detail in details]
        self._rows = [[text.plain(word) for word in row] for row in rows]

    def compose(self) -> ComposeResult:
        """The rows and the keys."""
        with Vertical() as box:
            box.border_title = Content(text.shorten(text.plain(self._title), 90))
            leave = Content.assemble(("esc", "$accent"), " leaves")
            does = Content.assemble(("enter", "$accent"), f" {self._verb}  ")
            box.border_subtitle = does + leave if self._verb and self._rows else leave
            yield LineList(self._row, self._heading, self._empty)
            if self._details:
                yield Facts(self._detail, id="detail")

    def on_mount(self) -> None:
        """Keys go to the rows."""
        view = self.query_one(LineList)
        taken = 2 + (4 if self._details else 0)
        most = self.app.size.height * 9 // 10 - taken
        view.styles.height = max(4, min(len(self._rows) + 1, most))
        view.show_rows(len(self._rows), 0)
        view.focus()

    def on_line_list_chosen(self) -> None:
        """Do it."""
        if self._verb:
            self.dismiss(True)

    def on_line_list_moved(self) -> None:
        """Another row's whole text."""
        for facts in self.query(Facts):
            facts.redraw()

    def _detail(self, width: int, height: int, colours: Palette) -> list[Row]:
        at = self.query_one(LineList).cursor
        words = self._details[at] if at < len(self._details) else ""
        return [[(part, colours.muted)] for part in text.wrap(words, width, most=height)]

    def _widths(self, width: int) -> list[int]:
        """The widest cell of each column; the last ones share what is left when that is too much."""
        widest = [max([len(r[i]) for r in [self._names, *self._rows]]) + 2 for i in range(len(self._names))]
        room = max(12, width - widest[0])
        if sum(widest) <= width or len(widest) == 1:
            return widest
        share = room // (len(widest) - 1)
        return [min(widest[0], width // 2), *(max(6, share) for _ in widest[1:])]

    def _heading(self, _index: int, width: int, colours: Palette) -> Row:
        return [(" ", None), *self._cells(self._names, width - 1, colours, head=True)]

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        return self._cells(self._rows[index], width, colours)

    def _cells(self, words: Sequence[str], width: int, colours: Palette, head: bool = False) -> Row:
        row: Row = []
        for number, (word, cells) in enumerate(zip(words, self._widths(width - 1), strict=True)):
            tint = colours.muted if head or number == 0 else colours.text
            row.append((text.fit(word, cells - 1) + " ", tint))
        return row
