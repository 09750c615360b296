"""How numbers look: right-aligned, of a fixed width while they change, with thin thousands."""

from __future__ import annotations

import math
import time


def count(value: int) -> str:
    """1240 -> `1,240`."""
    return f"{value:,}"


def duration(seconds: float | None) -> str:
    """75 -> `1:15`, 3700 -> `1:01:40`, 200000 -> `2 d 07 h`; unknown is `–`."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return "–"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    if whole < 86400:
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 86400} d {whole // 3600 % 24:02d} h"


def ago(then: float, now: float) -> str:
    """Unix times -> `just now`, `4 min ago`, `3 h ago`, `2 d ago`."""
    gone = max(0.0, now - then)
    if gone < 50:
        return "just now"
    if gone < 3600:
        return f"{max(1, round(gone / 60))} min ago"
    if gone < 86400:
        return f"{round(gone / 3600)} h ago"
    return f"{round(gone / 86400)} d ago"


def size(count_bytes: float) -> str:
    """Bytes -> `512 B`, `3.1 MB`, `1.9 GB` (powers of ten, as disks count)."""
    value = float(count_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    return ""


def gib(value: float) -> str:
    """GiB with one decimal below 100."""
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def loss(value: float | None) -> str:
    """Four significant places without an exponent: `0.0912`."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Inf"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def rate(value: float | None) -> str:
    """A learning rate: `9.1e-05`, `0`."""
    if value is None or not math.isfinite(value):
        return "–"
    return "0" if value == 0 else f"{value:.1e}"


def speed(step_s: float | None) -> str:
    """Seconds per step -> `1.36 it/s` or, below one a second, `2.10 s/it`."""
    if not step_s or not math.isfinite(step_s) or step_s <= 0:
        return "–"
    return f"{1 / step_s:.2f} it/s" if step_s <= 1 else f"{step_s:.2f} s/it"


def percent(share: float) -> str:
    """0..1 -> `62 %`."""
    return f"{100 * share:.0f} %"


def clock(at: float) -> str:
    """Unix time -> `14:31:07` in local time."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def date(at: float) -> str:
    """Unix time -> `23 Nov 14:31` in local time."""
    return time.strftime("%d %b %H:%M", time.localtime(at)) if at else "–"


def plural(number: int, one: str, many: str = "") -> str:
    """3, `picture` -> `3 pictures`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
