"""Curves agree with the fold, are superseded alike, and lose no spike when drawn small."""

from __future__ import annotations

import math
import os
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import thrown_journal

from loratui.runs import curve_cache
from loratui.runs.curves import Curves, decimate
from loratui.runs.directory import RunDir
from loratui.runs.events import decode_line, encode_line, read_lines
from loratui.runs.fold import fold
from loratui.runs.series import MOST, TAIL, Series, Smoothed


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
    assert len(curves.lr["unet"]) == len(curves.speed) == 25


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


values = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf]))
points = st.lists(st.tuples(st.integers(0, 60_000), values), max_size=60).map(
    lambda found: sorted(found * 200, key=lambda p: p[0])
)


@settings(max_examples=25, deadline=None)
@given(points, st.integers(1, 3000))
def test_buckets_keep_every_extreme_however_the_points_come(raw: list[tuple[int, float]], piece: int) -> None:
    at_once, pieces = Series(), Series()
    at_once.extend([float(x) for x, _ in raw], [y for _, y in raw], [float(x) for x, _ in raw])
    for start in range(0, len(raw), piece):
        part = raw[start : start + piece]
        pieces.extend([float(x) for x, _ in part], [y for _, y in part], [float(x) for x, _ in part])
    assert at_once.xs == pieces.xs and at_once.low == pieces.low and at_once.counts == pieces.counts
    assert len(at_once) <= MOST and at_once.xs == array("d", sorted(at_once.xs))
    finite = [y for _, y in raw if math.isfinite(y)]
    if finite:
        assert min(at_once.low) == min(finite) and max(at_once.high) == max(finite)
        assert sum(at_once.counts) == len(finite)
    again = Series.unpacked(at_once.packed())
    assert again.xs == at_once.xs and len(again.recent) == len(at_once.recent)


def test_a_million_points_stay_small_and_their_newest_exact() -> None:
    series, smooth = Series(), Smoothed(0.98)
    for start in range(0, 1_000_000, 5000):
        xs = [float(x) for x in range(start, start + 5000)]
        series.extend(xs, [math.sin(x / 1e4) for x in xs], xs)
        smooth.follow(series)
    assert MOST // 4 <= len(series) <= MOST and sum(series.counts) == 1_000_000
    assert TAIL <= len(series.recent) <= 2 * TAIL
    assert list(series.recent.xs[-3:]) == [999_997.0, 999_998.0, 999_999.0]
    fresh = Smoothed(0.98).follow(series)
    assert fresh.ys == smooth.ys and abs(fresh.ys[-1] - math.sin(99.99)) < 0.05
    series.cut(500_000.0)
    assert series.xs[-1] <= 500_000 and len(smooth.follow(series)) == len(series)


def journal(run: RunDir, first: int, last: int, extra: list[dict[str, object]] | None = None) -> None:
    made = [*events(first, last), *(extra or [])]
    with run.events_path.open("ab") as file:
        file.write(b"".join(encode_line({"n": 1, **event}) for event in made))


def same(one: Curves, two: Curves) -> bool:
    """Equal but for the rounding of means and for how many newest points are kept one by one."""
    for a, b in zip(one.series(), two.series(), strict=True):
        exact = all(getattr(a, name) == getattr(b, name) for name in ("xs", "low", "high", "counts", "ts"))
        close = all(math.isclose(x, y) or x != x != y for x, y in zip(a.ys, b.ys, strict=True))
        if not (exact and close and a.recent.xs[-TAIL:] == b.recent.xs[-TAIL:]):
            return False
    return True


def test_lines_read_at_once_are_the_events_applied(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "x")
    odd = [
        {"a": 1, "kind": "quarters", "step": 9000, "loss": [0.1, None, 0.3, 0.4]},
        {"a": 1, "kind": "step", "step": 9001, "loss": math.nan, "lr": 1e-4, "t": 9001.0},
        {"a": 1, "kind": "step", "step": 9002, "loss": [1], "times": "?"},
        {"a": 1, "kind": "step", "step": 9003, "loss": 0.5, "times": {"data": 0.1}, "t": 9003.0},
        {"a": 1, "kind": "memory", "allocated_gib": 3.5},
        {"a": 2, "kind": "opened", "attempt": 2, "from_step": 8000},
        *events(8001, 8100, attempt=2),
        *events(8101, 8110, attempt=1),
    ]
    journal(run, 1, 9000, odd)
    applied, read = Curves(), Curves()
    lines = run.events_path.read_bytes().splitlines()
    for line in lines:
        event = decode_line(line)
        assert event is not None
        applied.apply(event)
    assert read.read([*lines[:100], b"{torn", *lines[100:]]) == 1
    assert same(applied, read)
    assert read.loss.xs[-1] == 8100 and len(read.quarters[0]) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 150), st.sampled_from([0, 0.1, 0.6]), st.integers(1, 160))
def test_records_taken_at_once_are_the_events_applied(
    seed: int, length: int, oddness: float, piece: int
) -> None:
    lines = [encode_line(event)[:-1] for event in thrown_journal(seed, length, oddness)]
    applied, taken = Curves(), Curves()
    for line in lines:
        if (event := decode_line(line)) is not None:
            applied.apply(event)
    for start in range(0, len(lines), piece):
        taken.read(lines[start : start + piece])
    assert applied.packed().keys() == taken.packed().keys()
    assert (applied.attempt, applied.started_at) == (taken.attempt, taken.started_at)
    assert applied.lr.keys() == taken.lr.keys() and applied.parts.keys() == taken.parts.keys()
    taken.lr = {group: taken.lr[group] for group in applied.lr}
    taken.parts = {part: taken.parts[part] for part in applied.parts}
    assert same(applied, taken)


def test_the_cache_is_rebuilt_when_it_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATUI_CACHE", str(tmp_path / "cache"))
    run = RunDir.create(tmp_path, "x")
    journal(run, 1, 6000)
    assert curve_cache.load(run) is None
    whole, offset = curve_cache.read(run, Curves(), 0)
    curve_cache.save(run, whole, offset)
    found = curve_cache.load(run)
    assert found is not None and found[1] == offset and same(found[0], whole)
    journal(run, 6001, 6100)
    more, _ = curve_cache.read(run, *curve_cache.load(run))  # type: ignore[misc]
    fresh, _ = curve_cache.read(run, Curves(), 0)
    assert same(more, fresh)
    place = curve_cache.place(run)
    for broken in (b"", b"\x00", place.read_bytes()[:-100]):
        place.write_bytes(broken)
        assert curve_cache.load(run) is None
    curve_cache.save(run, fresh, offset)
    run.events_path.write_bytes(run.events_path.read_bytes().replace(b'"loss":1.0', b'"loss":2.0'))
    journal(run, 1, 3)
    with run.events_path.open("r+b") as file:
        file.truncate(offset - 40)
    assert curve_cache.load(run) is None  # another journal lies there now


def kept(run: RunDir, keeper: curve_cache.Keeper, to: int) -> tuple[Curves, int] | None:
    """What is kept after the keeper has looked once and its thread has ended."""
    keeper.look(to)
    if keeper._thread is not None:
        keeper._thread.join(20)
    return curve_cache.load(run)


def test_the_cache_grows_with_a_run_that_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(curve_cache, "AGAIN_S", 0.0)
    monkeypatch.setattr(curve_cache, "WORTH", 50_000)
    run = RunDir.create(tmp_path, "x")
    keeper = curve_cache.Keeper(run, 0, lambda: False)
    journal(run, 1, 100)
    assert kept(run, keeper, run.events_path.stat().st_size) is None  # too little to be worth it
    before = 0
    for first in (101, 2001, 4001):
        journal(run, first, first + 1999)
        begun: list[int] = []
        monkeypatch.setattr(curve_cache, "read_lines", lambda path, offset, most, begun=begun: (
            begun.append(offset) or read_lines(path, offset, most)))  # fmt: skip
        found = kept(run, keeper, size := run.events_path.stat().st_size)
        assert found is not None and found[1] == size
        assert min(begun) == before  # only what came since is read
        assert same(found[0], curve_cache.read(run, Curves(), 0)[0])
        before = size
    other = curve_cache.Keeper(run, 0, lambda: False)  # of another viewer: it goes on from there, too
    begun.clear()
    assert kept(run, other, before) is not None and min(begun) == before
    behind = curve_cache.read(run, Curves(), 0, 60_000)
    curve_cache.save(run, *behind)  # somebody who is slow does not put it back
    assert (curve_cache.load(run) or (None, 0))[1] == before
    monkeypatch.setattr(curve_cache, "AGAIN_S", 3600.0)
    journal(run, 6001, 9000)
    assert (kept(run, keeper, run.events_path.stat().st_size) or (None, 0))[1] == before  # not so soon again
    monkeypatch.setattr(curve_cache, "AGAIN_S", 0.0)
    gone = curve_cache.Keeper(run, 0, lambda: True)
    assert (kept(run, gone, run.events_path.stat().st_size) or (None, 0))[1] == before  # nobody watches


def test_a_cache_with_a_changed_byte_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATUI_CACHE", str(tmp_path / "cache"))
    run = RunDir.create(tmp_path, "x")
    journal(run, 1, 300)
    whole, offset = curve_cache.read(run, Curves(), 0)
    curve_cache.save(run, whole, offset)
    place = curve_cache.place(run)
    data = place.read_bytes()
    for at in {*range(200), *range(200, len(data), 97), len(data) - 1}:
        place.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        found = curve_cache.load(run)
        assert found is None or (found[1] == offset and same(found[0], whole)), at
    place.write_bytes(data)
    assert curve_cache.load(run) is not None


def test_what_killed_writers_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATUI_CACHE", str(tmp_path / "cache"))
    run = RunDir.create(tmp_path, "x")
    journal(run, 1, 300)
    folder = curve_cache.place(run).parent
    folder.mkdir(parents=True)
    old, young = folder / ".a.bin.1-00.tmp", folder / ".a.bin.2-00.tmp"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (1, 1))
    curve_cache.save(run, *curve_cache.read(run, Curves(), 0))
    assert not old.exists() and young.exists() and curve_cache.load(run) is not None


def test_the_last_minutes_are_found_from_the_end(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "x")
    journal(run, 1, 20_000)
    newest = curve_cache.newest(run, run.events_path.stat().st_size, 600.0)
    assert newest.partial
    assert newest.loss.recent.xs[-1] == 20_000 and 1 < newest.loss.recent.xs[0] <= 19_400


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(-1e6, 1e6)), max_size=200), st.integers(1, 40))
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
    assert decimate([1.0, 2.0], [1.0, 2.0], 1, [4.0, 3.0]) == [(2.0, 1.0, 4.0)]
    assert decimate([1.0], [math.nan], 4) == []
    assert decimate([], [], 4) == []
