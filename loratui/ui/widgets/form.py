"""Settings as lines that can be edited in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from loratui.ui.widgets.form_rows import Group, Line, Pick, arranged, index_of, label, plain_value
from loratui.ui.widgets.line_list import LineList
from loratui.ui.widgets.stepping import stepped
from loratui.ui.widgets.value_line import ValueLine

_LABEL = 18
_WIDE = 56


class Form(LineList):
    """One line a setting: enter edits it, left and right step through values, delete takes the preset's.

    `values` are shown; `edits` are what the user wrote, as text. Choices open below their line.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter,e", "edit", "edit", id="form.edit", tooltip="Edit this setting; enter keeps, esc leaves it"
        ),
        Binding("left,h", "step(-1)", "Value before, or a smaller number", show=False),
        Binding("right,l,space", "step(1)", "Next value, or a larger number", show=False),
        Binding(
            "delete,backspace", "reset", "as preset", id="form.reset", tooltip="Take the preset's value again"
        ),
        Binding("slash", "find", "find", id="form.find", tooltip="Find settings by name or help; esc: all"),
        Binding("left_square_bracket", "group(-1)", "Group before", id="form.group_before", show=False),
        Binding("right_square_bracket", "group(1)", "Next group", id="form.group_next", show=False),
        Binding("escape", "all", "All settings again", id="form.all", show=False),
    ]

    LABEL: ClassVar[int] = _LABEL
    """Cells for the name of a setting."""
    MORE: ClassVar[int] = 10
    """Further cells where the form is wide."""
    OPENS_LISTS: ClassVar[bool] = True
    """Whether `Opened` is answered; else lists are edited in the line."""

    class Edited(Message):
        """A setting was changed or given back to the preset (value None)."""

        def __init__(self, path: str, value: str | None) -> None:
            super().__init__()
            self.path, self.value = path, value

    class Opened(Message):
        """A list of texts is to be edited, which needs more than a line."""

        def __init__(self, field: FieldInfo) -> None:
            super().__init__()
            self.field = field

    def __init__(self, *, heading: bool = False, id: str | None = None) -> None:
        super().__init__(self._draw_line, self._draw_heading if heading else None, "Choose a preset.", id=id)
        self._given: Sequence[FieldInfo | Group] = ()
        self._lines: list[Line] = []
        self._opened: str = ""
        """Path of the choice that is open."""
        self._words: str = ""
        self._finding = False
        self._values: Mapping[str, Any] = {}
        self._own: frozenset[str] = frozenset()
        self._bad: frozenset[str] = frozenset()
        self._typed: ValueLine | None = None

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
        first = not self._given
        self._given, self._values, self._own, self._bad = lines, values, own, bad
        self._arrange(first)

    def _arrange(self, first: bool = False) -> None:
        """The lines in sight: those that are found, with the values of an open choice; the cursor stays."""
        here = self._lines[self.cursor] if self.cursor < len(self._lines) else None
        words = self._words.strip()
        shown = arranged(self._given, words, self._opened)
        self._lines = shown
        self.say("Nothing is called so.\nesc shows all settings." if words else "Choose a preset.")
        at = None if first or here is None else index_of(shown, here)
        self.show_rows(len(shown), min(1, len(shown)) if at is None else at)

    def reveal(self, path: str) -> bool:
        """Put the cursor on a setting; whether it is in this form."""
        if self._words:
            self._words, self._finding = "", False
            self._arrange()
        for at, line in enumerate(self._lines):
            if isinstance(line, FieldInfo) and line.path == path:
                self.cursor = at
                return True
        return False

    @property
    def current(self) -> FieldInfo | None:
        """The setting under the cursor."""
        line = self._lines[self.cursor] if self.cursor < len(self._lines) else None
        if isinstance(line, Pick):
            return line.field
        return line if isinstance(line, FieldInfo) else None

    @property
    def group(self) -> str:
        """The heading that the cursor stands under."""
        above = (line.title for line in reversed(self._lines[: self.cursor + 1]) if isinstance(line, Group))
        return next(above, "")

    @property
    def editing(self) -> bool:
        """Whether keys go into a value."""
        return self._typed is not None

    def _move(self, to: int) -> None:
        """Headings are stepped over; an open choice is not left."""
        if not self._lines:
            return
        if self._opened:
            picks = [at for at, line in enumerate(self._lines) if isinstance(line, Pick)]
            super()._move(max(picks[0], min(to, picks[-1])))
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
        """Start editing the value under the cursor; a choice opens, a list is edited elsewhere."""
        field = self.current
        if field is None:
            return
        if field.kind == "choice":
            self._toggle(field)
            return
        if field.kind == "bool":
            self.action_step(1)
            return
        if field.kind == "list" and self.OPENS_LISTS:
            self.post_message(self.Opened(field))
            return
        self._typed = ValueLine(plain_value(self._values.get(field.path)))
        self.refresh_row(self.cursor)

    def _toggle(self, field: FieldInfo) -> None:
        """Open the values of a choice, or take the one under the cursor and close them."""
        line = self._lines[self.cursor]
        if isinstance(line, Pick):
            self._shut()
            if line.value != plain_value(self._values.get(field.path)):
                self.post_message(self.Edited(field.path, line.value))
            return
        self._opened = field.path
        self._arrange()
        now = plain_value(self._values.get(field.path))
        picks = {x.value: at for at, x in enumerate(self._lines) if isinstance(x, Pick)}
        self.cursor = picks.get(now, self.cursor + 1)
        self._into_view(max(picks.values()))
        self._into_view(self.cursor)

    def _shut(self) -> None:
        """Close an open choice."""
        path, self._opened = self._opened, ""
        self._arrange()
        at = next((n for n, line in enumerate(self._lines) if getattr(line, "path", "") == path), None)
        if at is not None:
            self.cursor = at

    def action_find(self) -> None:
        """Type words that narrow the form."""
        self._finding = True
        self.refresh()

    def action_all(self) -> None:
        """All settings again."""
        if self._words or self._finding:
            self._words, self._finding = "", False
            self._arrange()

    def action_group(self, by: int) -> None:
        """To the first setting of the next or previous group."""
        starts = [n + 1 for n, line in enumerate(self._lines) if isinstance(line, Group)]
        after = [n for n in starts if n > self.cursor]
        before = [n for n in starts if n < self.cursor]
        wanted = (after[:1] or starts[:1]) if by > 0 else (before[-1:] or starts[-1:])
        if wanted:
            self._move(len(self._lines) - 1)  # so that the group stands on top
            self._move(wanted[0])
            self.scroll_to(y=wanted[0] - 1, animate=False)

    def action_step(self, by: int) -> None:
        """The next or previous value of a choice; a number one step up or down."""
        field = self.current
        if field is None or self._opened:
            return
        if field.kind in {"int", "float"}:
            value = self._values.get(field.path)
            if isinstance(value, int | float):
                self.post_message(self.Edited(field.path, plain_value(stepped(field, value, by))))
            return
        choices = ("false", "true") if field.kind == "bool" else field.choices
        if choices:
            now = plain_value(self._values.get(field.path))
            at = choices.index(now) if now in choices else 0
            self.post_message(self.Edited(field.path, choices[(at + by) % len(choices)]))

    def action_reset(self) -> None:
        """Give the setting back to the preset."""
        if self.current is not None:
            self.post_message(self.Edited(self.current.path, None))

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """While a value is edited, letters and digits belong to it."""
        typed = self.editing or self._finding
        return typed and character is not None and character.isprintable()

    def on_key(self, event: events.Key) -> None:
        """Edit the value, the words to find, or leave an open choice."""
        if self._finding:
            event.stop()
            event.prevent_default()
            self._find(event)
            return
        if self._opened and event.key in {"escape", "left", "right", "h", "l", "tab"}:
            event.stop()
            event.prevent_default()
            self._shut()
            return
        if self._typed is None:
            return
        event.stop()
        event.prevent_default()
        if event.key == "enter":
            self._keep()
        elif event.key == "escape":
            self._close()
        else:
            self._type(self._typed, event)

    def _find(self, event: events.Key) -> None:
        """A key while words are typed to find settings."""
        if event.key in {"enter", "down", "tab"}:
            self._finding = False
        elif event.key == "escape":
            self._words, self._finding = "", False
        elif event.key in {"backspace", "ctrl+h"}:
            self._words = self._words[:-1]
        elif event.key == "ctrl+u":
            self._words = ""
        elif event.character is not None and event.is_printable:
            self._words += text.plain(event.character)
        self._arrange()
        self.refresh()

    def _type(self, line: ValueLine, event: events.Key) -> None:
        if line.type(event):
            self.refresh_row(self.cursor)
        elif event.key in {"up", "down", "tab", "shift+tab"}:
            self._keep()
            if event.key in {"up", "down"}:
                self._move(self.cursor + (1 if event.key == "down" else -1))

    def on_paste(self, event: events.Paste) -> None:
        """Pasted text goes into the value."""
        if self._typed is not None:
            event.stop()
            self._typed.insert(text.plain(event.text.strip().split("\n")[0]))
            self.refresh_row(self.cursor)

    def on_blur(self) -> None:
        """Leaving keeps what was written."""
        self._finding = False
        if self._opened:
            self._shut()
        if self._typed is not None:
            self._keep()

    def _keep(self) -> None:
        field, typed = self.current, self._typed
        self._close()
        if field is None or typed is None:
            return
        if typed.words != plain_value(self._values.get(field.path)):
            self.post_message(self.Edited(field.path, typed.words.strip()))

    def _close(self) -> None:
        self._typed = None
        self.refresh_row(self.cursor)

    # drawing

    def _draw_heading(self, _index: int, width: int, colours: Palette) -> Row:
        if self._finding or self._words:
            count = sum(isinstance(line, FieldInfo) for line in self._lines)
            caret = ("▏", colours.accent) if self._finding else (" ", None)
            return [(" /", colours.accent), (text.plain(self._words), colours.bold), caret,
                    (f" {count} found", colours.muted)]  # fmt: skip
        titles = [line.title for line in self._lines if isinstance(line, Group)]
        place = f"{titles.index(self.group) + 1}/{len(titles)}" if self.group in titles else ""
        head = f" {self.group} {place}"
        tail = "[ ] group  / find" if width > cell_len(head) + 19 else "/ find"
        gap = " " * max(1, width - cell_len(head) - cell_len(tail) - 1)
        return [
            (f" {self.group}", colours.bold),
            (f" {place}", colours.muted),
            (gap, None),
            (tail, colours.faint),
        ]

    def _draw_line(self, index: int, width: int, colours: Palette) -> Row:
        line = self._lines[index]
        if isinstance(line, Group):
            return [(line.title, colours.muted + Style(bold=True))]
        if isinstance(line, Pick):
            now = line.value == plain_value(self._values.get(line.field.path))
            tint = colours.accent if now else colours.text
            return [("    ", None), ("● " if now else "○ ", tint), (line.value, tint)]
        value = text.plain(plain_value(self._values.get(line.path)))
        name = label(line)
        own = line.path in self._own
        tint = colours.red if line.path in self._bad else colours.text
        more = self.MORE if width >= _WIDE else 0
        wide = min(self.LABEL + more, max(14, width - 12))
        row: Row = [
            ("● " if own else "  ", colours.accent),
            (text.fit(name, wide - 1) + " ", colours.muted if not own else colours.text),
        ]
        room = width - wide - 4
        if self._typed is not None and index == self.cursor:
            return row + self._typed.draw(room, colours)
        if line.kind in {"choice", "bool", "int", "float"} and index == self.cursor and self.has_focus:
            value = text.shorten(value, max(4, room - 4))
            return [*row, ("‹ ", colours.accent), (value, tint), (" ›", colours.accent)]
        return [*row, (text.shorten(value, room) or "–", tint if value else colours.muted)]
