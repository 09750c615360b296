"""Curves reduced to the dot columns of a plot, and the braille dots themselves."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loratui.runs.series import Series, Smoothed

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@dataclass(slots=True)
class Curve:
    """One curve: x ascending, y of the same length; NaN and Inf leave a gap.

    Attributes:
        xs, ys: the points, or the means of buckets of them.
        low, high: least and greatest values of the buckets; `ys` when empty.
        generation: another number says that older points changed.
    """

    xs: Sequence[float] = ()
    ys: Sequence[float] = ()
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    generation: int = 0

    @classmethod
    def of(cls, series: Series, by_time: bool = False) -> Curve:
        """All points of a series, over steps or over time."""
        xs = series.ts if by_time else series.xs
        return cls(xs, series.ys, series.low, series.high, series.generation)

    @classmethod
    def line(cls, smoothed: Smoothed, by_time: bool = False) -> Curve:
        """A smoothed series, over steps or over time."""
        xs = smoothed.ts if by_time else smoothed.xs
        return cls(xs, smoothed.ys, generation=smoothed.generation)


@dataclass(slots=True)
class Columns:
    """A curve reduced to dot columns; only what came after the last reduction is looked at again."""

    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    seen: int = 0
    _key: tuple[object, ...] = ()
    _last_x: float = -math.inf

    def reduce(self, curve: Curve, width: int, span: float, origin: float = 0.0) -> None:
        """Bring the columns up to date with `curve` over origin..origin + span."""
        xs, low, high = curve.xs, curve.low or curve.ys, curve.high or curve.ys
        count = len(xs)
        key = (width, span, origin, curve.generation)
        if key != self._key or count < self.seen or (self.seen and xs[self.seen - 1] < self._last_x):
            self._key, self.seen = key, 0
            self.low, self.high = [math.inf] * width, [-math.inf] * width
        start = max(self.seen - 1, bisect_left(xs, origin), 0)  # the last one may have grown
        while start < count and width:
            column = max(0, min(width - 1, int((xs[start] - origin) / span * width))) if span else 0
            edge = origin + (column + 1) * span / width
            end = bisect_left(xs, edge, start + 1) if column < width - 1 else count
            finite = [y for y in low[start:end] if math.isfinite(y)]
            if finite:
                self.low[column] = min(self.low[column], min(finite))
            finite = [y for y in high[start:end] if math.isfinite(y)]
            if finite:
                self.high[column] = max(self.high[column], max(finite))
            start = end
        self.seen = count
        self._last_x = xs[count - 1] if count else -math.inf


class Grid:
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
