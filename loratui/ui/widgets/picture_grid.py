"""The pictures as thumbnails: as many as fit, with a cursor that walks in both directions."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from loratui.dataset.rows import PictureRow
from loratui.ui import text
from loratui.ui.drawing import blank, strip
from loratui.ui.painted import AsDrawn, Joined
from loratui.ui.signs import signs
from loratui.ui.theme import palette
from loratui.ui.widgets.line_list import LineList
from loratui.ui.widgets.thumbnails import Thumbnails

if TYPE_CHECKING:
    from loratui.ui.app import LoratuiApp

_SIZES = (8, 12, 16, 19, 26, 36, 54)
_GAP = 2


class PictureGrid(ScrollView, can_focus=True, inherit_bindings=False):
    """Half-block thumbnails of what the library shows; only those in sight are made."""

    DEFAULT_CSS = """
    PictureGrid { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; background: $background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(-1, 0)", "Picture before", show=False),
        Binding("right,l", "move(1, 0)", "Next picture", show=False),
        Binding("up,k", "move(0, -1)", "Row above", show=False),
        Binding("down,j", "move(0, 1)", "Row below", show=False),
        Binding("pageup", "move(0, -2)", "Page up", show=False),
        Binding("pagedown", "move(0, 2)", "Page down", show=False),
        Binding("ctrl+u", "half(-1)", "Half a page up", show=False),
        Binding("ctrl+d", "half(1)", "Half a page down", show=False),
        Binding("home,g", "ends(0)", "First", show=False, tooltip="First; gg works too"),
        Binding("end,G", "ends(1)", "Last", show=False),
        Binding("plus,equals_sign", "size(1)", "larger", id="grid.larger", tooltip="Larger thumbnails"),
        Binding("minus", "size(-1)", "smaller", id="grid.smaller", tooltip="Smaller thumbnails"),
        Binding("enter", "choose", "Edit the caption", show=False),
    ]
    cursor: reactive[int] = reactive(0, init=False, repaint=False)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.thumbnails = Thumbnails(
            self,
            lambda path: cast("LoratuiApp", self.app).library.thumbnail(path),
            self.refresh_pictures,
        )
        self.count = 0
        self.empty = ""
        self._zoom = 2
        self._measured_for: object = None
        self._measures = (1, 6, 2, 0)
        self._styles_cache = AsDrawn()

    @property
    def _shown(self) -> list[PictureRow]:
        return cast("LoratuiApp", self.app).library.shown

    # --- measures ---------------------------------------------------------------------------------------

    def _measure(self) -> tuple[int, int, int, int]:
        """Thumbnails in a row, columns and rows of one, width of the grid; asked for each line."""
        key = (self.outer_size, self.show_vertical_scrollbar, self._zoom)
        if key != self._measured_for:
            width, height = self.scrollable_content_region.size
            across = max(1, (width + _GAP) // (_SIZES[self._zoom] + _GAP))
            # as many as fit, and then as wide as they may be
            columns = max(6, (width + _GAP) // across - _GAP)
            rows = max(2, min(columns // 2, max(2, height - 1)))
            self._measured_for, self._measures = key, (across, columns, rows, width)
        return self._measures

    @property
    def cell(self) -> tuple[int, int]:
        """Cells of one thumbnail: columns, rows."""
        _, columns, rows, _ = self._measure()
        return columns, rows

    @property
    def across(self) -> int:
        """Thumbnails in a row."""
        return self._measure()[0]

    def _down(self) -> int:
        return max(1, self.scrollable_content_region.height // (self.cell[1] + 1))

    def _fit(self) -> None:
        lines = -(-self.count // self.across) * (self.cell[1] + 1)
        self.virtual_size = Size(self.scrollable_content_region.width, lines)

    @property
    def in_sight(self) -> slice:
        """The pictures that are painted, at least in part."""
        first = self.scroll_offset.y // (self.cell[1] + 1) * self.across
        return slice(first, first + (self._down() + 2) * self.across)

    # --- what is shown ----------------------------------------------------------------------------------

    def show_rows(self, count: int, cursor: int | None = None) -> None:
        """Say that there are `count` pictures now, and paint them."""
        self.count = count
        self._fit()
        wanted = self.cursor if cursor is None else cursor
        self.cursor = max(0, min(wanted, count - 1))
        self._into_view()
        self.refresh()

    def say(self, empty: str) -> None:
        """Change what an empty grid says."""
        self.empty = empty
        if not self.count:
            self.refresh()

    def on_resize(self) -> None:
        """Other thumbnails are in sight."""
        self._fit()
        self._into_view()

    def watch_cursor(self, old: int, new: int) -> None:
        """Repaint two pictures, or all when they scroll, and tell."""
        self.refresh_place(old)
        self.refresh_place(new)
        self._into_view()
        self.post_message(LineList.Moved(self, self.cursor))

    def watch_has_focus(self, value: bool) -> None:
        """The cursor shows where the focus is."""
        super().watch_has_focus(value)
        self.refresh()

    def _into_view(self) -> None:
        high, room = self.cell[1] + 1, self.scrollable_content_region.height
        top, first = self.scroll_offset.y, self.cursor // self.across * high
        to = first if first < top else first + high - room if first + high > top + room else top
        if to != top:  # at once: a scroll that waits for a refresh costs a page a second paint
            self.scroll_to(y=to, animate=False, immediate=True)

    # --- keys -------------------------------------------------------------------------------------------

    def action_move(self, by: int, rows: int) -> None:
        """Move the cursor; a jump of two rows means a page."""
        if abs(rows) == 2:
            rows = (1 if rows > 0 else -1) * self._down()
        self._go(self.cursor + by + rows * self.across)

    def action_half(self, by: int) -> None:
        """Move the cursor by half pages."""
        self._go(self.cursor + by * max(1, self._down() // 2) * self.across)

    def action_ends(self, last: int) -> None:
        """To the first or the last picture."""
        self._go(self.count - 1 if last else 0)

    def action_size(self, by: int) -> None:
        """Larger or smaller thumbnails."""
        before = self.across
        while 0 <= self._zoom + by < len(_SIZES) and self.across == before:  # each step shows
            self._zoom += by
        self._fit()
        self._into_view()
        self.refresh()

    def action_choose(self) -> None:
        """Tell that the picture under the cursor is wanted."""
        if self.count:
            self.post_message(LineList.Chosen(self, self.cursor))

    def _go(self, to: int) -> None:
        if self.count:
            self.cursor = max(0, min(to, self.count - 1))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a second one on the same picture chooses it."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        columns, rows = self.cell
        place = (offset.y + self.scroll_offset.y) // (rows + 1) * self.across + offset.x // (columns + _GAP)
        if place < self.count:
            if place == self.cursor and event.chain == 2:
                self.action_choose()
            self.cursor = place

    # --- drawing ----------------------------------------------------------------------------------------

    def refresh_place(self, index: int) -> None:
        """Paint one picture again."""
        wide, high = self.cell
        row, column = divmod(index, self.across)
        top = row * (high + 1) - self.scroll_offset.y
        self.refresh(Region(column * (wide + _GAP), top, wide, high + 1))

    def refresh_pictures(self, paths: Container[Path]) -> None:
        """Paint some pictures again where they are in sight."""
        for index, row in enumerate(self._shown[self.in_sight], self.in_sight.start):
            if row.known.path in paths:
                self.refresh_place(index)

    def render_line(self, y: int) -> Strip:
        """One line across the grid."""
        across, columns, rows, width = self._measure()
        base = self.visual_style.rich_style
        if not self.count:
            lines = [part for line in self.empty.split("\n") for part in text.wrap(line, max(10, width - 4))]
            at = y - max(0, (self.size.height - len(lines)) // 3)
            words = "  " + lines[at] if 0 <= at < len(lines) else ""
            return strip([(words, palette(self).muted)], width, base)
        band, line = divmod(y + self.scroll_offset.y, rows + 1)
        shown = self._shown
        parts: list[Strip] = []
        for place in range(band * across, min((band + 1) * across, self.count, len(shown))):
            if parts:
                parts.append(blank(_GAP, base))
            if line == rows:
                parts.append(self._label(shown[place], place, columns, base))
            else:
                parts += self._thumb(shown[place], place, line, base)
        room = width - sum(part.cell_length for part in parts)
        return Joined([*parts, blank(max(0, room), base)])

    def _label(self, picture: PictureRow, place: int, columns: int, base: Style) -> Strip:
        colours, app = palette(self), cast("LoratuiApp", self.app)
        here = place == self.cursor
        name = text.plain(picture.known.path.stem if columns < 16 else picture.known.path.name)
        flags = signs(picture, app.data_settings, app.library.calm)
        tail = "".join(s.sign for s in flags[:3]) + (f"★{picture.stars}" if picture.stars else "")
        head = "●" if picture.marked else ""
        room = max(1, columns - len(head) - (len(tail) + 1 if tail else 0))
        tint = colours.red if picture.known.code else colours.accent if here else colours.muted
        pieces = [(head, colours.accent), (text.fit(name, room), tint), (" " if tail else "", None)]
        back = (colours.cursor if self.has_focus else colours.cursor_idle) if here else Style()
        return strip([*pieces, (tail, colours.amber)], columns, base + back)

    def _thumb(self, picture: PictureRow, place: int, line: int, base: Style) -> list[Strip]:
        colours = palette(self)
        columns, rows = self.cell
        path, code = picture.known.path, picture.known.code
        made = None if code else self.thumbnails.get(path, columns, rows, picture.frame)
        if made:
            at = line - (rows - len(made)) // 2
            body = made[at] if 0 <= at < len(made) else blank(columns, base)
            left = (columns - body.cell_length) // 2
            drawn = [blank(left, base), body, blank(max(0, columns - left - body.cell_length), base)]
        elif line == rows // 2:
            broken = bool(code) or made == []
            mark = ("✖" if broken else "·").center(columns)
            drawn = [strip([(mark, colours.red if broken else colours.faint)], columns, base)]
        else:
            drawn = [blank(columns, base)]
        if place != self.cursor:
            return drawn
        # the cursor: corners in the accent, the picture itself stays untouched in its middle
        edge = {0: "▛▜", rows - 1: "▙▟"}.get(line, "▌▐")
        tint = base + (colours.accent if self.has_focus else colours.muted)
        inner = Joined(drawn).crop(1, columns - 1)
        return [strip([(edge[0], tint)], 1, base), inner, strip([(edge[1], tint)], 1, base)]
