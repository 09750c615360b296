"""The curves of a run: a second fold of its events, in memory that does not grow with the steps."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from loratui.runs.events import NON_FINITE, Event, decode_line, sound
from loratui.runs.fold import SMOOTHING
from loratui.runs.series import Series, Smoothed

PARTS = ("data", "optimizer")
"""The parts of a step that have a curve; forward and backward are what is left."""
_NAMES = ("loss", "validation", "grad_norm", "speed", "memory")
_CURVED = frozenset({"opened", "validation", "quarters", "memory", "step"})
_STEP = b'"kind":"step"'
_LARGEST = 2**53


class _Times(msgspec.Struct, gc=False):
    """Seconds of the parts that have a curve."""

    data: float | None = None
    optimizer: float | None = None


class _Step(msgspec.Struct, gc=False):
    """What a curve needs of a step event."""

    kind: str
    step: int
    a: int | None = None
    t: float = 0.0
    loss: float | str | None = None
    lr: dict[str, float] | float | None = None
    grad_norm: float | str | None = None
    step_s: float | None = None
    times: _Times | None = None


_decoder = msgspec.json.Decoder(_Step)


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
            used = event.get("allocated_gib")
            at = self.loss.xs[-1] if self.loss.xs else 0.0
            _add(self.memory, event.get("step", at), event.get("rss_gib") if used is None else used, t)
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
        """Take in whole lines of a journal, many at once; returns how many were not sound."""
        bad = 0
        steps: list[_Step] = []
        for line in lines:
            step = _step_of(line)
            if step is not None:
                steps.append(step)
                continue
            event = decode_line(line)
            if event is None:
                bad += 1
                continue
            if event["kind"] in _CURVED:  # in order with the steps before it
                self._take(steps)
                steps = []
            if event["kind"] in _CURVED or not self.started_at:
                self.apply(event)
        self._take(steps)
        return bad

    def _take(self, steps: Sequence[_Step]) -> None:
        """Many step events at once."""
        if not steps:
            return
        last = self.loss.xs[-1] if self.loss.xs else -math.inf
        kept = []
        for step in steps:
            attempt = self.attempt if step.a is None else step.a
            if step.step < last or attempt < self.attempt or step.step > _LARGEST:
                continue
            self.attempt, last = attempt, step.step
            kept.append(step)
        if not kept:
            return
        self.started_at = self.started_at or kept[0].t
        xs, ts = [float(s.step) for s in kept], [s.t for s in kept]
        _extend(self.loss, xs, [s.loss for s in kept], ts)
        _extend(self.grad_norm, xs, [s.grad_norm for s in kept], ts)
        _extend(self.speed, xs, [s.step_s for s in kept], ts)
        for group, rates in _columns([_rates(s) for s in kept]).items():
            _extend(self.lr.setdefault(group, Series()), xs, rates, ts)
        for part in PARTS:
            seconds = [None if s.times is None else getattr(s.times, part) for s in kept]
            if seconds.count(None) < len(seconds):
                _extend(self.parts.setdefault(part, Series()), xs, seconds, ts)

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


def _step_of(line: bytes) -> _Step | None:
    """A step event of a kind that this version writes; None for all other lines."""
    if line.find(_STEP, 0, 96) < 0 or not sound(line):
        return None
    try:
        return _decoder.decode(line)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None


def _rates(step: _Step) -> dict[str, float]:
    if step.lr is None:
        return {}
    return step.lr if isinstance(step.lr, dict) else {"": step.lr}


def _columns(rows: Sequence[dict[str, float]]) -> dict[str, list[float | None]]:
    """Each key of the rows with its values, None where a row lacks it."""
    try:
        names: Iterable[str] = rows[0]
        if all(len(row) == len(rows[0]) for row in rows):
            return {name: [row[name] for row in rows] for name in names}
    except KeyError:
        pass
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _extend(series: Series, xs: list[float], ys: Sequence[float | str | None], ts: list[float]) -> None:
    """Append the points that have a number."""
    try:
        series.extend(xs, [float(y) for y in ys], ts)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        found = [
            (x, NON_FINITE.get(y) if isinstance(y, str) else y, t) for x, y, t in zip(xs, ys, ts, strict=True)
        ]
        whole = [(x, float(y), t) for x, y, t in found if y is not None]
        if whole:
            series.extend(*(list(column) for column in zip(*whole, strict=True)))


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
