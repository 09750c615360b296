"""The curves of a run: a second fold of its events, kept apart because it grows with the steps."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

from loratui.runs.events import Event
from loratui.runs.fold import SMOOTHING


class Series:
    """Points in order of x, as two arrays."""

    def __init__(self) -> None:
        self.xs = array("d")
        self.ys = array("d")

    def __len__(self) -> int:
        return len(self.xs)

    def add(self, x: float, y: float) -> None:
        """Append a point."""
        self.xs.append(x)
        self.ys.append(y)

    def cut(self, beyond: float) -> None:
        """Drop the points with x > `beyond`."""
        end = bisect_right(self.xs, beyond)
        del self.xs[end:]
        del self.ys[end:]


class Curves:
    """Series over steps, in the order the events came; a resumed attempt replaces what it does again.

    Attributes:
        loss: step, loss of that step (nan and inf included).
        smooth: step, exponential mean of the finite losses.
        validation: step, validation loss.
        lr: group -> step, learning rate.
        grad_norm: step, gradient norm.
        speed: step, seconds that step took.
        memory: step, GiB: allocated on the device, or resident for a run on the CPU.
        times: step, unix time of the event.
    """

    def __init__(self) -> None:
        self.loss = Series()
        self.smooth = Series()
        self.validation = Series()
        self.lr: dict[str, Series] = {}
        self.grad_norm = Series()
        self.speed = Series()
        self.memory = Series()
        self.times = Series()
        self.attempt = 0
        self._weights = array("d")  # the weight of each smoothed point, to go on from any of them

    def apply(self, event: Event) -> None:
        """Take in one event; kinds without a curve are ignored."""
        attempt = event.get("a", self.attempt)
        if not isinstance(attempt, int) or attempt < self.attempt:
            return
        self.attempt = attempt
        kind = event.get("kind")
        if kind == "step":
            self._step(event)
        elif kind == "validation":
            self._add(self.validation, event.get("step"), event.get("loss"))
        elif kind == "memory":
            used = event.get("allocated_gib")
            at = self.loss.xs[-1] if self.loss.xs else 0.0
            self._add(self.memory, event.get("step", at), event.get("rss_gib") if used is None else used)
        elif kind == "opened":
            self._rewind(event.get("from_step", 0))

    def _step(self, event: Event) -> None:
        step, loss = event.get("step"), event.get("loss")
        self._add(self.times, step, event.get("t"))
        self._add(self.grad_norm, step, event.get("grad_norm"))
        self._add(self.speed, step, event.get("step_s"))
        rates = event.get("lr")
        for group, rate in rates.items() if isinstance(rates, dict) else (("", rates),):
            if rate is not None:
                self._add(self.lr.setdefault(group, Series()), step, rate)
        if not self._add(self.loss, step, loss):
            return
        assert isinstance(loss, int | float)
        if math.isfinite(loss):
            weight = self._weights[-1] if self._weights else 0.0
            mean = self.smooth.ys[-1] if self.smooth.ys else 0.0
            now = weight * SMOOTHING + 1
            self.smooth.add(self.loss.xs[-1], (mean * weight * SMOOTHING + loss) / now)
            self._weights.append(now)

    @staticmethod
    def _add(series: Series, x: Any, y: Any) -> bool:
        """Append a point of numbers, unless it goes back in x."""
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (x, y))
        if not numbers or not abs(x) <= 2**53 or (isinstance(y, int) and abs(y) > 2**53):
            return False
        if series.xs and x < series.xs[-1]:
            return False
        series.add(float(x), float(y))
        return True

    def _rewind(self, step: Any) -> None:
        if not isinstance(step, int | float) or isinstance(step, bool):
            step = 0
        measured = (
            self.loss,
            self.smooth,
            self.validation,
            self.grad_norm,
            self.speed,
            self.memory,
            self.times,
        )
        for series in (*measured, *self.lr.values()):
            series.cut(step)
        del self._weights[len(self.smooth) :]


def decimate(xs: Sequence[float], ys: Sequence[float], columns: int) -> list[tuple[float, float, float]]:
    """At most `columns` points (x, lowest y, highest y) of equal width in x: no spike is lost.

    Non-finite ys are left out; columns without points too. `xs` must not fall.
    """
    if columns < 1 or not xs:
        return []
    first, last = xs[0], xs[-1]
    width = (last - first) / columns
    points = []
    begin = 0
    for column in range(columns):
        edge = first + width * (column + 1)
        end = len(xs) if column == columns - 1 else bisect_left(xs, edge, begin)
        part: Sequence[float] = ys[begin:end]
        if not part:
            continue
        if not math.isfinite(sum(part)):
            part = [y for y in part if math.isfinite(y)]
        if part:
            points.append((xs[begin + (end - begin) // 2], min(part), max(part)))
        begin = end
    return points
