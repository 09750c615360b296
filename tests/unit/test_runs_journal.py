"""The journal's writer: goes on where the last one stopped, keeps status.json true, and the heart beats."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import pytest

from loratui.errors import RunError
from loratui.runs import snapshot
from loratui.runs.directory import RunDir
from loratui.runs.fold import fold
from loratui.runs.journal import Journal, read_events
from loratui.runs.liveness import newest_beat
from loratui.runs.status import Watch, status
from loratui.runs.tail import Tail


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "runs", "x")


def test_a_second_writer_goes_on(run: RunDir) -> None:
    with Journal(run) as journal:
        journal.write("opened", run_id=run.id, attempt=1, from_step=0, steps=10)
        journal.write("step", step=1, loss=math.nan)
    with Journal(run) as journal:
        assert (journal.attempt, journal.state.step) == (1, 1)
        journal.write("opened", attempt=2, from_step=0)
        journal.write("step", step=1, loss=0.5)
    events = read_events(run.events_path).events
    assert [(e["n"], e["a"]) for e in events] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert repr(fold(events)) == repr(snapshot.load(run).state)


def test_a_torn_line_is_cut_off_by_the_next_writer(run: RunDir) -> None:
    with Journal(run, heartbeat=False) as journal:
        journal.write("step", step=1)
    whole = run.events_path.read_bytes()
    for torn in (b'{"n":2,"t":1', b"\0" * 100_000, whole[:-1]):
        run.events_path.write_bytes(whole + torn)
        assert [e["n"] for e in read_events(run.events_path).events] == [1]
        Journal(run, heartbeat=False).close()
        assert run.events_path.read_bytes() == whole
    run.events_path.write_bytes(b"torn")
    Journal(run, heartbeat=False).close()
    assert run.events_path.read_bytes() == b""


def test_the_cache_is_used_when_it_fits_and_only_then(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(run, heartbeat=False) as journal:
        journal.write("opened", run_id=run.id, attempt=1, from_step=0)
        journal.write("state", state="running")
        journal.write("step", step=1, loss=0.5)
        journal.save_status()
        journal.write("step", step=2, loss=0.4)
        reads: list[int] = []
        real = snapshot.read_records
        monkeypatch.setattr(snapshot, "read_records", lambda p, o, *of: reads.append(o) or real(p, o, *of))
        assert status(run).step == 2
        assert reads[0] == len(b"".join(run.events_path.read_bytes().splitlines(True)[:3]))
        expected = repr(fold(read_events(run.events_path).events))
        assert repr(snapshot.load(run).state) == expected
        cache = json.loads(run.status_path.read_text())
        for change in (
            {"format": 0},
            {"events_end": "x" * 18},
            {"events_bytes": 10**6},
            {"step": "many"},
            {"memo": 3},
        ):
            run.status_path.write_text(json.dumps({**cache, **change}))
            reads.clear()
            assert repr(snapshot.load(run).state) == expected
            assert reads[0] == 0, change
        run.status_path.write_bytes(b"\xff{")
        assert repr(snapshot.load(run).state) == expected
        run.status_path.unlink()
        assert repr(snapshot.load(run).state) == expected


def test_status_json_is_for_people_and_scripts_too(run: RunDir) -> None:
    with Journal(run, heartbeat=False) as journal:
        journal.write("opened", run_id=run.id, attempt=1, from_step=0, steps=9)
        journal.write("state", state="running")
        saved = json.loads(run.status_path.read_text())
        assert (saved["state"], saved["steps"]) == ("running", 9)
        assert saved["events_bytes"] == run.events_path.stat().st_size
        assert {"host", "pid", "process_start", "boot_id", "at"} == set(saved["heartbeat"])
    assert not list(run.path.glob(".*tmp"))


def test_the_heart_beats_while_the_job_is_busy(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loratui.runs.journal.HEARTBEAT_S", 0.3)
    with Journal(run) as journal:
        journal.write("step", step=1)
        first = newest_beat(run)
        deadline = time.monotonic() + 5
        while newest_beat(run) <= first and time.monotonic() < deadline:
            time.sleep(0.05)  # a long step
        assert newest_beat(run) > first
        assert json.loads(run.status_path.read_text())["step"] == 1


def test_writing_is_quick(run: RunDir) -> None:
    with Journal(run) as journal:
        start = time.process_time()
        for step in range(1000):
            journal.write("step", step=step, loss=0.5, lr={"unet": 1e-4}, times={"data": 0.1})
        assert (time.process_time() - start) / 1000 < 1e-3


def test_the_tail_brings_each_event_once(run: RunDir) -> None:
    tail = Tail(run)
    assert tail.poll() == []
    with Journal(run, heartbeat=False) as journal:
        journal.write("step", step=1)
        assert [e["step"] for e in tail.poll()] == [1]
        assert tail.poll() == []
        journal.write("step", step=2)
        journal.write("step", step=3)
        assert [e["step"] for e in tail.poll()] == [2, 3]
    run.events_path.write_bytes(b"junk\n")
    assert tail.poll() == [] and tail.restarted and tail.bad_lines == 1
    run.events_path.unlink()
    assert tail.poll() == []


def test_a_watch_reads_the_last_words_before_it_says_crashed(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(run, heartbeat=False) as journal:
        journal.write("opened", run_id=run.id, attempt=1, from_step=0)
        journal.write("process", host="h", pid=1, process_start=1.0, boot_id="b")
        journal.write("state", state="running")
        watch = Watch(run)
        watch.poll()
        journal.write(
            "state", state="finished"
        )  # written between the look at the journal and that at the process
        looks = iter([[], watch.tail.poll()])
        monkeypatch.setattr(watch.tail, "poll", lambda max_bytes=None: next(looks))
        watch.poll(now=time.time() + 3600)
        assert watch.state.state == "finished"


def test_bad_lines_are_counted(run: RunDir) -> None:
    with Journal(run, heartbeat=False) as journal:
        journal.write("step", step=1)
    with run.events_path.open("ab") as file:
        file.write(b"junk\n")
    with Journal(run, heartbeat=False) as journal:
        journal.write("step", step=2)
    run.status_path.unlink()
    state = status(run)
    assert (state.step, state.bad_lines) == (2, 1)
    watch = Watch(run)
    watch.poll()
    assert watch.state.bad_lines == 1


def test_no_run_and_no_room_are_clear_refusals(tmp_path: Path, run: RunDir) -> None:
    with pytest.raises(RunError, match="is not a run"):
        status(RunDir(tmp_path / "nothing"))
    run.events_path.mkdir()
    with pytest.raises(RunError, match="cannot be written"):
        Journal(run)


def test_a_glimpse_tells_what_the_whole_journal_says_of_now(run: RunDir) -> None:
    """Of a run of two attempts, without reading what lies between their beginning and their end."""
    with Journal(run, heartbeat=False) as journal:
        journal.write("opened", run_id=run.id, attempt=1, from_step=0, steps=9000, name="x")
        for step in range(1, 2001):
            journal.write("step", step=step, loss=1 / step, lr={"unet": 1e-4}, step_s=0.5, images=4)
    with Journal(run, heartbeat=False) as journal:
        journal.write("opened", run_id=run.id, attempt=2, from_step=1000, steps=9000, name="x")
        journal.write("process", pid=os.getpid(), host="here", device="cpu")
        journal.write("state", state="running")
        for step in range(1001, 6001):
            journal.write("step", step=step, loss=1 / step, lr={"unet": 1e-4}, step_s=0.5, images=4)
    assert run.events_path.stat().st_size > 1 << 19
    whole, seen = snapshot.load(run).state, snapshot.glimpse(run)
    assert seen is not None and seen.events < whole.events
    for name in (
        "run_id",
        "name",
        "attempt",
        "state",
        "pid",
        "step",
        "steps",
        "loss",
        "lr",
        "updated_at",
        "step_s",
    ):
        assert getattr(seen, name) == getattr(whole, name), name
    assert seen.eta_s == pytest.approx(whole.eta_s, rel=0.05) and seen.best_loss is None
    run.events_path.write_bytes(b"")
    assert snapshot.glimpse(run) is None
