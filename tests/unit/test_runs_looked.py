"""What is seen of a run without its status.json: from the newest events, and read on from, not anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_kit import RunWriter

from loratui.runs import snapshot, status, tail
from loratui.runs.status import Watch
from loratui.ui import feed


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes at which somebody began to read a journal."""
    begun: list[int] = []
    for module in (snapshot, tail, feed):
        for name in ("read_records", "read_lines", "read_events"):
            if hasattr(module, name):
                real = getattr(module, name)
                monkeypatch.setattr(
                    module,
                    name,
                    lambda path, at=0, *a, real=real, **k: (begun.append(at), real(path, at, *a, **k))[1],
                )
    return begun


def test_a_living_run_without_status_is_read_on_from(tmp_path: Path, reads: list[int]) -> None:
    writer = RunWriter(tmp_path)
    writer.alive()
    writer.steps(1, 500)
    with writer.run.events_path.open("ab") as file:
        file.write(b"torn\n")
    living: dict[str, Watch] = {}
    first = feed._state(writer.run, living)
    assert first.step == 500 and first.bad_lines == 1 and not writer.run.status_path.exists()
    size = writer.run.events_path.stat().st_size
    for last in (520, 540):
        writer.steps(last - 19, last)
        reads.clear()
        seen = feed._state(writer.run, living)
        assert (seen.step, seen.bad_lines) == (last, 1) and reads and min(reads) >= size
        size = writer.run.events_path.stat().st_size
    assert first.step == 500  # what was given out is changed no more
    writer.write("state", state="finished")
    assert feed._state(writer.run, living).state == status.status(writer.run).state and not living


@pytest.mark.parametrize("count", [0, 1, 5, 19, 20, 60])
def test_a_glimpse_stands_where_the_newest_events_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    now = 1000.0
    monkeypatch.setattr("app_kit.time.time", lambda: now)
    writer = RunWriter(tmp_path, steps=100_000)
    writer.alive()
    writer.write("state", state="caching")
    for n in range(300):
        writer.write("log", level="info", message=f"{n} " + "x" * 60)
    writer.write("state", state="running")
    for step in range(1, 801):
        now += 0.5
        writer.steps(step, step)
    for n in range(1200):  # the steps lie before what is looked at
        writer.write("log", level="info", message=f"{n} " + "x" * 60)
    monkeypatch.setattr(snapshot, "_GLIMPSE", 1 << 14)
    for step in range(801, 801 + count):
        now += 0.5
        writer.steps(step, step)
    seen, whole = snapshot.glimpse(writer.run), snapshot.load(writer.run).state
    assert seen is not None
    assert (seen.step, seen.state) == (whole.step, whole.state) == (800 + count, "running")
    if count > 5:
        assert seen.step_s == pytest.approx(whole.step_s, rel=0.2)
