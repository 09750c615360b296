"""What stands below and beside a plot: round numbers of steps, epochs, hours or values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from loratui.ui import figures

Kind = Literal["step", "epoch", "time", "clock"]
KINDS: tuple[Kind, ...] = ("step", "epoch", "time")


@dataclass(frozen=True, slots=True)
class Axis:
    """What x means.

    Attributes:
        kind: step; epoch; time since the start; clock, for the last minutes.
        origin: x at the left edge: a step, or unix time.
        span: x from edge to edge.
        per: x of one epoch.
    """

    kind: Kind = "step"
    origin: float = 0.0
    span: float = 1.0
    per: float = 1.0

    def label(self, x: float) -> str:
        """`x` as people read it."""
        if self.kind == "epoch":
            return f"{x / self.per:g}" if self.per else "0"
        if self.kind == "time":
            return elapsed(x - self.origin)
        if self.kind == "clock":
            return figures.clock(x)[:5]
        return f"{round(x):,}"

    def say(self, x: float) -> str:
        """`x` in words, for the cursor."""
        if self.kind == "epoch":
            return f"epoch {x / self.per:.2f}" if self.per else ""
        if self.kind == "time":
            return f"after {figures.duration(x - self.origin)}"
        return figures.clock(x) if self.kind == "clock" else f"step {round(x):,}"

    def line(self, columns: int) -> str:
        """The labels below a plot: its edges and some round places between."""
        marks = 4 if columns >= 48 else 2 if columns >= 24 else 1
        first, last = self.label(self.origin), self.label(self.origin + self.span)
        line = [" "] * columns
        line[: len(first)] = first
        line[max(1, columns - len(last)) :] = last[-columns + 1 :]
        unit = self.per if self.kind == "epoch" else 1.0
        step = (_nice_seconds if self.kind in {"time", "clock"} else nice)(self.span / unit / marks) * unit
        if self.kind in {"step", "epoch"}:
            step = max(step, unit)
        base = 0.0 if self.kind != "time" else self.origin
        at = base + (math.floor((self.origin - base) / step) + 1) * step
        while at < self.origin + self.span:
            label = self.label(at)
            start = int((at - self.origin) / self.span * columns) - len(label) // 2
            fits = start > len(first) and start + len(label) + 1 < columns - len(last)
            if fits and all(c == " " for c in line[start - 1 : start + len(label) + 1]):
                line[start : start + len(label)] = label
            at += step
        return "".join(line)[:columns]


def elapsed(seconds: float) -> str:
    """90 -> `1:30 min`, 5400 -> `1:30 h`, short enough for an axis."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 5400:
        return f"{whole // 60}:{whole % 60:02d}" if whole % 60 else f"{whole // 60} min"
    hours, rest = divmod(whole // 60, 60)
    return f"{hours}:{rest:02d} h" if rest else f"{hours} h"


def nice(step: float) -> float:
    """The next of 1, 2, 2.5, 5 x 10^n."""
    if step <= 0 or not math.isfinite(step):
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * 0.999)


def _nice_seconds(step: float) -> float:
    """The next of round seconds, minutes, hours."""
    rounds = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
    return next((float(r) for r in rounds if r >= step * 0.999), nice(step / 86400) * 86400)


def round_up(seconds: float) -> float:
    """A span of time that rests while the time goes on: the next of some round ones."""
    for unit in (60.0, 3600.0, 86400.0):
        for many in (1, 2, 3, 5, 10, 15, 20, 30, 45) if unit == 60.0 else (1, 2, 3, 4, 6, 8, 12, 16, 20):
            if seconds <= many * unit:
                return many * unit
    return nice(seconds)


def value_labels(low: float, high: float, rows: int, log: bool) -> dict[int, str]:
    """Row -> value for the left axis: top, bottom and what lies between when there is room."""
    parts = 4 if rows >= 13 else 2 if rows >= 5 else 1
    out: dict[int, str] = {}
    for part in range(parts + 1):
        share = part / parts
        if log:
            value = 10 ** (math.log10(high) + (math.log10(low) - math.log10(high)) * share)
        else:
            value = high + (low - high) * share
        out[round(share * (rows - 1))] = short(value)
    return out


def short(value: float) -> str:
    """A value in at most six cells."""
    if value == 0:
        return "0"
    if abs(value) >= 1000 or abs(value) < 0.001:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.3f}"[:5].rstrip("0").rstrip(".") if abs(value) < 10 else f"{value:.0f}"
