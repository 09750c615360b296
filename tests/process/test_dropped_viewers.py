"""Connections that drop: the run never notices, and who comes back misses no event and sees none twice."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from app_kit import RunWriter, environment, project
from pty_probe import PtyProgram

from loratui.runs.events import read_events
from loratui.runs.status import status

JOB = """
import os, sys, time
from pathlib import Path
from loratui.runs.directory import RunDir
from loratui.runs.journal import Journal
from loratui.runs.launch import identify
from loratui.runs.lock import RunLock
run = RunDir(Path(sys.argv[1]))
lock = RunLock(run)
lock.acquire()
with Journal(run) as journal:
    identify(journal, os.getpid(), "cpu")
    journal.write("state", state="running")
    step = journal.state.step
    while not (run.path / "enough").exists():
        step += 1
        journal.write("step", step=step, epoch=1, loss=0.1 + 1 / step, lr={"unet": 1e-4}, step_s=0.05)
        time.sleep(0.05)
    journal.write("state", state="finished")
lock.release()
"""

VIEWER = """
import json, sys
from pathlib import Path
from loratui.ui.app import LoratuiApp

class Noting(LoratuiApp):
    def on_run_seen(self, message):
        message.prevent_default()  # else the base class is called once more
        super().on_run_seen(message)
        numbers = [] if message.earlier else [event["n"] for event in message.events]
        note = {"folded": message.state.events, "numbers": numbers, "earlier": message.earlier}
        if self.watched.curves is not None and not self.watched.curves.partial:
            note["points"] = sum(self.watched.curves.loss.counts)
            note["step"] = message.state.step
        out.write(json.dumps(note) + "\\n")
        out.flush()

out = open(sys.argv[3], "a")
Noting(Path(sys.argv[1]), open_run=sys.argv[2]).run()
"""


def drop(viewer: PtyProgram, how: str) -> None:
    """End a viewer as a broken connection does (its terminal hangs up), or as the kernel does."""
    if how == "SIGKILL":
        os.kill(viewer.pid, signal.SIGKILL)
    os.close(viewer.fd)
    os.waitpid(viewer.pid, 0)


def check(notes: Path) -> int:
    """That one viewer saw each event once; returns how many it saw come."""
    last, came = None, 0
    for line in notes.read_text().splitlines():
        try:
            note = json.loads(line)
        except ValueError:  # it was killed while it wrote
            break
        if note["earlier"]:
            continue
        for number in note["numbers"]:
            assert last is None or number == last + 1, (number, last)
            last = number
        came += len(note["numbers"])
        last = note["folded"] if last is None else last
        assert note["folded"] == last
        if "points" in note:
            assert note["points"] == note["step"]
    return came


def campaign(folder: Path, drops: int, before: int, seed: int) -> dict[str, Any]:
    """Drop `drops` viewers of a run that has `before` events already."""
    dice, root = random.Random(seed), project(folder / "p")
    writer = RunWriter(root, "long", steps=2_000_000)
    writer.many_steps(1, before // 2)
    writer.save_status()
    run, env = writer.run, {**os.environ, **environment(folder)}
    job = subprocess.Popen([sys.executable, "-c", JOB, str(run.path)], env=env, start_new_session=True)
    deadline = time.monotonic() + 60
    while status(run).state != "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    shown, came = [], 0
    try:
        for number in range(drops):
            notes = folder / f"notes-{number}.jsonl"
            command = [sys.executable, "-c", VIEWER, str(root), str(run.path), str(notes)]
            viewer = PtyProgram(command, 100, 30, env=environment(folder), cwd=str(root))
            at = viewer.wait_text("RUNNING", 60)
            assert at is not None
            shown.append(at)
            viewer.listen(dice.uniform(0.0, 1.5))
            drop(viewer, "SIGKILL" if number % 2 else "SIGHUP")
            came += check(notes) if notes.exists() else 0
            assert job.poll() is None
        (run.path / "enough").touch()
        assert job.wait(60) == 0
    finally:
        job.kill()
        job.wait()
    read = read_events(run.events_path)
    numbers = [event["n"] for event in read.events]
    assert read.bad_lines == 0 and numbers == list(range(1, len(numbers) + 1))
    steps = [event["step"] for event in read.events if event["kind"] == "step"]
    assert steps == list(range(1, steps[-1] + 1))
    assert {e["kind"] for e in read.events[before + 1 :]} <= {"process", "state", "step"}
    times = [event["t"] for event in read.events[before + 1 :]]
    longest = max(b - a for a, b in itertools.pairwise(times))
    state = status(run)
    assert (state.state, state.attempt) == ("finished", 1)
    shown.sort()
    return {
        "drops": drops,
        "events": len(numbers),
        "seen_to_come": came,
        "reattach_median_s": round(shown[len(shown) // 2], 2),
        "reattach_worst_s": round(shown[-1], 2),
        "longest_gap_s": round(longest, 2),
    }


def test_dropped_viewers_are_no_matter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three of them, with hang-ups and a SIGKILL."""
    report = campaign(tmp_path, 3, 4000, 1)
    with capsys.disabled():
        print(f"\n  {report}")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_hundred_dropped_viewers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hundred, of a run with 100,000 events."""
    report = campaign(tmp_path, 100, 100_000, 7)
    with capsys.disabled():
        print(f"\n  {report}")
    assert report["reattach_median_s"] < 3  # 1 s on a machine of its own
