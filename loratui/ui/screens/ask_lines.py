"""A dialog for a few lines of text: sample prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea

from loratui.ui import text


class LinesDialog(ModalScreen[list[str] | None]):
    """Edits lines; ctrl+s keeps them, esc leaves them as they were."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "keep", "keep", priority=True),
        Binding("escape", "cancel", "leave as it was", priority=True),
    ]
    DEFAULT_CSS = """
    LinesDialog { align: center middle; background: $background 60%; }
    LinesDialog Vertical { width: 90; max-width: 94%; height: auto; background: $panel; border: round $accent;
        border-title-color: $accent; padding: 1 2; }
    LinesDialog TextArea { height: 10; background: $background; border: none; padding: 0 1; }
    LinesDialog TextArea:focus { border: none; }
    LinesDialog .say { color: $muted; margin-top: 1; }
    """

    def __init__(self, title: str, lines: Sequence[str], say: str) -> None:
        super().__init__()
        self._title, self._lines, self._say = title, lines, say

    def compose(self) -> ComposeResult:
        """The lines and what to do with them."""
        with Vertical() as box:
            box.border_title = Content(text.plain(self._title))
            yield TextArea("\n".join(text.plain(line) for line in self._lines), soft_wrap=True, compact=True)
            yield Static(Content(self._say), classes="say")
            yield Static(
                Content.assemble(("ctrl+s", "$accent"), " keep    ", ("esc", "$accent"), " leave as it was"),
                classes="say",
            )

    def action_keep(self) -> None:
        """Close with the lines."""
        self.dismiss([line.strip() for line in self.query_one(TextArea).text.split("\n") if line.strip()])

    def action_cancel(self) -> None:
        """Close without."""
        self.dismiss(None)
