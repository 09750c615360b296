"""One of a few words, chosen with the arrow keys."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas


class Choice(Canvas, can_focus=True):
    """All choices on one line, the chosen one marked."""

    DEFAULT_CSS = "Choice { height: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "step(-1)", "choice before", show=False),
        Binding("right,l,space", "step(1)", "next choice", show=False),
        Binding("enter", "submit", "next", show=False),
    ]

    class Submitted(Message):
        """Enter."""

    class Changed(Message):
        """Another one was chosen."""

    def __init__(self, choices: tuple[str, ...], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.choices = choices
        self.chosen = 0

    @property
    def value(self) -> str:
        """The chosen word."""
        return self.choices[self.chosen]

    def offer(self, choices: tuple[str, ...], chosen: int = 0) -> None:
        """Other words to choose from."""
        self.choices, self.chosen = choices, chosen
        self.redraw()

    def action_step(self, by: int) -> None:
        """The next or previous choice."""
        self.chosen = (self.chosen + by) % len(self.choices)
        self.redraw()
        self.post_message(self.Changed())

    def action_submit(self) -> None:
        """Go on."""
        self.post_message(self.Submitted())

    def watch_has_focus(self, value: bool) -> None:
        """The focus shows."""
        super().watch_has_focus(value)
        self.redraw()

    def on_click(self, event: events.Click) -> None:
        """A click chooses."""
        offset = event.get_content_offset(self)
        at = 0
        for index, word in enumerate(self.choices):
            if offset is not None and at <= offset.x < at + len(word) + 4:
                self.chosen = index
                self.redraw()
                self.post_message(self.Changed())
            at += len(word) + 4

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """The words."""
        row: Row = []
        for index, word in enumerate(self.choices):
            if index == self.chosen:
                tint = colours.accent + Style(bold=True) if self.has_focus else colours.bold
                row += [("● ", tint), (word, tint), ("  ", None)]
            else:
                row += [("○ " + word + "  ", colours.muted)]
        return [row]
