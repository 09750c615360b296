"""Loss curves as SVG, drawn by hand: a few hundred points a curve, whatever the run's length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from loratui.runs.curves import Curves, decimate
from loratui.runs.series import Series, Smoothed

_WIDTH, _HEIGHT = 880, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 36
_COLUMNS = 400


def loss_svg(curves: Curves) -> str:
    """Raw loss as a band, its mean and the validation loss as lines; empty when there is no point."""
    raw = decimate(curves.loss.xs, curves.loss.low, _COLUMNS, curves.loss.high)
    smooth, held = _line(curves.smooth), _line(curves.validation)
    heights = [y for _, y in (*smooth, *held)] or [y for _, low, high in raw for y in (low, high)]
    if not raw or not heights:
        return ""
    last = max(raw[-1][0], 1.0)
    low, high = _range(heights, [y for _, a, b in raw for y in (a, b)])

    def place(x: float, y: float) -> str:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / last
        up = (min(max(y, low), high) - low) / (high - low)
        return f"{across:.1f},{_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * up:.1f}"

    parts = [*_axes(low, high, last)]
    band = [place(x, top) for x, _, top in raw] + [place(x, bottom) for x, bottom, _ in reversed(raw)]
    parts.append(f'<polygon class="raw" points="{" ".join(band)}"/>')
    for name, points in (("smooth", smooth), ("held", held)):
        if points:
            parts.append(f'<polyline class="{name}" points="{" ".join(place(x, y) for x, y in points)}"/>')
    body = "\n".join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="loss by step">\n{body}\n</svg>'


def _line(series: Series | Smoothed) -> list[tuple[float, float]]:
    return [(x, (low + high) / 2) for x, low, high in decimate(series.xs, series.ys, _COLUMNS)]


def _range(lines: Sequence[float], band: Sequence[float]) -> tuple[float, float]:
    """What is shown: the lines whole, of the band what is not far out."""
    ordered = sorted(band)
    near = ordered[int(0.98 * (len(ordered) - 1))]
    low, high = min(*lines, ordered[0]), max(*lines, near)
    if not high > low:
        high = low + (abs(low) or 1.0)
    return (min(0.0, low) if low < 0.5 * high else low), high + 0.04 * (high - low)


def _axes(low: float, high: float, last: float) -> list[str]:
    found = []
    for y in _ticks(low, high, 5):
        at = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (y - low) / (high - low)
        found.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        found.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{escape(f"{y:.4g}")}</text>')
    for x in _ticks(0, last, 8):
        at = _LEFT + (_WIDTH - _LEFT - _RIGHT) * x / last
        found.append(
            f'<text x="{at:.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(f"{x:,.0f}")}</text>'
        )
    return found


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers between two, at most about so many."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    first = math.ceil(low / step)
    return [step * n for n in range(first, int(high / step + 1e-9) + 1)]
