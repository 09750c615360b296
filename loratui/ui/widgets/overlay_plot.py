"""The smoothed losses of several runs over one another, a colour each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.style import Style

from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas
from loratui.ui.widgets.plot_axis import Axis, nice, value_labels
from loratui.ui.widgets.plot_columns import Columns, Curve, Grid

_LABEL = 7
MOST = 5
"""Curves that can be told apart."""


def tints(colours: Palette) -> list[Style]:
    """The colour of each curve, in order."""
    return [colours.accent, colours.amber, colours.green, colours.red, colours.bold]


class OverlayPlot(Canvas):
    """Curves over steps; where two cross, the one that is named first is on top."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.curves: Sequence[Curve] = ()
        self.log_scale = False

    def show(self, curves: Sequence[Curve]) -> None:
        """Draw these, at most `MOST`."""
        self.curves = curves[:MOST]
        self.redraw()

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """All curves on one scale."""
        span = max([curve.xs[-1] for curve in self.curves if len(curve.xs)], default=0.0)
        left, rows = _LABEL, max(1, height - 1)
        columns = max(1, width - left)
        reduced: list[Columns] = []
        for curve in self.curves:
            reduced.append(Columns())
            reduced[-1].reduce(curve, columns * 2, max(span, 1.0))
        values = [v for c in reduced for v in (*c.low, *c.high) if math.isfinite(v)]
        values = [v for v in values if v > 0] if self.log_scale else values
        if not values:
            return [[("no step was trained".center(width), colours.muted)]]
        low, high = self._limits(values)
        drawn: list[list[list[int]]] = []
        grid = Grid(columns, rows, low, high, self.log_scale)
        for each in reduced:
            grid.fill(each, joined=True)
            drawn.append(grid.take())
        labels, styles = value_labels(low, high, rows, self.log_scale), tints(colours)
        out: list[Row] = []
        for y in range(rows):
            row: Row = [(labels.get(y, "").rjust(left - 1) + " ", colours.muted)]
            for x in range(columns):
                top = next((n for n, cells in enumerate(drawn) if cells[y][x]), None)
                row.append((" ", None) if top is None else (chr(0x2800 + drawn[top][y][x]), styles[top]))
            out.append(row)
        return [*out, [(" " * left, None), (Axis(span=max(span, 1.0)).line(columns), colours.muted)]]

    def _limits(self, values: list[float]) -> tuple[float, float]:
        low, high = min(values), max(values)
        if self.log_scale:
            return 10 ** math.floor(math.log10(low)), 10 ** (math.floor(math.log10(high)) + 1)
        step = nice((high - min(0.0, low)) / 4)
        return math.floor(min(0.0, low) / step) * step, max(math.ceil(high / step) * step, step)
