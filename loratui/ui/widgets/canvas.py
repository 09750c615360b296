"""Base of the widgets that draw rows of text themselves."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from loratui.ui.drawing import Row, changed_cells, strip
from loratui.ui.theme import Palette, palette
from loratui.ui.titles import set_title


class Canvas(Widget):
    """Draws its rows with `draw` and repaints only the cells that changed.

    A page of panels repainted whole four times a second would send 45 KB/s; the cells that changed
    are a few dozen bytes.
    """

    DEFAULT_CSS = "Canvas { height: 1fr; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._drawn: list[Strip] = []
        self._drawn_for: tuple[int, int, str] = (0, 0, "")

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """The rows of a picture of `width` x `height` cells; fewer rows leave the rest empty."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw again after the data changed, and repaint what differs."""
        if not self.is_mounted or not self.size:
            return
        old, key = self._drawn, self._drawn_for
        new = self._paint()
        if key != self._drawn_for or len(old) != len(new):
            self.refresh()
            return
        for y, (before, after) in enumerate(zip(old, new, strict=True)):
            if span := changed_cells(before, after):
                self.refresh(Region(span[0], y, span[1] - span[0], 1))

    def entitle(self, title: Content | None = None, subtitle: Content | None = None) -> None:
        """Set the words in the border; only the lines of those that differ are painted."""
        if title is not None:
            set_title(self, title)
        if subtitle is not None:
            set_title(self, subtitle, below=True)

    def _paint(self) -> list[Strip]:
        width, height = self.content_size
        base = self.visual_style.rich_style
        rows = self.draw(width, height, palette(self)) if width > 0 and height > 0 else []
        self._drawn = [strip(row, width, base) for row in rows[:height]]
        self._drawn += [Strip.blank(width, base)] * (height - len(self._drawn))
        self._drawn_for = (width, height, self.app.theme)
        return self._drawn

    def notify_style_update(self) -> None:
        """Colours may have changed: forget what was drawn."""
        super().notify_style_update()
        self._drawn_for = (0, 0, "")

    def render_line(self, y: int) -> Strip:
        """One line of the content, for the compositor."""
        width, height = self.content_size
        if self._drawn_for != (width, height, self.app.theme):
            self._paint()
        return self._drawn[y] if y < len(self._drawn) else Strip.blank(width, self.visual_style.rich_style)
