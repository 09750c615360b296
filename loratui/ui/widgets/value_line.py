"""A value that is being typed into a line: its text, the caret, the keys that change them."""

from __future__ import annotations

from rich.cells import cell_len
from rich.style import Style
from textual import events

from loratui.ui import text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette

_LEAST_CELLS = 12


class ValueLine:
    """Text with a caret."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.caret = len(words)

    def insert(self, words: str) -> None:
        """Put text in at the caret."""
        self.words = self.words[: self.caret] + words + self.words[self.caret :]
        self.caret += len(words)

    def type(self, event: events.Key) -> bool:
        """A key; whether it was one for text."""
        at, words = self.caret, self.words
        if event.key == "backspace":
            self.words, self.caret = words[: max(0, at - 1)] + words[at:], max(0, at - 1)
        elif event.key == "delete":
            self.words = words[:at] + words[at + 1 :]
        elif event.key in {"left", "right"}:
            self.caret = max(0, min(len(words), at + (1 if event.key == "right" else -1)))
        elif event.key in {"home", "ctrl+a"}:
            self.caret = 0
        elif event.key in {"end", "ctrl+e"}:
            self.caret = len(words)
        elif event.key == "ctrl+u":
            self.words, self.caret = words[at:], 0
        elif event.character is not None and event.is_printable:
            self.insert(event.character)
        else:
            return False
        return True

    def draw(self, room: int, colours: Palette) -> Row:
        """As much as `room` cells show, the caret among it."""
        start = max(0, self.caret - room + 2)
        shown = text.plain(self.words[start:])
        at = self.caret - start
        inked = Style(underline=True) + colours.bold
        under = shown[at : at + 1] or " "
        rest = max(0, _LEAST_CELLS - cell_len(shown))
        return [
            (shown[:at], inked),
            (under, colours.bold + Style(reverse=True)),
            (shown[at + 1 :] + " " * rest, inked),
        ]
