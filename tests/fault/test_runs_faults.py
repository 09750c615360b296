"""Full disks, killed writers and damaged journals: the run goes on, and readers see what is true."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loratui.runs import journal as journal_module
from loratui.runs.directory import RunDir
from loratui.runs.fold import fold
from loratui.runs.journal import Journal, read_events
from loratui.runs.status import status

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "runs", "x")


class FullDisk:
    """Stands for `os.write` on a disk with `room` bytes left: takes a part of what does not fit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self.real = os.write
        monkeypatch.setattr(journal_module.os, "write", self)

    def __call__(self, fd: int, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.real(fd, bytes(data)[: self.room])
        self.room -= written
        return written


def test_a_full_disk_delays_the_journal_and_loses_nothing(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(run, heartbeat=False)
    journal.write("opened", run_id=run.id, attempt=1, from_step=0, steps=99)
    disk = FullDisk(monkeypatch, room=130)  # one line and the beginning of the next
    for step in range(1, 50):
        journal.write("step", step=step, loss=0.5, images=1)
    journal.write("state", state="stopping", reason="full")
    assert journal.state.step == 49
    read = read_events(run.events_path)
    assert read.bad_lines == 0 and len(read.events) == 2
    assert run.events_path.read_bytes().endswith(b"\n"), "a torn line was left"
    assert len([r for r in caplog.records if "journal cannot be written" in r.message]) == 1
    disk.room = 10**9
    journal.write("state", state="finished")
    journal.close()
    events = read_events(run.events_path).events
    assert [e["n"] for e in events] == list(range(1, len(events) + 1))
    assert [e["step"] for e in events if e["kind"] == "step"] == list(range(1, 50))
    assert [e["kind"] for e in events[-2:]] == ["state", "warning"]
    assert events[-1]["code"] == "journal-delayed"
    assert status(run).state == "finished"


def test_the_end_is_written_when_room_comes_back_while_closing(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(run, heartbeat=False)
    journal.write("step", step=1)
    disk = FullDisk(monkeypatch, room=0)
    journal.write("state", state="finished")
    monkeypatch.setattr(journal_module.time, "sleep", lambda _: setattr(disk, "room", 10**9))
    journal.close()
    assert status(run).state == "finished"


def test_a_status_ahead_of_the_journal_is_no_cache_of_it(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(run, heartbeat=False)
    journal.write("opened", run_id=run.id, attempt=1, from_step=0, steps=99)
    real = os.write

    def broken(fd: int, data: bytes) -> int:
        if fd == journal._fd:
            raise OSError(errno.EIO, "Input/output error")
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(journal_module.os, "write", broken)
        journal.write("step", step=1, loss=0.5)
        journal.write("state", state="running")  # status.json is written, the journal is not
        assert json.loads(run.status_path.read_text())["step"] == 1
        assert status(run).events == 1
        end = run.status_path.read_bytes()
    journal.write("checkpoint", step=1, path="checkpoints/step-000001")
    run.status_path.write_bytes(end)
    assert repr(status(run)) == repr(status_from_nothing(run))
    journal.close()


def test_a_disk_that_stays_full_does_not_hang_the_job(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(run)
    FullDisk(monkeypatch, room=0)
    journal.write("state", state="finished")
    start = time.monotonic()
    journal.close(patience_s=0.3)
    assert time.monotonic() - start < 3
    assert read_events(run.events_path).events == []


def test_what_waits_is_bounded_and_keeps_what_matters(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_MOST_WAITING", 100)
    journal = Journal(run, heartbeat=False)
    disk = FullDisk(monkeypatch, room=0)
    journal.write("checkpoint", step=0, path="checkpoints/step-000000")
    for step in range(1000):
        journal.write("step", step=step)
    disk.room = 10**9
    journal.write("state", state="finished")
    journal.close()
    events = read_events(run.events_path).events
    assert len(events) < 120
    assert [e["kind"] for e in events if e["kind"] != "step"] == ["checkpoint", "state", "warning"]
    assert events[-3]["step"] == 999


LIMITED = """
import json, resource, sys
from loratui.runs.directory import RunDir
from loratui.runs.journal import Journal
journal = Journal(RunDir(sys.argv[1]))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
for step in range(1, 41):
    journal.write("step", step=step, loss=0.5)
held = len(open(journal.run.events_path, "rb").read())
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
journal.write("state", state="finished")
journal.close()
print(held)
"""


def test_the_kernels_own_short_write(run: RunDir) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(run.path)], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert 800 < int(done.stdout) <= 1000
    read = read_events(run.events_path)
    assert read.bad_lines == 0
    assert [e["step"] for e in read.events if e["kind"] == "step"] == list(range(1, 41))
    assert status(run).state == "finished"


def test_status_that_cannot_be_written_does_not_matter(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    with Journal(run, heartbeat=False) as journal:
        run.status_path.unlink(missing_ok=True)
        run.status_path.mkdir()
        (run.status_path / "x").touch()
        journal.write("state", state="running")
        journal.write("state", state="finished")
    assert status(run).state == "finished"
    assert len([r for r in caplog.records if "status.json" in r.message]) == 1


WRITER = """
import sys
from loratui.runs.directory import RunDir
from loratui.runs.journal import Journal
from loratui.runs.lock import RunLock
run = RunDir(sys.argv[1])
with RunLock(run), Journal(run) as journal:
    print("ready", flush=True)
    while True:
        journal.write("log", level="info", message="x" * 5000)
        journal.write("state", state="running")
"""


def test_writers_killed_at_any_moment_leave_a_sound_journal(run: RunDir) -> None:
    chance = random.Random(7)
    count = 0
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(run.path)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ},
        )
        assert writer.stdout is not None and writer.stdout.readline()
        time.sleep(chance.uniform(0.01, 0.15))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        read = read_events(run.events_path)
        assert read.bad_lines == 0 and len(read.events) > count
        count = len(read.events)
        assert [e["n"] for e in read.events] == list(range(1, count + 1))
        assert repr(status(run)) == repr(status_from_nothing(run))


def status_from_nothing(run: RunDir) -> object:
    state = fold(read_events(run.events_path).events)
    state.run_id = run.id
    return state


def test_power_loss_leaves_a_hole_that_costs_only_itself(run: RunDir) -> None:
    with Journal(run, heartbeat=False) as journal:
        for step in range(1, 6):
            journal.write("step", step=step, loss=0.5)
    lines = run.events_path.read_bytes().splitlines(True)
    lines[2] = b"\0" * (len(lines[2]) - 1) + b"\n"
    run.events_path.write_bytes(b"".join(lines) + b"\0" * 4096)
    read = read_events(run.events_path)
    assert [e["step"] for e in read.events] == [1, 2, 4, 5] and read.bad_lines == 1
    with Journal(run, heartbeat=False) as journal:
        assert journal.write("step", step=6)["n"] == 6
    assert [e["step"] for e in read_events(run.events_path).events] == [1, 2, 4, 5, 6]


def test_readers_during_writing_see_whole_events(run: RunDir) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(run.path)], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert writer.stdout is not None and writer.stdout.readline()
        offset, last = 0, 0
        deadline = time.monotonic() + 0.7
        while time.monotonic() < deadline:
            read = read_events(run.events_path, offset)
            assert read.bad_lines == 0
            for event in read.events:
                assert event["n"] == last + 1
                last = event["n"]
            offset = read.offset
            if run.status_path.exists():
                json.loads(run.status_path.read_text())
        assert last > 10
    finally:
        writer.kill()
        writer.wait()
