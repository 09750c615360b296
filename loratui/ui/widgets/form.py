"""Settings as lines that can be edited in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from loratui.config.docs import FieldInfo
from loratui.ui import text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.line_list import LineList

_LABEL = 18
_NAMES = {
    "optimizer.lr": "learning rate",
    "samples.every": "sample every",
    "saving.every": "save every",
    "saving.keep": "keep saves",
    "saving.name": "file name",
    "memory.gradient_checkpointing": "checkpointing",
    "optimizer.accumulation": "accumulation",
}
"""Where the key alone would be unclear, or too long."""


@dataclass(frozen=True)
class Group:
    """A heading in the form."""

    title: str


class Form(LineList):
    """One line a setting: enter edits it, left and right step through choices, delete takes the preset's.

    `values` are shown; `edits` are what the user wrote, as text.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter,e", "edit", "edit", id="form.edit", tooltip="Edit this setting; enter keeps, esc leaves it"
        ),
        Binding("left,h", "step(-1)", "Choice before", show=False),
        Binding("right,l,space", "step(1)", "Next choice", show=False),
        Binding(
            "delete,backspace", "reset", "as preset", id="form.reset", tooltip="Take the preset's value again"
        ),
    ]

    LABEL: ClassVar[int] = _LABEL
    """Cells for the name of a setting."""

    class Edited(Message):
        """A setting was changed or given back to the preset (value None)."""

        def __init__(self, path: str, value: str | None) -> None:
            super().__init__()
            self.path, self.value = path, value

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self._draw_line, None, "Choose a preset.", id=id)
        self._lines: Sequence[FieldInfo | Group] = ()
        self._values: Mapping[str, Any] = {}
        self._own: frozenset[str] = frozenset()
        self._bad: frozenset[str] = frozenset()
        self._buffer: str | None = None
        self._caret = 0

    def show(
        self,
        lines: Sequence[FieldInfo | Group],
        values: Mapping[str, Any],
        own: frozenset[str],
        bad: frozenset[str],
    ) -> None:
        """Show these settings.

        Args:
            lines: settings under headings.
            values: dotted path -> value.
            own: paths that differ from the preset.
            bad: paths whose value cannot be used.
        """
        first = not self._lines
        self._lines, self._values, self._own, self._bad = lines, values, own, bad
        self.show_rows(len(lines), 1 if first else None)

    @property
    def current(self) -> FieldInfo | None:
        """The setting under the cursor."""
        line = self._lines[self.cursor] if self.cursor < len(self._lines) else None
        return line if isinstance(line, FieldInfo) else None

    @property
    def editing(self) -> bool:
        """Whether keys go into a value."""
        return self._buffer is not None

    def _move(self, to: int) -> None:
        """Headings are stepped over."""
        if not self._lines:
            return
        to = max(0, min(to, len(self._lines) - 1))
        step = 1 if to >= self.cursor else -1
        while 0 <= to < len(self._lines) and isinstance(self._lines[to], Group):
            to += step
        if not 0 <= to < len(self._lines):  # a heading above the first setting
            to = next(i for i, line in enumerate(self._lines) if isinstance(line, FieldInfo))
        super()._move(to)
        if to == 1:
            self.scroll_to(y=0, animate=False)

    # editing in place

    def action_edit(self) -> None:
        """Start editing the value under the cursor; a choice goes to the next one."""
        field = self.current
        if field is None:
            return
        if field.kind in {"choice", "bool"}:
            self.action_step(1)
            return
        self._buffer = _plain_value(self._values.get(field.path))
        self._caret = len(self._buffer)
        self.refresh_row(self.cursor)

    def action_step(self, by: int) -> None:
        """The next or previous choice."""
        field = self.current
        if field is None:
            return
        choices = ("false", "true") if field.kind == "bool" else field.choices
        if choices:
            now = _plain_value(self._values.get(field.path))
            at = choices.index(now) if now in choices else 0
            self.post_message(self.Edited(field.path, choices[(at + by) % len(choices)]))

    def action_reset(self) -> None:
        """Give the setting back to the preset."""
        if self.current is not None:
            self.post_message(self.Edited(self.current.path, None))

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """While a value is edited, letters and digits belong to it."""
        return self.editing and character is not None and character.isprintable()

    def on_key(self, event: events.Key) -> None:
        """Edit the value."""
        if self._buffer is None:
            return
        event.stop()
        event.prevent_default()
        if event.key == "enter":
            self._keep()
        elif event.key == "escape":
            self._close()
        else:
            self._type(event)
            self.refresh_row(self.cursor)

    def _type(self, event: events.Key) -> None:
        assert self._buffer is not None
        at, buffer = self._caret, self._buffer
        if event.key == "backspace":
            self._buffer, self._caret = buffer[: max(0, at - 1)] + buffer[at:], max(0, at - 1)
        elif event.key == "delete":
            self._buffer = buffer[:at] + buffer[at + 1 :]
        elif event.key in {"left", "right"}:
            self._caret = max(0, min(len(buffer), at + (1 if event.key == "right" else -1)))
        elif event.key in {"home", "ctrl+a"}:
            self._caret = 0
        elif event.key in {"end", "ctrl+e"}:
            self._caret = len(buffer)
        elif event.key == "ctrl+u":
            self._buffer, self._caret = buffer[at:], 0
        elif event.character is not None and event.is_printable:
            self._buffer, self._caret = buffer[:at] + event.character + buffer[at:], at + 1
        elif event.key in {"up", "down", "tab", "shift+tab"}:
            self._keep()
            if event.key in {"up", "down"}:
                self._move(self.cursor + (1 if event.key == "down" else -1))

    def on_paste(self, event: events.Paste) -> None:
        """Pasted text goes into the value."""
        if self._buffer is not None:
            event.stop()
            words = text.plain(event.text.strip().split("\n")[0])
            self._buffer = self._buffer[: self._caret] + words + self._buffer[self._caret :]
            self._caret += len(words)
            self.refresh_row(self.cursor)

    def on_blur(self) -> None:
        """Leaving keeps what was written."""
        if self._buffer is not None:
            self._keep()

    def _keep(self) -> None:
        field, buffer = self.current, self._buffer
        self._close()
        if field is not None and buffer is not None and buffer != _plain_value(self._values.get(field.path)):
            self.post_message(self.Edited(field.path, buffer.strip()))

    def _close(self) -> None:
        self._buffer = None
        self.refresh_row(self.cursor)

    # drawing

    def _draw_line(self, index: int, width: int, colours: Palette) -> Row:
        line = self._lines[index]
        if isinstance(line, Group):
            return [(line.title, colours.muted + Style(bold=True))]
        value = text.plain(_plain_value(self._values.get(line.path)))
        label = _NAMES.get(line.path, line.key.replace("_", " "))
        own = line.path in self._own
        tint = colours.red if line.path in self._bad else colours.text
        wide = min(self.LABEL, max(14, width - 12))
        row: Row = [
            ("● " if own else "  ", colours.accent),
            (text.fit(label, wide - 1) + " ", colours.muted if not own else colours.text),
        ]
        room = width - wide - 4
        if self._buffer is not None and index == self.cursor:
            return row + self._draw_buffer(room, colours)
        if line.kind in {"choice", "bool"} and index == self.cursor and self.has_focus:
            return [*row, ("‹ ", colours.accent), (value, tint), (" ›", colours.accent)]
        return [*row, (text.shorten(value, room) or "–", tint if value else colours.muted)]

    def _draw_buffer(self, room: int, colours: Palette) -> Row:
        assert self._buffer is not None
        start = max(0, self._caret - room + 2)
        shown = text.plain(self._buffer[start:])
        at = self._caret - start
        inked = Style(underline=True) + colours.bold
        under = shown[at : at + 1] or " "
        rest = max(0, 12 - cell_len(shown))
        return [
            (shown[:at], inked),
            (under, colours.bold + Style(reverse=True)),
            (shown[at + 1 :] + " " * rest, inked),
        ]


def _plain_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "; ".join(str(v) for v in value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
