"""Curves agree with the fold, are superseded alike, and lose no spike when drawn small."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratui.runs.curves import Curves, decimate
from loratui.runs.fold import fold


def events(first: int, last: int, attempt: int = 1) -> list[dict[str, object]]:
    return [
        {
            "t": float(s),
            "a": attempt,
            "kind": "step",
            "step": s,
            "loss": 1.0 / s,
            "lr": {"unet": s * 1e-6},
            "step_s": 0.5,
        }
        for s in range(first, last + 1)
    ]


def test_curves_are_superseded_and_smoothed_as_the_fold() -> None:
    stream = [
        {"a": 1, "kind": "opened", "attempt": 1, "from_step": 0},
        *events(1, 30),
        {"a": 1, "kind": "validation", "step": 10, "loss": 0.3},
        {"a": 1, "kind": "validation", "step": 30, "loss": 0.2},
        {"a": 1, "kind": "memory", "device": "cpu", "rss_gib": 2.0},
        {"a": 2, "kind": "opened", "attempt": 2, "from_step": 20},
        *events(21, 25, attempt=2),
        *events(26, 40, attempt=1),  # of a writer that was superseded
    ]
    curves = Curves()
    for event in stream:
        curves.apply(event)
    straight = fold([stream[0], *events(1, 25)])
    assert list(curves.loss.xs) == list(range(1, 26))
    assert curves.smooth.ys[-1] == pytest.approx(straight.loss_smooth, rel=1e-12)
    assert list(curves.validation.xs) == [10.0]
    assert len(curves.memory) == 0
    assert len(curves.lr["unet"]) == len(curves.speed) == len(curves.times) == 25


def test_a_nan_loss_is_a_point_but_no_part_of_the_mean() -> None:
    curves = Curves()
    for step, loss in enumerate([1.0, math.nan, 0.5], 1):
        curves.apply({"a": 1, "kind": "step", "step": step, "loss": loss})
    assert len(curves.loss) == 3 and list(curves.smooth.xs) == [1.0, 3.0]
    assert all(math.isfinite(y) for y in curves.smooth.ys)


def test_odd_events_are_ignored() -> None:
    curves = Curves()
    for event in (
        {"kind": "step"},
        {"kind": "step", "step": "x", "loss": 1},
        {"kind": "new"},
        {"kind": "opened", "from_step": "x"},
    ):
        curves.apply({"a": 1, **event})
    curves.apply({"a": 1, "kind": "step", "step": math.inf, "loss": 10**400})
    assert len(curves.loss) == 0


points = st.lists(st.tuples(st.integers(0, 50), st.floats(-1e6, 1e6)), max_size=200)


@given(points, st.integers(1, 40))
def test_decimation_keeps_the_extremes(raw: list[tuple[int, float]], columns: int) -> None:
    raw.sort(key=lambda p: p[0])
    xs, ys = [float(x) for x, _ in raw], [y for _, y in raw]
    drawn = decimate(xs, ys, columns)
    assert len(drawn) <= columns
    if ys:
        assert min(lo for _, lo, _ in drawn) == min(ys)
        assert max(hi for _, _, hi in drawn) == max(ys)
        assert all(lo <= hi for _, lo, hi in drawn)
        assert [x for x, _, _ in drawn] == sorted(x for x, _, _ in drawn)


def test_decimation_leaves_out_what_is_not_finite() -> None:
    assert decimate([1.0, 2.0, 3.0], [math.nan, math.inf, 5.0], 1) == [(2.0, 5.0, 5.0)]
    assert decimate([1.0], [math.nan], 4) == []
    assert decimate([], [], 4) == []


def test_decimation_of_a_long_run_is_quick() -> None:
    curves = Curves()
    curves.loss.xs.extend(range(300_000))
    curves.loss.ys.extend([0.5] * 300_000)
    start = time.process_time()
    assert len(decimate(curves.loss.xs, curves.loss.ys, 200)) == 200
    assert time.process_time() - start < 0.5
