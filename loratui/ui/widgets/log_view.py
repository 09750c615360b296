"""What a run said, newest below; follows until scrolled away from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from loratui.ui import figures, text
from loratui.ui.drawing import Row, strip
from loratui.ui.theme import Palette, palette


@dataclass(frozen=True)
class LogLine:
    """One line: when, how loud (info, good, warning, error), what; `what` is already cleaned."""

    at: float
    level: str
    what: str


class LogView(ScrollView, can_focus=True, inherit_bindings=False):
    """Lines of a log, wrapped to the width, the last ones in sight."""

    DEFAULT_CSS = """
    LogView { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", show=False),
        Binding("down,j", "scroll_down", "Down", show=False),
        Binding("pageup,ctrl+u", "page_up", "Page up", show=False),
        Binding("pagedown,ctrl+d", "page_down", "Page down", show=False),
        Binding("home,g", "scroll_home", "First line", show=False),
        Binding("end,G", "follow", "Follow the newest line", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: Sequence[LogLine] = ()
        self._rows: list[tuple[LogLine, str, bool]] = []
        self._seen = -1
        self.empty = ""
        """What is said when there is no line."""
        self.following = True
        self._placing = False
        self.hits: list[int] = []
        """Rows that hold what is searched."""
        self._needle = ""
        self._hit = -1

    def show(self, lines: Sequence[LogLine], total: int) -> None:
        """Show `lines`; `total` counts all there ever were, to notice new ones."""
        if total == self._seen and lines is self._lines:
            return
        self._lines, self._seen = lines, total
        self._lay_out()

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width - 10
        self._rows = []
        for line in self._lines:
            for part, words in enumerate(text.wrap(line.what, max(10, width), most=6)):
                self._rows.append((line, words, part == 0))
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._rows))
        if self.following:
            self._to_end()
            # the new virtual size counts only after the next layout
            self.call_after_refresh(self._to_end)
        self.refresh()

    def _to_end(self) -> None:
        if self.following:
            self._placing = True
            self.scroll_to(y=max(0, len(self._rows) - self.scrollable_content_region.height), animate=False)
            self._placing = False

    def mark(self, needle: str) -> list[int]:
        """Mark the rows that hold `needle`, in any case; empty marks none. Returns the rows."""
        found = [n for n, (_, words, _) in enumerate(self._rows) if needle and needle in words.casefold()]
        if needle != self._needle or found != self.hits:
            self._needle, self.hits = needle, found
            self.refresh()
        return found

    def go_to_hit(self, by: int, newest: bool = False) -> None:
        """Scroll to the hit before or after the one that was gone to."""
        if not self.hits:
            return
        if newest or self._hit not in self.hits:
            self._hit = self.hits[-1]
        else:
            self._hit = self.hits[(self.hits.index(self._hit) + by) % len(self.hits)]
        self.following = False
        self._placing = True
        height = self.scrollable_content_region.height
        self.scroll_to(y=max(0, self._hit - height // 2), animate=False)
        self._placing = False
        self.refresh()

    def on_resize(self) -> None:
        """Wrap anew."""
        self._lay_out()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scrolling up stops following, the end starts it again."""
        super().watch_scroll_y(old_value, new_value)
        if not self._placing and self._rows and round(old_value) != round(new_value):
            self.following = new_value >= len(self._rows) - self.scrollable_content_region.height

    def action_follow(self) -> None:
        """Back to the newest line."""
        self.following, self._hit = True, -1
        self.scroll_end(animate=False)

    def render_line(self, y: int) -> Strip:
        """One line in sight."""
        width = self.scrollable_content_region.width
        base = self.visual_style.rich_style
        index = y + self.scroll_offset.y
        if not self._rows and y == 0 and self.empty:
            return strip([(text.crop(self.empty, width), palette(self).muted)], width, base)
        if index >= len(self._rows):
            return Strip.blank(width, base)
        line, words, first = self._rows[index]
        colours = palette(self)
        row: Row = [((figures.clock(line.at) if first else "").ljust(10), colours.muted)]
        tint = _tint(line.level, colours)
        at = words.casefold().find(self._needle) if self._needle else -1
        if at < 0:
            row.append((words, tint))
        else:
            end = at + len(self._needle)
            found = tint + Style(reverse=True, bold=index == self._hit)
            row += [(words[:at], tint), (words[at:end], found), (words[end:], tint)]
        return strip(row, width, base)


def _tint(level: str, colours: Palette) -> Style:
    return {
        "good": colours.green,
        "warning": colours.amber,
        "error": colours.red,
        "quiet": colours.muted,
    }.get(level, colours.text)
