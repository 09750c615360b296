"""A question before something that cannot be taken back at once."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from loratui.ui import text


class ConfirmDialog(ModalScreen[bool]):
    """Enter or `y` does it; esc, `n` or `q` does not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "answer(True)", "do it"),
        Binding("escape,n,q", "answer(False)", "leave it"),
    ]
    DEFAULT_CSS = """
    ConfirmDialog { align: center middle; background: $background 60%; }
    ConfirmDialog Vertical { width: 60; max-width: 90%; height: auto; background: $panel;
        border: round $warning; border-title-color: $warning; padding: 1 2; }
    ConfirmDialog #answers { margin-top: 1; color: $muted; }
    """

    def __init__(self, title: str, question: str, verb: str) -> None:
        """Ask.

        Args:
            title: of the dialog; may be foreign.
            question: what happens; may be foreign.
            verb: what enter does.
        """
        super().__init__()
        self._title, self._question, self._verb = title, question, verb

    def compose(self) -> ComposeResult:
        """Question and answers."""
        with Vertical() as box:
            box.border_title = Content(text.shorten(text.plain(self._title), 50))
            yield Static(text.foreign_lines(self._question))
            yield Static(
                Content.assemble(("enter", "$accent"), f" {self._verb}    ", ("esc", "$accent"), " leave it"),
                id="answers",
            )

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(yes)
