"""One line to type what is searched in the log."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Input


class SearchDialog(ModalScreen[str | None]):
    """Enter searches, an empty line ends the search, esc leaves it as it was."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "leave", priority=True)]
    DEFAULT_CSS = """
    SearchDialog { align: left bottom; background: transparent; }
    SearchDialog Input { height: 1; border: none; padding: 0 2; background: $panel; }
    """

    def __init__(self, needle: str) -> None:
        super().__init__()
        self._needle = needle

    def compose(self) -> ComposeResult:
        """The line."""
        yield Input(self._needle, placeholder="search the log; enter searches, n and N go on", compact=True)

    def on_mount(self) -> None:
        """Keys go to the line."""
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Search."""
        self.dismiss(event.value)
