"""A plot in braille dots: curves over one another, marks, a linear or logarithmic scale, a cursor.

Over the whole run the x axis spans all its steps, so that a new point touches one column and costs a few
bytes. Every dot column keeps the least and the greatest value that fall into it, so that no spike is lost
however many points there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType

from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas
from loratui.ui.widgets.plot_axis import Axis, nice, short, value_labels
from loratui.ui.widgets.plot_columns import Columns, Curve, Grid

__all__ = ["Axis", "Columns", "Curve", "Layer", "Plot"]

_LABEL = 7


@dataclass(slots=True)
class Layer:
    """One curve of a plot; later ones lie on top.

    Attributes:
        name: in the legend and at the cursor.
        curve: its points.
        tint: its style in the palette.
        joined: a line instead of dots.
        spiky: single values far out are drawn at the edge and do not stretch the scale.
    """

    name: str
    curve: Curve
    tint: str = "accent"
    joined: bool = True
    spiky: bool = False
    columns: Columns = field(default_factory=Columns)


class Plot(Canvas):
    """Layers over one axis, marks as rings."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "cursor(-1)", "Cursor left", show=False),
        Binding("right,l", "cursor(1)", "Cursor right", show=False),
        Binding("home", "cursor(-9999)", "Cursor to the start", show=False),
        Binding("end", "cursor(9999)", "Cursor to the end", show=False),
        Binding("escape", "cursor(0)", "No cursor", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.drawn_layers: list[Layer] = []
        self.marks: Sequence[tuple[float, float]] = ()
        self.axis = Axis()
        self.log_scale = False
        self.from_zero = True
        self.empty = ""
        self.cursor: int | None = None
        """Column under the cursor."""
        self._width = 0

    def show(self, layers: Iterable[Layer], marks: Sequence[tuple[float, float]], axis: Axis) -> None:
        """Draw these curves over `axis`; marks are (x, y)."""
        kept = {layer.name: layer.columns for layer in self.drawn_layers}
        self.drawn_layers = list(layers)
        for layer in self.drawn_layers:
            layer.columns = kept.get(layer.name, layer.columns)
        self.marks, self.axis = marks, axis
        self.redraw()

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """The plot with its axes in `width` x `height` cells."""
        if not any(len(layer.curve.xs) for layer in self.drawn_layers):
            return _say(self.empty, width, height, colours)
        left = _LABEL if width > 30 else 0
        columns, rows = max(1, width - left), max(1, height - 1)
        self._width = columns
        for layer in self.drawn_layers:
            layer.columns.reduce(layer.curve, columns * 2, self.axis.span, self.axis.origin)
        low, high = self._range()
        grid = Grid(columns, rows, low, high, self.log_scale)
        drawn: list[tuple[list[list[int]], Style]] = []
        for layer in self.drawn_layers:
            grid.fill(layer.columns, joined=layer.joined)
            drawn.append((grid.take(), getattr(colours, layer.tint)))
        shares = (((x - self.axis.origin) / self.axis.span, y) for x, y in self.marks)
        rings = {grid.cell(x, y) for x, y in shares if grid.shows(y) and 0 <= x <= 1}
        out: list[Row] = []
        labels = value_labels(low, high, rows, self.log_scale) if left else {}
        for y in range(rows):
            row: Row = [(labels.get(y, "").rjust(left - 1) + " ", colours.muted)] if left else []
            out.append(row + _cells(y, drawn, rings, self.cursor, colours))
        out.append([(" " * left, None), (self.axis.line(columns), colours.muted)])
        return out

    def _range(self) -> tuple[float, float]:
        """Limits that hold the lines and nearly all spiky values, rounded so that they rest."""
        lows, highs = [], []
        for layer in self.drawn_layers:
            low = [v for v in layer.columns.low if math.isfinite(v) and (v > 0 or not self.log_scale)]
            high = sorted(v for v in layer.columns.high if math.isfinite(v) and (v > 0 or not self.log_scale))
            if low and high:
                lows.append(min(low))
                # one spike must not flatten the curve: it is drawn at the upper edge
                highs.append(high[min(len(high) - 1, int(0.97 * len(high)))] if layer.spiky else high[-1])
        if not lows:
            return (0.001, 1.0) if self.log_scale else (0.0, 1.0)
        low_end, high_end = min(lows), max(highs)
        if self.log_scale:
            low_power = math.floor(2 * math.log10(low_end)) / 2
            high_power = math.ceil(2 * math.log10(high_end)) / 2
            return 10**low_power, 10 ** max(high_power, low_power + 0.5)
        floor = min(0.0, low_end) if self.from_zero else low_end
        step = nice((high_end - floor) / 4)
        bottom = math.floor(floor / step) * step
        return bottom, max(math.ceil(high_end / step) * step, bottom + step)

    # the cursor

    def action_cursor(self, by: int) -> None:
        """Move the cursor, which begins at the newest column; 0 takes it away."""
        if not by or not self._width:
            self.cursor = None
        elif self.cursor is None:
            self.cursor = self._last_column()
        else:
            self.cursor = max(0, min(self._width - 1, self.cursor + by))
        self.redraw()
        self.after_cursor()

    def after_cursor(self) -> None:
        """The cursor was moved."""

    def _last_column(self) -> int:
        last = max((layer.curve.xs[-1] for layer in self.drawn_layers if len(layer.curve.xs)), default=0.0)
        share = (last - self.axis.origin) / self.axis.span if self.axis.span else 0.0
        return max(0, min(self._width - 1, int(share * self._width)))

    def under_cursor(self) -> list[tuple[str, str]]:
        """Where the cursor is, then name and value of each curve there."""
        if self.cursor is None or not self._width:
            return []
        middle = self.axis.origin + (self.cursor + 0.5) / self._width * self.axis.span
        found = [("", self.axis.say(middle))]
        for layer in self.drawn_layers:
            cells = slice(2 * self.cursor, 2 * self.cursor + 2)
            low = [v for v in layer.columns.low[cells] if math.isfinite(v)]
            high = [v for v in layer.columns.high[cells] if math.isfinite(v)]
            if low and high:
                least, most = short(min(low)), short(max(high))
                found.append((layer.name, least if least == most else f"{least}–{most}"))
        return found


def _cells(
    y: int,
    drawn: Sequence[tuple[list[list[int]], Style]],
    rings: set[tuple[int, int]],
    cursor: int | None,
    colours: Palette,
) -> Row:
    """One row of cells; where curves cross, the upper one is seen."""
    row: Row = []
    run, style = "", None
    lines = [(cells[y], tint) for cells, tint in reversed(drawn)]
    for x in range(len(lines[0][0])):
        char, wanted = " ", None
        if rings and (y, x) in rings:
            char, wanted = "○", colours.bold
        else:
            for line, tint in lines:
                if line[x]:
                    char, wanted = chr(0x2800 + line[x]), tint
                    break
            else:
                if x == cursor:
                    char, wanted = "│", colours.amber
        if wanted is not style and run:
            row.append((run, style))
            run = ""
        style = wanted
        run += char
    row.append((run, style))
    return row


def _say(message: str, width: int, height: int, colours: Palette) -> list[Row]:
    rows: list[Row] = [[] for _ in range(max(0, height // 2))]
    rows.append([(message.center(width)[:width], colours.muted)])
    return rows
