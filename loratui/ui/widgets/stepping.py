"""The next value up or down of a number, in steps that suit it."""

from __future__ import annotations

import math

from loratui.config.docs import FieldInfo

_SIDES = frozenset(
    {"data.resolution", "data.min_bucket", "data.max_bucket", "samples.width", "samples.height"}
)
_DOUBLING = frozenset(
    {"network.rank", "network.alpha", "network.conv_rank", "network.conv_alpha", "network.block_size"}
)
_SIDE_PX = 64
_LADDER = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
"""Within a factor of ten, for learning rates."""


def stepped(field: FieldInfo, value: float, by: int) -> int | float:
    """`value` one step up (`by` 1) or down (-1), within the field's range.

    Sides go by 64 px, ranks double, learning rates climb 1, 1.5, 2, 3, 5, 7, 10; shares go by 0.05; counts
    by half of their leading digit's place.
    """
    new: float
    if field.path in _SIDES:
        new = (math.floor(value / _SIDE_PX) + by if by > 0 else math.ceil(value / _SIDE_PX) + by) * _SIDE_PX
    elif field.path in _DOUBLING:
        new = _doubled(value, by)
    elif field.key.endswith("lr") or field.key in {"lr", "text_lr_2", "eps"}:
        new = _rung(value or 1e-6, by)
    elif field.kind == "int":
        size = 10 ** math.floor(math.log10(abs(value))) if abs(value) >= 10 else 1
        unit = max(1, size // 2 if size >= 10 else 1)
        new = (math.floor(value / unit) + by if by > 0 else math.ceil(value / unit) + by) * unit
    elif field.maximum is not None and field.maximum <= 1:
        new = round(value + 0.05 * by, 6)
    else:
        new = round(value + (0.5 if abs(value) < 20 else 5) * by, 6)
    low, high = field.minimum, field.maximum
    new = max(new, low) if low is not None else new
    new = min(new, high) if high is not None else new
    return round(new) if field.kind == "int" else float(new)


def _doubled(value: float, by: int) -> float:
    if by > 0:
        return 2.0 ** (math.floor(math.log2(value)) + 1) if value >= 1 else 1.0
    return 2.0 ** (math.ceil(math.log2(value)) - 1) if value > 1 else 0.0


def _rung(value: float, by: int) -> float:
    place = math.floor(math.log10(value) + 1e-9)
    rungs = [r * 10.0**p for p in range(place - 1, place + 3) for r in _LADDER]
    if by > 0:
        new = next(r for r in rungs if r > value * 1.0001)
    else:
        new = next(r for r in reversed(rungs) if r < value * 0.9999)
    return float(f"{new:.6g}")
