"""A text that is edited in place: esc or ctrl+s hands it over."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from loratui.ui import text


class LineEditor(TextArea):
    """Shows a text; `begin` makes it editable until it is kept or left."""

    DEFAULT_CSS = """
    LineEditor {
        border: none; padding: 0; height: 1fr; background: $background; color: $foreground;
        scrollbar-size-vertical: 1;
        &:focus { border: none; }
        & .text-area--cursor-line { background: $background; }
        & .text-area--placeholder { color: $muted; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s,escape", "keep", "keep", id="line.keep", tooltip="Keep what was written"),
        Binding("ctrl+g", "leave", "leave as it was", id="line.leave", tooltip="Leave it as it was"),
    ]

    class Kept(Message):
        """The text is to be kept."""

        def __init__(self, written: str) -> None:
            super().__init__()
            self.written = written

    class Left(Message):
        """The text stays as it was."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            "", id=id, soft_wrap=True, tab_behavior="focus", compact=True, highlight_cursor_line=False
        )
        self.can_focus = False
        self.read_only = True
        self._shown = ""

    def show(self, words: str) -> None:
        """Show a text, unless one is being edited."""
        if self.read_only:
            self._shown = words
            if self.text != words:
                self.load_text(words)

    def begin(self) -> None:
        """Edit it."""
        self.read_only, self.can_focus = False, True
        self.focus()
        self.move_cursor(self.document.end)

    @property
    def changed(self) -> bool:
        """Whether something is written that was not kept."""
        return not self.read_only and self.text != self._shown

    def action_keep(self) -> None:
        """Hand the text over."""
        self._end()
        if self.text.strip() != self._shown.strip():
            self.post_message(self.Kept(self.text.strip()))
        else:
            self.post_message(self.Left())

    def action_leave(self) -> None:
        """Take the old text again."""
        self._end()
        self.load_text(self._shown)
        self.post_message(self.Left())

    def on_blur(self) -> None:
        """Leaving keeps what was written."""
        if not self.read_only:
            self.action_keep()

    def _end(self) -> None:
        self.read_only, self.can_focus = True, False

    async def _on_paste(self, event: events.Paste) -> None:
        """Pasted text is foreign."""
        event.text = "\n".join(text.lines(event.text))
        await super()._on_paste(event)
