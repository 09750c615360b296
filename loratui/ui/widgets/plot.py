"""A line plot in braille dots: raw and smoothed values, marks, a linear or logarithmic scale.

The x axis spans the whole run, so that a new point touches one column and costs a few bytes. Every dot
column keeps the least and the greatest value that fall into it, so that no spike is lost however many
points there are.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.style import Style

from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_LABEL = 7


@dataclass(slots=True)
class Curve:
    """One curve: x ascending, y of the same length; NaN and Inf leave a gap."""

    xs: Sequence[float] = ()
    ys: Sequence[float] = ()


@dataclass(slots=True)
class Columns:
    """A curve reduced to dot columns; only what came after the last reduction is looked at again."""

    width: int = 0
    span: float = 0.0
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    seen: int = 0
    last_x: float = -math.inf

    def reduce(self, curve: Curve, width: int, span: float) -> None:
        """Bring the columns up to date with `curve` over 0..span."""
        count = len(curve.xs)
        if (width, span) != (self.width, self.span) or count < self.seen or self._rewritten(curve):
            self.width, self.span, self.seen = width, span, 0
            self.low, self.high = [math.inf] * width, [-math.inf] * width
        start = self.seen
        while start < count:
            column = self._column(curve.xs[start])
            edge = (column + 1) * span / width if width else 0.0
            end = bisect_left(curve.xs, edge, start + 1) if column < width - 1 else count
            finite = [y for y in curve.ys[start:end] if math.isfinite(y)]
            if finite:
                self.low[column] = min(self.low[column], min(finite))
                self.high[column] = max(self.high[column], max(finite))
            start = end
        self.seen = count
        self.last_x = curve.xs[count - 1] if count else -math.inf

    def _rewritten(self, curve: Curve) -> bool:
        """A resumed run may replace points: then the last seen point is another."""
        return bool(self.seen) and curve.xs[self.seen - 1] != self.last_x

    def _column(self, x: float) -> int:
        return max(0, min(self.width - 1, int(x / self.span * self.width))) if self.span else 0


class Plot(Canvas):
    """Raw values faint, the smoothed curve in the accent, validation as rings."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.raw = Curve()
        self.smooth = Curve()
        self.marks: Sequence[tuple[float, float]] = ()
        self.span = 1.0
        self.log_scale = False
        self.empty = ""
        self._raw_columns = Columns()
        self._smooth_columns = Columns()
        self._limits: tuple[float, float] = (0.0, 1.0)

    def show(self, raw: Curve, smooth: Curve, marks: Sequence[tuple[float, float]], span: float) -> None:
        """Draw these curves over 0..span."""
        self.raw, self.smooth, self.marks = raw, smooth, marks
        self.span = max(span, 1.0)
        self.redraw()

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """The plot with its axes in `width` x `height` cells."""
        if not self.raw.xs:
            return _say(self.empty, width, height, colours)
        left = _LABEL if width > 30 else 0
        columns, rows = max(1, width - left), max(1, height - 1)
        self._raw_columns.reduce(self.raw, columns * 2, self.span)
        self._smooth_columns.reduce(self.smooth, columns * 2, self.span)
        low, high = self._range()
        grid = _Grid(columns, rows, low, high, self.log_scale)
        grid.fill(self._raw_columns, joined=False)
        raw_cells = grid.take()
        grid.fill(self._smooth_columns, joined=True)
        smooth_cells = grid.take()
        rings = {grid.cell(x / self.span, y) for x, y in self.marks if grid.shows(y)}
        out: list[Row] = []
        labels = _labels(low, high, rows, self.log_scale) if left else {}
        for y in range(rows):
            row: Row = [(labels.get(y, "").rjust(left - 1) + " ", colours.muted)] if left else []
            out.append(row + _cells(y, raw_cells[y], smooth_cells[y], rings, colours))
        out.append([(" " * left, None), (_axis(columns, self.span), colours.muted)])
        return out

    def _range(self) -> tuple[float, float]:
        """Limits that hold the smoothed curve and nearly all raw values, rounded so that they rest."""
        lows = [v for v in self._raw_columns.low if math.isfinite(v)]
        highs = sorted(v for v in self._raw_columns.high if math.isfinite(v))
        tops = [v for v in self._smooth_columns.high if math.isfinite(v)]
        if self.log_scale:
            lows, highs = [v for v in lows if v > 0], [v for v in highs if v > 0]
            tops = [v for v in tops if v > 0]
        if not lows or not highs:
            return (0.001, 1.0) if self.log_scale else (0.0, 1.0)
        # one spike must not flatten the curve: it is drawn at the upper edge
        high = max([highs[min(len(highs) - 1, int(0.97 * len(highs)))], *tops])
        if self.log_scale:
            low_power = math.floor(2 * math.log10(min(lows))) / 2
            high_power = math.ceil(2 * math.log10(high)) / 2
            return 10**low_power, 10 ** max(high_power, low_power + 0.5)
        low = min(0.0, *lows)
        step = _nice((high - low) / 4)
        return math.floor(low / step) * step, max(math.ceil(high / step) * step, step)


class _Grid:
    """A field of braille dots over a range of values."""

    def __init__(self, columns: int, rows: int, low: float, high: float, log: bool) -> None:
        self.columns, self.rows, self.log_scale = columns, rows, log
        self.low = math.log10(low) if log else low
        self.high = math.log10(high) if log else high
        self.cells = [[0] * columns for _ in range(rows)]

    def take(self) -> list[list[int]]:
        """What was drawn; the grid is empty again."""
        drawn, self.cells = self.cells, [[0] * self.columns for _ in range(self.rows)]
        return drawn

    def shows(self, value: float) -> bool:
        """Whether `value` has a place on the scale."""
        return math.isfinite(value) and (value > 0 or not self.log_scale)

    def dot(self, value: float) -> int:
        """The dot row of `value`, 0 at the top; values beyond the limits lie on the edge."""
        shown = math.log10(value) if self.log_scale else value
        share = (self.high - shown) / ((self.high - self.low) or 1.0)
        return max(0, min(self.rows * 4 - 1, int(share * (self.rows * 4 - 1) + 0.5)))

    def cell(self, x: float, value: float) -> tuple[int, int]:
        """(row, column) of the cell of a point, x from 0 to 1."""
        return self.dot(value) // 4, max(0, min(self.columns - 1, int(x * self.columns)))

    def fill(self, data: Columns, joined: bool) -> None:
        """Draw each column from its least to its greatest value; `joined` closes the gaps between columns."""
        before: tuple[int, int, int] | None = None
        for x, (low, high) in enumerate(zip(data.low, data.high, strict=True)):
            if not (self.shows(high) and self.shows(low)):
                continue
            top, bottom = self.dot(high), self.dot(low)
            if joined and before is not None:
                self._join(before, (x, top, bottom))
            for y in range(top, bottom + 1):
                self._set(x, y)
            before = (x, top, bottom)

    def _join(self, before: tuple[int, int, int], now: tuple[int, int, int]) -> None:
        """A straight line between the middles of two columns."""
        x0, y0 = before[0], (before[1] + before[2]) / 2
        x1, y1 = now[0], (now[1] + now[2]) / 2
        steps = max(1, x1 - x0, round(abs(y1 - y0)))
        for step in range(1, steps):
            self._set(round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps))

    def _set(self, x: int, y: int) -> None:
        self.cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]


def _cells(y: int, raw: list[int], smooth: list[int], rings: set[tuple[int, int]], colours: Palette) -> Row:
    """One row of cells; where the smoothed curve passes, the raw dots give way to it."""
    row: Row = []
    run, style = "", None
    for x, (dim, bright) in enumerate(zip(raw, smooth, strict=True)):
        char, wanted = _cell(dim, bright, (y, x) in rings, colours)
        if wanted is not style and run:
            row.append((run, style))
            run = ""
        style = wanted
        run += char
    row.append((run, style))
    return row


def _cell(dim: int, bright: int, ring: bool, colours: Palette) -> tuple[str, Style | None]:
    if ring:
        return "○", colours.bold
    if bright:
        return chr(0x2800 + bright), colours.accent
    return (chr(0x2800 + dim), colours.faint) if dim else (" ", None)


def _nice(step: float) -> float:
    """The next of 1, 2, 2.5, 5 x 10^n."""
    if step <= 0 or not math.isfinite(step):
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * 0.999)


def _labels(low: float, high: float, rows: int, log: bool) -> dict[int, str]:
    """Row -> value for the left axis: top, bottom and what lies between when there is room."""
    parts = 4 if rows >= 13 else 2 if rows >= 5 else 1
    out: dict[int, str] = {}
    for part in range(parts + 1):
        share = part / parts
        if log:
            value = 10 ** (math.log10(high) + (math.log10(low) - math.log10(high)) * share)
        else:
            value = high + (low - high) * share
        out[round(share * (rows - 1))] = _short(value)
    return out


def _short(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1000 or abs(value) < 0.001:
        return f"{value:.0e}"
    return f"{value:.3f}"[:5].rstrip("0").rstrip(".") if abs(value) < 10 else f"{value:.0f}"


def _axis(columns: int, span: float) -> str:
    """The labels below: 0, some round steps, the last step."""
    marks = 4 if columns >= 48 else 2 if columns >= 24 else 1
    last = f"{round(span):,}"
    line = [" "] * columns
    line[0] = "0"
    line[max(1, columns - len(last)) :] = last[-columns + 1 :]
    if span >= marks:
        step = _nice(span / marks)
        at = step
        while at < span:
            label = f"{round(at):,}"
            start = int(at / span * columns) - len(label) // 2
            fits = start > 1 and start + len(label) + 1 < columns - len(last)
            if fits and all(c == " " for c in line[start - 1 : start + len(label) + 1]):
                line[start : start + len(label)] = label
            at += step
    return "".join(line)[:columns]


def _say(message: str, width: int, height: int, colours: Palette) -> list[Row]:
    rows: list[Row] = [[] for _ in range(max(0, height // 2))]
    rows.append([(message.center(width)[:width], colours.muted)])
    return rows
