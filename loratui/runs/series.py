"""A curve of any length in bounded memory: exact while it is short, then buckets with their extremes.

Buckets are aligned to x, so the same points give the same buckets however they came: read at once, live, or
partly from a cache.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import le
from typing import Any

MOST = 2048
"""Points of a series before neighbours are joined; a quarter of them stays at least."""
TAIL = 8192
"""Newest points that are kept one by one beside the buckets."""
_BULK = 256
_COLUMNS = ("xs", "ys", "low", "high", "counts", "ts")


class Series:
    """Points in order of x.

    Attributes:
        xs: x of the last point of each bucket.
        ys: mean of its finite values; a point by itself is kept as it is, nan and inf included.
        low, high: least and greatest of them; inf and -inf where none is finite.
        counts: how many of them there are.
        ts: unix time of its last point, never falling.
        width: x that a bucket spans, a power of two; 0 while every point stands by itself.
        generation: rises when older points changed, so that a reader has to begin again.
        tail: the newest points one by one, once there are buckets; see `recent`.
    """

    __slots__ = ("_late", "counts", "generation", "high", "low", "tail", "ts", "width", "xs", "ys")

    def __init__(self) -> None:
        self.xs, self.ys, self.low, self.high = array("d"), array("d"), array("d"), array("d")
        self.counts, self.ts = array("d"), array("d")
        self.width = 0
        self.generation = 0
        self.tail: Series | None = None
        self._late: list[tuple[Sequence[float], ...]] = []  # what the tail has not yet been given

    def __len__(self) -> int:
        return len(self.xs)

    @property
    def recent(self) -> Series:
        """The newest points, none of them joined."""
        if self.tail is None:
            return self
        late, self._late = self._late, []
        for xs, ys, ts in late:
            self.tail._append(xs, ys, ts)
        if len(self.tail.xs) > 2 * TAIL:
            self.tail._forget(len(self.tail.xs) - TAIL)
        return self.tail

    def add(self, x: float, y: float, t: float = 0.0) -> None:
        """Append a point."""
        self.extend((x,), (y,), (t,))

    def extend(self, xs: Sequence[float], ys: Sequence[float], ts: Sequence[float]) -> None:
        """Append points, in order of x and not before the last one."""
        at = 0
        while self.tail is None and at < len(xs):
            room = max(1, MOST + 1 - len(self.xs))
            self._append(xs[at : at + room], ys[at : at + room], ts[at : at + room])
            at += room
            if len(self.xs) > MOST:
                self._join()
        if self.tail is None or at >= len(xs):
            return
        self._late.append((xs[at:], ys[at:], ts[at:]))
        if len(xs) < _BULK:
            _ = self.recent
        elif sum(len(late[0]) for late in self._late[1:]) >= TAIL:  # of a journal that is read at once
            self.tail._forget(len(self.tail.xs))
            del self._late[0]
        while at < len(xs):
            at = self._fill(xs, ys, ts, at)
            if len(self.xs) > MOST:
                self._join()

    def _append(self, xs: Sequence[float], ys: Sequence[float], ts: Sequence[float]) -> None:
        """Each point by itself."""
        last = self.ts[-1] if self.ts else -math.inf
        self.xs.extend(xs)
        self.ys.extend(ys)
        if math.isfinite(sum(ys)) and ts[0] >= last and all(map(le, ts, ts[1:])):  # the usual case, at once
            self.low.extend(ys)
            self.high.extend(ys)
            self.counts.extend([1.0] * len(ys))
            self.ts.extend(ts)
            return
        for y, t in zip(ys, ts, strict=True):
            finite = math.isfinite(y)
            self.low.append(y if finite else math.inf)
            self.high.append(y if finite else -math.inf)
            self.counts.append(1.0 if finite else 0.0)
            last = max(last, t)
            self.ts.append(last)

    def _fill(self, xs: Sequence[float], ys: Sequence[float], ts: Sequence[float], at: int) -> int:
        """Add the points of one bucket from `at` on; returns the first one beyond it."""
        bucket = int(xs[at] // self.width)
        end = bisect_left(xs, (bucket + 1) * self.width, at + 1)
        part: Sequence[float] = ys[at:end]
        total = sum(part)
        if not math.isfinite(total):
            part = [y for y in part if math.isfinite(y)]
            total = sum(part)
        count = len(part)
        low, high = (min(part), max(part)) if count else (math.inf, -math.inf)
        if not self.xs or int(self.xs[-1] // self.width) != bucket:
            before = self.ts[-1] if self.ts else -math.inf
            self.xs.append(xs[end - 1])
            self.ys.append(total / count if count else math.nan)
            self.low.append(low)
            self.high.append(high)
            self.counts.append(count)
            self.ts.append(max(before, ts[end - 1]))
            return end
        self.xs[-1], self.ts[-1] = xs[end - 1], max(self.ts[-1], ts[end - 1])
        if count:
            known = self.counts[-1]
            mean = self.ys[-1] if known else 0.0
            self.counts[-1] = known + count
            self.ys[-1] = (mean * known + total) / (known + count)
            self.low[-1], self.high[-1] = min(self.low[-1], low), max(self.high[-1], high)
        return end

    def _join(self) -> None:
        """Make the buckets four times as wide, or as wide as leaves three quarters of the room free."""
        if self.tail is None:
            self.tail = Series()
            for name in _COLUMNS:
                getattr(self.tail, name).extend(getattr(self, name))
        old = {name: getattr(self, name) for name in _COLUMNS}
        self.generation += 1
        xs, count = old["xs"], len(old["xs"])
        span = xs[-1] - xs[0]
        self.width = max(1, self.width * 4, 1 << max(0, math.ceil(math.log2(max(1.0, span / (MOST // 4))))))
        for name in _COLUMNS:
            setattr(self, name, array("d"))
        at = 0
        while at < count:
            end = bisect_left(xs, (int(xs[at] // self.width) + 1) * self.width, at + 1)
            weights = old["counts"][at:end]
            known = sum(weights)
            sums = (y * w for y, w in zip(old["ys"][at:end], weights, strict=True) if w)
            self.xs.append(xs[end - 1])
            self.ys.append(sum(sums) / known if known else math.nan)
            self.low.append(min(old["low"][at:end]))
            self.high.append(max(old["high"][at:end]))
            self.counts.append(known)
            self.ts.append(old["ts"][end - 1])
            at = end

    def _forget(self, count: int) -> None:
        for name in _COLUMNS:
            del getattr(self, name)[:count]
        self.generation += 1

    def cut(self, beyond: float) -> None:
        """Drop the points with x > `beyond`; a bucket that reaches beyond it goes as a whole."""
        end = bisect_right(self.xs, beyond)
        if end < len(self.xs):
            for name in _COLUMNS:
                del getattr(self, name)[end:]
            self.generation += 1
        if self.tail is not None:
            self.recent.cut(beyond)

    def packed(self) -> dict[str, Any]:
        """The series as plain values and bytes, for a cache on this machine."""
        made: dict[str, Any] = {name: getattr(self, name).tobytes() for name in _COLUMNS}
        return {**made, "width": self.width, "tail": None if self.tail is None else self.recent.packed()}

    @classmethod
    def unpacked(cls, made: dict[str, Any]) -> Series:
        """The inverse of `packed`.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        series = cls()
        for name in _COLUMNS:
            getattr(series, name).frombytes(made[name])
        if len({len(getattr(series, name)) for name in _COLUMNS}) != 1 or not isinstance(made["width"], int):
            raise ValueError("columns of different lengths")
        series.width = made["width"]
        series.tail = None if made["tail"] is None else cls.unpacked(made["tail"])
        return series


class Smoothed:
    """The exponential mean of a series, brought up to date at little cost.

    Attributes:
        factor: of each point to the next; 0 is the series itself.
        xs, ys, ts: a point for each bucket that has finite values.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self._restart(None)

    def _restart(self, series: Series | None) -> None:
        self.xs, self.ys, self.ts = array("d"), array("d"), array("d")
        self.generation = getattr(self, "generation", 0) + 1
        self._of = series
        self._its_generation = series.generation if series is not None else 0
        self._total = self._weight = 0.0
        self._done = 0  # buckets that cannot change any more
        self._open = False  # whether the last point is of one that can

    def __len__(self) -> int:
        return len(self.xs)

    def follow(self, series: Series) -> Smoothed:
        """Bring the curve up to date with `series`; returns itself."""
        count = len(series.xs)
        changed = series is not self._of or series.generation != self._its_generation
        if changed or self._done > count:
            self._restart(series)
        elif self._open:  # the newest bucket has grown
            for column in (self.xs, self.ys, self.ts):
                del column[-1]
        self._open = False
        for at in range(self._done, count):
            n = series.counts[at]
            if n:
                fade = self.factor**n
                gain = (1 - fade) / (1 - self.factor) if self.factor < 1 else n
                total = self._total * fade + series.ys[at] * gain
                weight = self._weight * fade + gain
                self.xs.append(series.xs[at])
                self.ys.append(total / weight)
                self.ts.append(series.ts[at])
                self._open = at == count - 1
                if not self._open:
                    self._total, self._weight = total, weight
        self._done = max(0, count - 1)
        return self
