"""Samples as a grid: a row a prompt, a column a step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from loratui.runs.state import Sample
from loratui.ui import figures, text
from loratui.ui.drawing import strip
from loratui.ui.painted import AsDrawn, Joined
from loratui.ui.theme import palette
from loratui.ui.widgets.thumbnails import Thumbnails

_SIZES = (8, 12, 16, 24, 36, 54)
_GAP = 2


class SampleGrid(Widget, can_focus=True):
    """Half-block pictures with a cursor; new steps come at the right and leave the cursor where it is."""

    DEFAULT_CSS = "SampleGrid { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(-1, 0)", "Step before", show=False),
        Binding("right,l", "move(1, 0)", "Next step", show=False),
        Binding("up,k", "move(0, -1)", "Prompt above", show=False),
        Binding("down,j", "move(0, 1)", "Prompt below", show=False),
        Binding("home,g", "edge(0)", "First step", show=False),
        Binding("end,G", "edge(1)", "Newest step", show=False),
        Binding("plus,equals_sign", "size(1)", "larger", id="samples.larger", tooltip="Larger pictures"),
        Binding("minus", "size(-1)", "smaller", id="samples.smaller", tooltip="Smaller pictures"),
    ]

    class Moved(Message):
        """The cursor stands on another sample, or none."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._thumbnails = Thumbnails(self)
        self._root = Path()
        self._cells: dict[tuple[int, int], Sample] = {}
        self._steps: list[int] = []
        self._prompts: list[str] = []
        self._column = 0
        self._row = 0
        self._left = 0
        self._top = 0
        self._zoom = 2
        self.empty = ""
        self._styles_cache = AsDrawn()

    def show(self, root: Path, samples: Sequence[Sample]) -> None:
        """Show these samples of the run at `root`; a cursor on the newest step follows it."""
        at_end = self._column >= len(self._steps) - 1
        step = self._steps[self._column] if self._steps and not at_end else None
        if root != self._root:
            self._column = self._row = self._left = self._top = 0
            step, at_end, self._root = None, True, root
        self._cells = {(s.step, s.index): s for s in samples}
        self._steps = sorted({s.step for s in samples})
        count = max((s.index for s in samples), default=-1) + 1
        self._prompts = [""] * count
        for sample in samples:
            self._prompts[sample.index] = sample.prompt
        self._column = self._steps.index(step) if step in self._steps else max(0, len(self._steps) - 1)
        self._row = max(0, min(self._row, count - 1))
        self._into_view()
        self.refresh()
        self.post_message(self.Moved())

    @property
    def current(self) -> Sample | None:
        """The sample under the cursor."""
        if not self._steps:
            return None
        return self._cells.get((self._steps[self._column], self._row))

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
        self._left = max(0, min(self._left, self._column, max(0, len(self._steps) - across)))
        self._left = max(self._left, self._column - across + 1)
        self._top = max(0, min(self._top, self._row))
        self._top = max(self._top, self._row - down + 1)

    def action_move(self, across: int, down: int) -> None:
        """Move the cursor."""
        self._column = max(0, min(len(self._steps) - 1, self._column + across))
        self._row = max(0, min(len(self._prompts) - 1, self._row + down))
        self._into_view()
        self.refresh()
        self.post_message(self.Moved())

    def action_edge(self, last: int) -> None:
        """To the first or the newest step."""
        self.action_move(len(self._steps) if last else -len(self._steps), 0)

    def action_size(self, by: int) -> None:
        """Larger or smaller pictures."""
        self._zoom = max(0, min(len(_SIZES) - 1, self._zoom + by))
        self._into_view()
        self.refresh()

    def on_resize(self) -> None:
        """Other pictures may be in sight."""
        self._into_view()
        self.refresh()  # the new size may have been painted already, from the old place

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the picture that was clicked."""
        offset = event.get_content_offset(self)
        if offset is None or not self._steps:
            return
        columns, rows = self._cell
        self._column = min(len(self._steps) - 1, self._left + offset.x // (columns + _GAP))
        self._row = min(len(self._prompts) - 1, self._top + max(0, offset.y - 1) // (rows + 1))
        self.action_move(0, 0)

    def render_line(self, y: int) -> Strip:
        """One line across the grid."""
        self._into_view()  # of the size that is painted: a resize may come after the paint, or before steps
        width, _ = self.content_size
        base, colours = self.visual_style.rich_style, palette(self)
        if not self._steps:
            lines = text.wrap(self.empty, max(10, width - 2))
            return strip([(lines[y] if y < len(lines) else "", colours.muted)], width, base)
        columns, rows = self._cell
        across, _ = self._in_sight()
        steps = self._steps[self._left : self._left + across]
        if y == 0:
            return self._heading(steps, columns, width)
        row, line = divmod(y - 1, rows + 1)
        row += self._top
        if row >= len(self._prompts):
            return Strip.blank(width, base)
        if line == rows:
            here = row == self._row
            label = f"{row + 1} {text.plain(self._prompts[row])}"
            return strip([(text.crop(label, width), colours.accent if here else colours.muted)], width, base)
        parts: list[Strip] = []
        for place, step in enumerate(steps):
            if place:
                parts.append(Strip.blank(_GAP, base))
            parts.append(self._picture(step, row, line, columns, rows))
        room = width - sum(part.cell_length for part in parts)
        return Joined([*parts, Strip.blank(max(0, room), base)]).crop(0, width)

    def _heading(self, steps: Sequence[int], columns: int, width: int) -> Strip:
        base, colours = self.visual_style.rich_style, palette(self)
        pieces: list[tuple[str, Style | None]] = []
        for step in steps:
            label = "base" if step == 0 else figures.count(step)
            here = step == self._steps[self._column]
            tint = colours.accent + Style(bold=True) if here else colours.muted
            pieces += [(label[:columns].ljust(columns + _GAP), tint)]
        return strip(pieces, width, base)

    def _picture(self, step: int, row: int, line: int, columns: int, rows: int) -> Strip:
        base, colours = self.visual_style.rich_style, palette(self)
        sample = self._cells.get((step, row))
        here = row == self._row and step == self._steps[self._column]
        if sample is None:
            return strip([("·".center(columns) if line == rows // 2 else "", colours.faint)], columns, base)
        made = self._thumbnails.get(self._root / sample.path, columns, rows)
        if not made:
            words = "" if made is None else "unreadable"
            return strip([(words[:columns] if line == 0 else "", colours.muted)], columns, base)
        at = line - (rows - len(made)) // 2
        body = made[at] if 0 <= at < len(made) else Strip.blank(columns, base)
        drawn = Joined([body, Strip.blank(max(0, columns - body.cell_length), base)])
        if not here:
            return drawn
        # the cursor: corners in the accent, the picture itself stays untouched in its middle
        edge = {0: "▛▜", rows - 1: "▙▟"}.get(line, "▌▐")
        mark = base + (colours.accent if self.has_focus else colours.muted)
        inner = drawn.crop(1, columns - 1)
        return Joined([strip([(edge[0], mark)], 1, base), inner, strip([(edge[1], mark)], 1, base)])
