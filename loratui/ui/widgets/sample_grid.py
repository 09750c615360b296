"""Samples as a grid: a row a prompt, a column a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from loratui.runs.sheet import Column, Sheet, sheet, title
from loratui.runs.state import Sample
from loratui.ui import text
from loratui.ui.drawing import strip
from loratui.ui.painted import AsDrawn, Joined
from loratui.ui.theme import palette
from loratui.ui.widgets.thumbnails import Thumbnails

_SIZES = (8, 12, 16, 24, 36, 54)
_GAP = 2
_STAR = "★"


class SampleGrid(Widget, can_focus=True):
    """Half-block pictures with a cursor; new steps come at the right and leave the cursor where it is.

    Until somebody moves the cursor it stays on the newest step, and so again after `edge`.
    """

    DEFAULT_CSS = "SampleGrid { height: 1fr; }"

    class Moved(Message):
        """The cursor stands on another sample, or none."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._thumbnails = Thumbnails(self)
        self._root = Path()
        self._samples: list[Sample] = []
        self.sheet = Sheet()
        self.column = 0
        self.row = 0
        self._newest = True
        self._left = 0
        self._top = 0
        self._zoom = 2
        self._letters: dict[Column, str] = {}
        self._starred: frozenset[str] = frozenset()
        self.empty = ""
        self._styles_cache = AsDrawn()

    def show(self, root: Path, samples: Sequence[Sample]) -> None:
        """Show these samples of the run at `root`; nothing is painted when they are the same."""
        if root == self._root and self._samples == samples and self._samples:
            return
        before = self.current
        column = self.sheet.columns[self.column] if self.sheet.columns else None
        line = self.sheet.lines[self.row] if self.sheet.lines else None
        if root != self._root:
            column, line, self._newest, self._root = None, None, True, root
            self.row = self._left = self._top = 0
        self._samples, self.sheet = list(samples), sheet(samples)
        columns, lines = self.sheet.columns, self.sheet.lines
        if self._newest or column not in columns:
            self.column = max(0, len(columns) - 1)
        else:
            self.column = columns.index(column)
        self.row = lines.index(line) if line in lines else max(0, min(self.row, len(lines) - 1))
        self._into_view()
        self.refresh()
        if self.current != before or before is None:
            self.post_message(self.Moved())

    def decorate(self, letters: Mapping[Column, str], starred: frozenset[str]) -> None:
        """Letters before the headings of columns, and the paths of the favourites."""
        if (dict(letters), starred) != (self._letters, self._starred):
            self._letters, self._starred = dict(letters), starred
            self.refresh()

    @property
    def current(self) -> Sample | None:
        """The sample under the cursor."""
        return self.sheet.at(self.column, self.row)

    @property
    def _cell(self) -> tuple[int, int]:
        """Cells of one picture: columns, rows; wider than the pane never."""
        width, height = self.content_size
        columns = min(_SIZES[self._zoom], max(4, width - _GAP))
        return columns, max(2, min(columns // 2, height - 2))

    def _in_sight(self) -> tuple[int, int]:
        width, height = self.content_size
        columns, rows = self._cell
        return max(1, (width + _GAP) // (columns + _GAP)), max(1, (height - 1) // (rows + 1))

    def _into_view(self) -> None:
        across, down = self._in_sight()
        self._left = max(0, min(self._left, self.column, max(0, len(self.sheet.columns) - across)))
        self._left = max(self._left, self.column - across + 1)
        self._top = max(0, min(self._top, self.row))
        self._top = max(self._top, self.row - down + 1)

    def move(self, across: int, down: int) -> None:
        """Move the cursor."""
        self.go(self.column + across, self.row + down)

    def go(self, column: int, row: int) -> None:
        """Put the cursor on a place, or the nearest there is."""
        self._newest = False
        self.column = max(0, min(len(self.sheet.columns) - 1, column))
        self.row = max(0, min(len(self.sheet.lines) - 1, row))
        self._into_view()
        self.refresh()
        self.post_message(self.Moved())

    def edge(self, last: bool) -> None:
        """To the first step, or to the newest and stay with it."""
        self.go(len(self.sheet.columns) if last else 0, self.row)
        self._newest = last

    def size_by(self, by: int) -> None:
        """Larger or smaller pictures."""
        self._zoom = max(0, min(len(_SIZES) - 1, self._zoom + by))
        self._into_view()
        self.refresh()

    def fit(self) -> None:
        """The largest pictures with which all of them are in sight, or the smallest there are."""
        width, height = self.content_size
        columns, lines = len(self.sheet.columns), len(self.sheet.lines)
        fitting = [
            n for n, cells in enumerate(_SIZES)
            if columns * (cells + _GAP) - _GAP <= width and 1 + lines * (cells // 2 + 1) <= height
        ]  # fmt: skip
        self._zoom = max(fitting, default=0)
        self._left = self._top = 0
        self._into_view()
        self.refresh()

    def on_resize(self) -> None:
        """Other pictures may be in sight."""
        self._into_view()
        self.refresh()  # the new size may have been painted already, from the old place

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the picture that was clicked."""
        offset = event.get_content_offset(self)
        if offset is None or not self.sheet.columns:
            return
        columns, rows = self._cell
        self.go(self._left + offset.x // (columns + _GAP), self._top + max(0, offset.y - 1) // (rows + 1))

    def render_line(self, y: int) -> Strip:
        """One line across the grid."""
        self._into_view()  # of the size that is painted: a resize may come after the paint, or before steps
        width, _ = self.content_size
        base, colours = self.visual_style.rich_style, palette(self)
        if not self.sheet.columns:
            lines = text.wrap(self.empty, max(10, width - 2))
            return strip([(lines[y] if y < len(lines) else "", colours.muted)], width, base)
        columns, rows = self._cell
        across, _ = self._in_sight()
        shown = range(self._left, min(self._left + across, len(self.sheet.columns)))
        if y == 0:
            return self._heading(shown, columns, width)
        row, line = divmod(y - 1, rows + 1)
        row += self._top
        if row >= len(self.sheet.lines):
            return Strip.blank(width, base)
        if line == rows:
            here = row == self.row
            label = f"{row + 1} {text.plain(self.sheet.lines[row][1])}"
            return strip([(text.crop(label, width), colours.accent if here else colours.muted)], width, base)
        parts: list[Strip] = []
        for column in shown:
            if parts:
                parts.append(Strip.blank(_GAP, base))
            parts.append(self._picture(column, row, line, columns, rows))
        room = width - sum(part.cell_length for part in parts)
        return Joined([*parts, Strip.blank(max(0, room), base)]).crop(0, width)

    def _heading(self, shown: range, columns: int, width: int) -> Strip:
        base, colours = self.visual_style.rich_style, palette(self)
        pieces: list[tuple[str, Style | None]] = []
        for number in shown:
            column = self.sheet.columns[number]
            letter = self._letters.get(column, "")
            room = columns
            if letter:
                pieces.append((f"{letter} ", colours.amber + Style(bold=True)))
                room -= len(letter) + 1
            here = number == self.column
            tint = colours.accent + Style(bold=True) if here else colours.muted
            pieces.append((text.fit(text.plain(title(column)), room) + " " * _GAP, tint))
        return strip(pieces, width, base)

    def _picture(self, column: int, row: int, line: int, columns: int, rows: int) -> Strip:
        base, colours = self.visual_style.rich_style, palette(self)
        sample = self.sheet.at(column, row)
        here = row == self.row and column == self.column
        if sample is None:
            drawn = strip([("·".center(columns) if line == rows // 2 else "", colours.faint)], columns, base)
        else:
            drawn = self._drawn(sample, line, columns, rows)
        starred = sample is not None and line == 0 and sample.path in self._starred
        if not here:
            return self._star(drawn) if starred else drawn
        # the cursor: corners in the accent, the picture itself stays untouched in its middle
        edge = {0: "▛▜", rows - 1: "▙▟"}.get(line, "▌▐")
        mark = base + (colours.accent if self.has_focus else colours.muted)
        inner = drawn.crop(1, columns - 1)
        if starred:
            inner = self._star(inner)
        return Joined([strip([(edge[0], mark)], 1, base), inner, strip([(edge[1], mark)], 1, base)])

    def _star(self, drawn: Strip) -> Strip:
        """A line of a picture that ends in a star."""
        base, colours = self.visual_style.rich_style, palette(self)
        left = max(0, drawn.cell_length - 3)
        return Joined([drawn.crop(0, left), strip([(f" {_STAR} ", colours.amber)], 3, base)])

    def _drawn(self, sample: Sample, line: int, columns: int, rows: int) -> Strip:
        """One line of a picture, `columns` wide."""
        base, colours = self.visual_style.rich_style, palette(self)
        made = self._thumbnails.get(self._root / sample.path, columns, rows)
        if not made:
            words = "" if made is None else "unreadable"
            return strip([(words[:columns] if line == 0 else "", colours.muted)], columns, base)
        at = line - (rows - len(made)) // 2
        body = made[at] if 0 <= at < len(made) else Strip.blank(columns, base)
        return Joined([body, Strip.blank(max(0, columns - body.cell_length), base)])
