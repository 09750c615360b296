"""The curves of a run: a second fold of its events, in memory that does not grow with the steps."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from loratui.runs.events import Event
from loratui.runs.pace import SMOOTHING
from loratui.runs.series import Series, Smoothed
from loratui.runs.steps import Record, Step, as_event, decode

PARTS = ("data", "optimizer")
"""The parts of a step that have a curve; forward and backward are what is left."""
_NAMES = ("loss", "validation", "grad_norm", "speed", "memory")
_CURVED = frozenset({"opened", "validation", "quarters", "memory", "step"})
_BESIDE = frozenset({"quarters", "memory"})
"""Kinds that touch no curve that a step touches."""
_LARGEST = 2**53


class Curves:
    """Series over steps, in the order the events came; a resumed attempt replaces what it does again.

    Attributes:
        loss: step, loss of that step (nan and inf included).
        smooth: step, exponential mean of the finite losses.
        validation: step, validation loss.
        quarters: step, mean loss of each quarter of the timesteps, clean to noisy.
        lr: group -> step, learning rate.
        grad_norm: step, gradient norm.
        speed: step, seconds that step took.
        parts: part of a step -> step, seconds.
        memory: step, GiB: allocated on the device, or resident for a run on the CPU.
        partial: whether only the newest points are here, the older ones being read.
        started_at: unix time of the first event.
    """

    def __init__(self) -> None:
        self.loss, self.validation, self.grad_norm = Series(), Series(), Series()
        self.speed, self.memory = Series(), Series()
        self.lr: dict[str, Series] = {}
        self.quarters: list[Series] = [Series() for _ in range(4)]
        self.parts: dict[str, Series] = {}
        self.attempt = 0
        self.partial = False
        self.started_at = 0.0
        self._smooth = Smoothed(SMOOTHING)

    @property
    def smooth(self) -> Smoothed:
        """The smoothed loss as `fold` has it, exact while no points were joined."""
        return self._smooth.follow(self.loss)

    def apply(self, event: Event) -> None:
        """Take in one event; kinds without a curve are ignored."""
        attempt = event.get("a", self.attempt)
        if not isinstance(attempt, int) or attempt < self.attempt:
            return
        self.attempt = attempt
        kind, t = event.get("kind"), _number(event.get("t")) or 0.0
        self.started_at = self.started_at or t
        if kind == "step":
            self._step(event, t)
        elif kind == "validation":
            _add(self.validation, event.get("step"), event.get("loss"), t)
        elif kind == "quarters":
            losses = event.get("loss")
            for series, loss in zip(self.quarters, losses if isinstance(losses, list) else (), strict=False):
                _add(series, event.get("step"), loss, t)
        elif kind == "memory":
            point = _used(event, self.loss.xs[-1] if self.loss.xs else 0.0)
            if point is not None:
                _add(self.memory, *point)
        elif kind == "opened":
            self._rewind(event.get("from_step", 0))

    def _step(self, event: Event, t: float) -> None:
        step = event.get("step")
        _add(self.grad_norm, step, event.get("grad_norm"), t)
        _add(self.speed, step, event.get("step_s"), t)
        rates, times = event.get("lr"), event.get("times")
        for group, rate in rates.items() if isinstance(rates, dict) else (("", rates),):
            if rate is not None:
                _add(self.lr.setdefault(group, Series()), step, rate, t)
        for part in PARTS:
            if isinstance(times, dict) and part in times:
                _add(self.parts.setdefault(part, Series()), step, times[part], t)
        _add(self.loss, step, event.get("loss"), t)

    def read(self, lines: Iterable[bytes]) -> int:
        """Take in whole lines of a journal; returns how many were not sound."""
        records, bad = decode(lines)
        self.take(records)
        return bad

    def take(self, records: Iterable[Record]) -> None:
        """Take in many records at once: just what `apply` makes of one after the other."""
        steps: list[Step] = []
        beside: list[list[tuple[float, float, float]]] = [[] for _ in range(5)]
        last, attempt = self.loss.xs[-1] if self.loss.xs else 0.0, self.attempt
        for record in records:
            if isinstance(record, Step):
                if record.step >= last and record.a >= attempt:
                    last, attempt = record.step, record.a
                    steps.append(record)
                    continue
                record = as_event(record)
            kind = record["kind"]
            if (self.started_at or steps) and record.get("a") == attempt:
                if kind not in _CURVED:
                    continue
                if kind in _BESIDE:
                    _set_aside(record, last, beside)
                    continue
            self._extend(steps, beside)
            steps, beside = [], [[] for _ in range(5)]
            self.apply(record)
            last, attempt = self.loss.xs[-1] if self.loss.xs else 0.0, self.attempt
        self._extend(steps, beside)

    def _extend(self, steps: Sequence[Step], beside: Sequence[Sequence[tuple[float, float, float]]]) -> None:
        """Append steps, and the points of each quarter and of memory."""
        for series, points in zip((*self.quarters, self.memory), beside, strict=True):
            if points:
                _append(series, *(list(column) for column in zip(*points, strict=True)))
        if not steps:
            return
        self.attempt = steps[-1].a
        self.started_at = self.started_at or steps[0].t
        xs, ts = [float(s.step) for s in steps], [s.t for s in steps]
        _append(self.loss, xs, [s.loss for s in steps], ts)
        _append(self.grad_norm, xs, [s.grad_norm for s in steps], ts)
        _append(self.speed, xs, [s.step_s for s in steps], ts)
        times = [s.times for s in steps]
        _append(self.parts.setdefault("data", Series()), xs, [t.data for t in times], ts)
        _append(self.parts.setdefault("optimizer", Series()), xs, [t.optimizer for t in times], ts)
        rows = [s.lr for s in steps]
        alike = sum(map(len, rows)) == len(rows[0]) * len(rows)
        for group in rows[0] if alike else dict.fromkeys(group for row in rows for group in row):
            series = self.lr.setdefault(group, Series())
            try:
                _append(series, xs, [row[group] for row in rows], ts)
            except KeyError:
                found = [(x, row[group], t) for x, row, t in zip(xs, rows, ts, strict=True) if group in row]
                _append(series, *(list(column) for column in zip(*found, strict=True)))

    def series(self) -> Iterator[Series]:
        """All of them."""
        yield from (getattr(self, name) for name in _NAMES)
        yield from self.quarters
        yield from self.lr.values()
        yield from self.parts.values()

    def _rewind(self, step: Any) -> None:
        if not isinstance(step, int | float) or isinstance(step, bool):
            step = 0
        for series in self.series():
            series.cut(step)

    def packed(self) -> dict[str, Any]:
        """The curves as plain values and bytes, for a cache on this machine."""
        made: dict[str, Any] = {name: getattr(self, name).packed() for name in _NAMES}
        for name in ("lr", "parts"):
            made[name] = {key: series.packed() for key, series in getattr(self, name).items()}
        made["quarters"] = [series.packed() for series in self.quarters]
        return {**made, "attempt": self.attempt, "started_at": self.started_at}

    @classmethod
    def unpacked(cls, made: dict[str, Any]) -> Curves:
        """The inverse of `packed`.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        curves = cls()
        for name in _NAMES:
            setattr(curves, name, Series.unpacked(made[name]))
        for name in ("lr", "parts"):
            setattr(curves, name, {str(k): Series.unpacked(v) for k, v in made[name].items()})
        curves.quarters = [Series.unpacked(each) for each in made["quarters"]]
        curves.attempt, curves.started_at = int(made["attempt"]), float(made["started_at"])
        return curves


def _append(series: Series, xs: list[float], ys: list[float], ts: list[float]) -> None:
    """Append points in order of x; those that go back behind the newest there are left out."""
    if series.xs and xs[0] < series.xs[-1]:
        at = bisect_left(xs, series.xs[-1])
        xs, ys, ts = xs[at:], ys[at:], ts[at:]
    if xs:
        series.extend(xs, ys, ts)


def _set_aside(event: Event, at: float, beside: Sequence[list[tuple[float, float, float]]]) -> None:
    """Keep the points of a quarters or memory event: a list for each quarter, one for memory."""
    if event["kind"] == "memory":
        points = [(_used(event, at), beside[-1])]
    else:
        losses, step, t = event.get("loss"), _number(event.get("step")), _number(event.get("t")) or 0.0
        values = map(_number, losses if isinstance(losses, list) else ())
        points = [
            (None if value is None or step is None or not abs(step) <= _LARGEST else (step, value, t), kept)
            for value, kept in zip(values, beside[:4], strict=False)
        ]
    for point, kept in points:
        if point is not None and (not kept or point[0] >= kept[-1][0]):
            kept.append(point)


def _used(event: Event, at: float) -> tuple[float, float, float] | None:
    """(step, GiB, unix time) of a memory event: allocated on the device, else resident."""
    used = event.get("allocated_gib")
    step, value = _number(event.get("step", at)), _number(event.get("rss_gib") if used is None else used)
    if step is None or value is None or not abs(step) <= _LARGEST:
        return None
    return step, value, _number(event.get("t")) or 0.0


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isinstance(value, float) or abs(value) <= _LARGEST else None


def _add(series: Series, x: Any, y: Any, t: float) -> None:
    """Append a point of numbers, unless it goes back in x."""
    step, value = _number(x), _number(y)
    if step is None or value is None or not abs(step) <= _LARGEST:
        return
    if series.xs and step < series.xs[-1]:
        return
    series.add(step, value, t)


def decimate(
    xs: Sequence[float], lows: Sequence[float], columns: int, highs: Sequence[float] | None = None
) -> list[tuple[float, float, float]]:
    """At most `columns` points (x, lowest y, highest y) of equal width in x: no spike is lost.

    Args:
        xs: must not fall.
        lows: y, or the least y of each point.
        columns: how many at most.
        highs: the greatest y of each point; `lows` when None.

    Returns:
        Columns with finite values; the others are left out.
    """
    if columns < 1 or not xs:
        return []
    highs = lows if highs is None else highs
    first, last = xs[0], xs[-1]
    width = (last - first) / columns
    points = []
    begin = 0
    for column in range(columns):
        edge = first + width * (column + 1)
        end = len(xs) if column == columns - 1 else bisect_left(xs, edge, begin)
        low = [y for y in lows[begin:end] if math.isfinite(y)]
        high = [y for y in highs[begin:end] if math.isfinite(y)]
        if low and high:
            points.append((xs[begin + (end - begin) // 2], min(low), max(high)))
        begin = end
    return points
