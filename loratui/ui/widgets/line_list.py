"""A list that draws only the lines in sight: 100,000 rows cost what 20 cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from loratui.ui import text
from loratui.ui.drawing import Row, strip
from loratui.ui.theme import Palette, palette

DrawRow = Callable[[int, int, Palette], Row]
"""(index, width, colours) -> the row, its foreign text already through `ui.text`."""


class LineList(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows under an optional heading, with a cursor.

    The rows themselves are not kept here: `draw_row` is asked for those in sight.
    """

    DEFAULT_CSS = """
    LineList { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; background: $background; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "cursor(-1)", "Up", show=False),
        Binding("down,j", "cursor(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("ctrl+u", "half(-1)", "Half a page up", show=False),
        Binding("ctrl+d", "half(1)", "Half a page down", show=False),
        Binding("home,g", "ends(0)", "First", show=False, tooltip="First; gg works too"),
        Binding("end,G", "ends(1)", "Last", show=False),
        Binding("enter", "choose", "Take the row under the cursor", show=False),
    ]

    cursor: reactive[int] = reactive(0, init=False, repaint=False)

    class Moved(Message):
        """The cursor stands on another row."""

        def __init__(self, source: Widget, index: int) -> None:
            super().__init__()
            self.source = source
            self.index = index

        @property
        def control(self) -> Widget:
            """The list, for `@on` selectors."""
            return self.source

        def can_replace(self, message: Message) -> bool:
            """Only the newest place of the cursor matters."""
            return isinstance(message, LineList.Moved) and message.source is self.source

    class Chosen(Message):
        """Enter, or a click on the row under the cursor."""

        def __init__(self, source: Widget, index: int) -> None:
            super().__init__()
            self.source = source
            self.index = index

        @property
        def control(self) -> Widget:
            """The list, for `@on` selectors."""
            return self.source

    def __init__(
        self, draw_row: DrawRow, heading: DrawRow | None = None, empty: str = "", *, id: str | None = None
    ) -> None:
        """Build an empty list.

        Args:
            draw_row: draws one row.
            heading: draws the line that stays on top (called with index -1).
            empty: what to say, and do, when there is nothing.
            id: DOM id.
        """
        super().__init__(id=id)
        self._draw_row = draw_row
        self._heading = heading
        self.empty = empty
        self.lit = False
        """Whether the cursor shows as if the list had the focus: keys come to it from elsewhere."""
        self.count = 0
        self._top = 1 if heading else 0

    def show_rows(self, count: int, cursor: int | None = None) -> None:
        """Say that there are `count` rows now, and paint them."""
        self.count = count
        self._fit_virtual()
        wanted = self.cursor if cursor is None else cursor
        self.cursor = max(0, min(wanted, count - 1))
        self._into_view(self.cursor)
        self.refresh()

    def say(self, empty: str) -> None:
        """Change what an empty list says."""
        self.empty = empty
        if not self.count:
            self.refresh()

    def on_resize(self) -> None:
        """Rows are as wide as the list."""
        self._fit_virtual()
        self._into_view(self.cursor)

    def _fit_virtual(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, self.count + self._top)

    def watch_cursor(self, old: int, new: int) -> None:
        """Repaint the two rows, scroll, and tell."""
        self.refresh_row(old)
        self.refresh_row(new)
        self._into_view(new)
        self.post_message(self.Moved(self, new))

    def refresh_row(self, index: int) -> None:
        """Paint one row again."""
        self.refresh_lines(index + self._top, 1)

    def watch_has_focus(self, value: bool) -> None:
        """The cursor's row shows where the focus is."""
        super().watch_has_focus(value)
        self.refresh_row(self.cursor)

    @property
    def page(self) -> int:
        """Rows in sight."""
        return max(1, self.scrollable_content_region.height - self._top)

    @property
    def in_sight(self) -> slice:
        """The rows that are painted."""
        return slice(self.scroll_offset.y, self.scroll_offset.y + self.page)

    def _into_view(self, index: int) -> None:
        top = self.scroll_offset.y
        if index < top:
            self.scroll_to(y=index, animate=False)
        elif index >= top + self.page:
            self.scroll_to(y=index - self.page + 1, animate=False)

    def action_cursor(self, by: int) -> None:
        """Move the cursor by rows."""
        self._move(self.cursor + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by pages."""
        self._move(self.cursor + by * self.page)

    def action_half(self, by: int) -> None:
        """Move the cursor by half pages."""
        self._move(self.cursor + by * max(1, self.page // 2))

    def action_ends(self, last: int) -> None:
        """Move the cursor to the first or last row."""
        self._move(self.count - 1 if last else 0)

    def action_choose(self) -> None:
        """Tell that the row under the cursor is wanted."""
        if self.count:
            self.post_message(self.Chosen(self, self.cursor))

    def _move(self, to: int) -> None:
        if self.count:
            self.cursor = max(0, min(to, self.count - 1))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a second one on the same row chooses it."""
        offset = event.get_content_offset(self)
        if offset is None or offset.y < self._top:
            return
        index = offset.y - self._top + self.scroll_offset.y
        if index < self.count:
            if index == self.cursor and event.chain == 2:
                self.action_choose()
            self.cursor = index

    def render_line(self, y: int) -> Strip:
        """One line in sight."""
        width = self.scrollable_content_region.width
        base = self.visual_style.rich_style
        colours = palette(self)
        if y < self._top and self._heading is not None:
            return strip(self._heading(-1, width, colours), width, base)
        if not self.count:
            return self._empty_line(y - self._top, width, base, colours)
        index = y - self._top + self.scroll_offset.y
        if index >= self.count:
            return Strip.blank(width, base)
        row = self._draw_row(index, width - 1, colours)
        if index != self.cursor:
            return strip([(" ", None), *row], width, base)
        lit = self.has_focus or self.lit
        mark: tuple[str, Style | None] = ("▌", colours.accent) if lit else (" ", None)
        back = colours.cursor if lit else colours.cursor_idle
        return strip([mark, *row], width, base + back)

    def _empty_line(self, y: int, width: int, base: Style, colours: Palette) -> Strip:
        room = max(10, width - 4)
        wrapped = [part for line in self.empty.split("\n") for part in text.wrap(line, room)]
        first = max(0, (self.page - len(wrapped)) // 3)
        if not first <= y < first + len(wrapped):
            return Strip.blank(width, base)
        return strip([("  ", None), (wrapped[y - first], colours.muted)], width, base)
