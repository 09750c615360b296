"""A dialog to show and hide the panels of the monitor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.line_list import LineList


class PanelsDialog(ModalScreen[list[str] | None]):
    """Space shows or hides, enter keeps, esc leaves them as they were; gives back what is hidden."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "leave as it was"),
        Binding("space", "switch", "show or hide"),
    ]
    DEFAULT_CSS = """
    PanelsDialog { align: center middle; background: $background 60%; }
    PanelsDialog Vertical { width: 52; max-width: 94%; height: auto; max-height: 90%; background: $panel;
        border: round $accent; border-title-color: $accent; border-subtitle-color: $muted; padding: 1 2; }
    PanelsDialog LineList { background: $panel; }
    """

    def __init__(self, title: str, panels: Sequence[tuple[str, str]], hidden: Sequence[str]) -> None:
        """Ask.

        Args:
            title: of the dialog.
            panels: id and name of each.
            hidden: ids of those that are not shown.
        """
        super().__init__()
        self._title, self._panels, self._hidden = title, panels, set(hidden)

    def compose(self) -> ComposeResult:
        """The list and its keys."""
        with Vertical() as box:
            box.border_title = Content(self._title)
            box.border_subtitle = Content.assemble(
                ("space", "$accent"),
                " shows, hides  ",
                ("enter", "$accent"),
                " keeps  ",
                ("esc", "$accent"),
                " leaves",
            )
            yield LineList(self._row)

    def on_mount(self) -> None:
        """Keys go to the list."""
        view = self.query_one(LineList)
        view.styles.height = min(len(self._panels), max(3, self.app.size.height - 8))
        view.show_rows(len(self._panels), 0)
        view.focus()

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        ident, name = self._panels[index]
        shown = ident not in self._hidden
        return [(" ● " if shown else " ○ ", colours.green if shown else colours.muted), (name, colours.text)]

    def action_switch(self) -> None:
        """Show or hide the panel under the cursor, and go on."""
        view = self.query_one(LineList)
        self._hidden ^= {self._panels[view.cursor][0]}
        view.refresh_row(view.cursor)
        view.action_cursor(1)

    @on(LineList.Chosen)
    def _keep(self) -> None:
        self.dismiss([ident for ident, _ in self._panels if ident in self._hidden])
