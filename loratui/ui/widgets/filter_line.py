"""The filter line: narrows while it is typed, and points at the character that is wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.suggester import Suggester
from textual.timer import Timer
from textual.widgets import Input, Static
from textual.widgets.input import Selection

from loratui.dataset.query import FIELDS, QueryError
from loratui.dataset.query.nodes import escape_glob
from loratui.ui import text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts

if TYPE_CHECKING:
    from loratui.ui.app import LoratuiApp

_LIVE = 0.12
"""Seconds of rest before the list follows what is typed."""
_PLAIN = re.compile(r"[\w*?./-]+")


class _Fields(Suggester):
    """Names of fields, and tags behind `tag:`."""

    def __init__(self, line: FilterLine) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._line = line

    async def get_suggestion(self, value: str) -> str | None:
        """The whole line with its last word finished."""
        word = re.search(r"[^\s()]*$", value)
        typed = word.group(0) if word else ""
        head = value[: len(value) - len(typed)]
        if typed.startswith("tag:") and len(typed) > 4:
            for tag, _ in cast("LoratuiApp", self._line.app).library.tags_all:
                if tag.startswith(typed[4:]) and _PLAIN.fullmatch(tag):
                    return f"{head}tag:{tag}"
        elif len(typed) >= 2 and typed.isalpha():
            for name in FIELDS:
                if name.startswith(typed):
                    return f"{head}{name}:"
        return None


class FilterLine(Vertical):
    """One line to type in; a second one appears when there is a mistake."""

    DEFAULT_CSS = """
    FilterLine { height: auto; display: none; background: $panel; }
    FilterLine.-open { display: block; }
    FilterLine Horizontal { height: 1; }
    FilterLine .sign { width: 3; color: $accent; }
    FilterLine Input { width: 1fr; height: 1; border: none; background: $panel; }
    FilterLine #filter-error { height: 1; display: none; }
    FilterLine.-wrong #filter-error { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "leave the filter as it was", id="filter.cancel"),
        Binding("down", "done", "to the list", show=False),
    ]

    class Left(Message):
        """The focus wants to go back to the list."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._error: QueryError | None = None
        self._before = ""
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """The line and its mistake."""
        hint = "words, or  tag:hat AND NOT width:<512     (? in the list tells all of it)"
        with Horizontal():
            yield Static(" / ", classes="sign")
            yield Input(
                placeholder=hint, id="query", compact=True, suggester=_Fields(self), select_on_focus=False
            )
        yield Facts(self._draw_error, id="filter-error")

    @property
    def _library(self):  # type: ignore[no-untyped-def]
        return cast("LoratuiApp", self.app).library

    def open(self, value: str | None = None) -> None:
        """Begin to type: a new filter in the place of the old one, unless a key moves the cursor first."""
        self._before = self._library.filter
        line = self.query_one("#query", Input)
        line.value = self._library.filter if value is None else value
        end = len(line.value)
        line.selection = Selection(0 if value is None else end, end)
        self.add_class("-open")
        line.focus()

    def use(self, value: str) -> bool:
        """Apply a filter as if it had been typed; whether it was right."""
        error = self._library.narrow(value)
        self._tell(error)
        line = self.query_one("#query", Input)
        with line.prevent(Input.Changed):
            line.value = value
        self.set_class(bool(value), "-open")
        return error is None

    def _tell(self, error: QueryError | None) -> None:
        self._error = error
        self.set_class(error is not None, "-wrong")
        self.query_one("#filter-error", Facts).redraw()

    def _draw_error(self, width: int, height: int, colours: Palette) -> list[Row]:
        error = self._error
        if error is None:
            return []
        place = error.position - self.query_one("#query", Input).scroll_offset.x + 3
        words = error.reason + (f"; {error.advice[0].lower()}{error.advice[1:]}" if error.advice else "")
        place = max(0, min(place, width - 2))
        if place + 3 + len(words) > width >= len(words) + 3 and place > len(words) + 1:
            return [[(text.plain(words).rjust(place - 1), colours.red), (" ^", colours.red)]]
        return [
            [
                (" " * place + "^ ", colours.red),
                (text.crop(text.plain(words), width - place - 2), colours.red),
            ]
        ]

    @on(Input.Changed, "#query")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(_LIVE, self._follow)

    def _follow(self) -> None:
        """The list follows what can be read; half a filter is no mistake yet, and changes nothing."""
        line = self.query_one("#query", Input)
        if not line.has_focus:
            return
        error = self._library.narrow(line.value)
        # what stops at the end is still being typed; anything before it is a mistake by now
        unfinished = error is not None and error.position >= len(line.value.rstrip())
        self._tell(None if unfinished else error)

    @on(Input.Submitted, "#query")
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_done()

    def action_done(self) -> None:
        """Use the filter and go back; a wrong one keeps the focus and says where."""
        value = self.query_one("#query", Input).value
        if self.use(value):
            self.post_message(self.Left())
        else:
            self.add_class("-open")

    def action_cancel(self) -> None:
        """Back to the filter before."""
        self.use(self._before)
        self.post_message(self.Left())


def tag_filter(tag: str) -> str:
    """The filter for a tag as it stands."""
    pattern = escape_glob(tag)
    if _PLAIN.fullmatch(tag):
        return f"tag:{pattern}"
    return 'tag:"' + pattern.replace('"', r"\"") + '"'
