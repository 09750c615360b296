"""A dialog with a list to choose from; letters narrow it, a line may be typed instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from loratui.ui import text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.line_list import LineList


@dataclass(frozen=True, slots=True)
class Option:
    """One line to choose.

    Attributes:
        value: what the dialog gives back.
        name: shown first; may be foreign.
        about: shown behind it; may be foreign.
    """

    value: str
    name: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and with which key."""

    value: str
    key: str = "enter"


class ChooseDialog(ModalScreen[Choice | None]):
    """Arrows and enter choose; typing narrows; esc leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "leave", priority=True),
        Binding("down", "step(1)", show=False, priority=True),
        Binding("up", "step(-1)", show=False, priority=True),
        Binding("pagedown", "step(10)", show=False, priority=True),
        Binding("pageup", "step(-10)", show=False, priority=True),
        Binding("delete,ctrl+d", "forget", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    ChooseDialog { align: center middle; background: $background 60%; }
    ChooseDialog Vertical { width: 76; max-width: 94%; height: auto; max-height: 90%; background: $panel;
        border: round $accent; border-title-color: $accent; padding: 1 2; }
    ChooseDialog Input { height: 1; border: none; padding: 0; background: $panel; }
    ChooseDialog LineList { height: 12; margin-top: 1; background: $panel; }
    ChooseDialog .say { color: $muted; margin-top: 1; }
    """

    def __init__(self, title: str, options: Sequence[Option], say: str, forgets: bool = False) -> None:
        """Ask.

        Args:
            title: of the dialog.
            options: what there is.
            say: the line of keys at the bottom.
            forgets: whether `delete` gives back an option to be taken away.
        """
        super().__init__()
        self._title, self._options, self._say, self._forgets = title, list(options), say, forgets
        self._found = self._options

    def compose(self) -> ComposeResult:
        """Line to narrow, list, keys."""
        with Vertical() as box:
            box.border_title = Content(text.plain(self._title))
            yield Input(placeholder="type to narrow", compact=True)
            yield LineList(self._row, empty="Nothing is called so.")
            yield Static(Content(self._say), classes="say")

    def on_mount(self) -> None:
        """All of them, and keys go to the line."""
        view = self.query_one(LineList)
        view.styles.height = min(14, max(3, len(self._options)), max(3, self.app.size.height - 10))
        view.can_focus, view.lit = False, True
        view.show_rows(len(self._found), 0)
        self.query_one(Input).focus()

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        option = self._found[index]
        about = max((len(o.about) for o in self._options), default=0)
        room = max(width // 2, width - about - 4)
        name = min(max((len(o.name) for o in self._options), default=0), room)
        return [
            (" " + text.fit(text.plain(option.name), name), colours.text),
            ("  " + text.crop(text.plain(option.about), max(0, width - name - 4)), colours.muted),
        ]

    @on(Input.Changed)
    def _narrow(self, event: Input.Changed) -> None:
        words = event.value.casefold().split()
        self._found = [o for o in self._options if all(w in f"{o.name} {o.about}".casefold() for w in words)]
        self._found.sort(key=lambda o: not o.name.casefold().startswith(event.value.casefold().strip()))
        self.query_one(LineList).show_rows(len(self._found), 0)

    @on(Input.Submitted)
    def _take(self) -> None:
        self._answer("enter")

    @on(LineList.Chosen)
    def _clicked(self) -> None:
        self._answer("enter")

    def _answer(self, key: str) -> None:
        view = self.query_one(LineList)
        if view.cursor < len(self._found):
            self.dismiss(Choice(self._found[view.cursor].value, key))

    def action_step(self, by: int) -> None:
        """Move the cursor."""
        view = self.query_one(LineList)
        view.action_cursor(by)

    def action_forget(self) -> None:
        """Give an option back to be taken away."""
        if self._forgets:
            self._answer("delete")
