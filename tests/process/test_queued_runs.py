"""Runs that wait for each other as real processes: turn by turn, held, taken out, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loratui.errors import LockedError
from loratui.runs import control, queue, waiting
from loratui.runs.directory import RunDir
from loratui.runs.events import encode_line
from loratui.runs.journal import read_events
from loratui.runs.launch import launch, resume
from loratui.runs.liveness import boot_id, process_start
from loratui.runs.status import status, wait

HERE = Path(__file__).parent
ENV = {"PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE)])}
LONG = {"FAKE_STEPS": "100000", "FAKE_STEP_S": "0.02"}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RunDir]]:
    monkeypatch.setenv("LORATUI_STATE", str(tmp_path / "state"))
    made = [RunDir.create(tmp_path / "runs", name) for name in ("first", "second", "third")]
    for run in made:
        run.config_path.write_text(
            f'[run]\nname = "{run.name}"\nqueue = true\nsteps = 3\n[memory]\ndevice = "cpu"\n'
        )
    yield made
    for run in made:
        for event in read_events(run.events_path).events:
            if event["kind"] == "process" and process_start(event["pid"]) == event["process_start"]:
                os.kill(event["pid"], signal.SIGKILL)


def start(run: RunDir, **env: str) -> int:
    return launch(run, "fake_job", python=sys.executable, env={**ENV, **env})


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def state_of(run: RunDir) -> str:
    return status(run).state


def cli(*words: str, code: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "loratui", *words, "--json"],
        capture_output=True, text=True, env=os.environ | ENV, cwd="/",
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_turn_by_turn_held_moved_and_taken_out(runs: list[RunDir]) -> None:
    first, second, third = runs
    pid = start(first, **LONG)
    until(lambda: status(first).step > 0)
    assert [(h.device, h.run, h.pid) for h in queue.holders()] == [("cpu", str(first.path), pid)]
    waiter = start(second, FAKE_STEPS="3")
    start(third, FAKE_STEPS="3")
    until(lambda: state_of(second) == state_of(third) == "queued")
    assert "waits for cpu" in status(second).reason and second.id in status(third).reason
    assert b"libtorch" not in Path(f"/proc/{waiter}/maps").read_bytes()
    with pytest.raises(LockedError, match="in use"):
        resume(second)

    listed = cli("queue")
    assert [(r["name"], r["state"], r["place"]) for r in listed] == [
        (first.id, "working", 0), (second.id, "queued", 1), (third.id, "queued", 2)
    ]  # fmt: skip
    assert [r["name"] for r in cli("queue", "move", "third", "up")] == [third.id, second.id]
    cli("queue", "hold", third.id)
    until(lambda: state_of(third) == "held")
    refused = control.request(second, "sample")
    until(lambda: status(second).acks.get(refused) == "The run waits in the queue.")

    os.kill(pid, signal.SIGKILL)  # however the first one ends, its device is free
    state = wait(second)
    assert (state.state, state.step, state.pid, state.attempt) == ("finished", 3, waiter, 1)
    assert state_of(third) == "held" and not queue.holders()
    cli("queue", "release", "third")
    assert wait(third).state == "finished"
    assert queue.entries() == []
    assert "does not wait" in cli("queue", "hold", str(third.path), code=2)["error"]


def test_a_pause_keeps_the_place_and_those_who_leave_free_it(runs: list[RunDir]) -> None:
    first, second, third = runs
    start(first, **LONG)
    until(lambda: status(first).step > 0)
    killed = start(second)
    start(third)
    until(lambda: state_of(second) == state_of(third) == "queued")
    control.request(second, "pause")
    until(lambda: state_of(second) == "held")
    control.request(second, "resume")
    until(lambda: state_of(second) == "queued")
    os.kill(killed, signal.SIGKILL)
    until(lambda: state_of(second) == "crashed", 2.0)
    assert [Path(e.run) for e in queue.entries()] == [third.path]
    resume(second, env=ENV)
    until(lambda: state_of(second) == "queued")
    assert [Path(e.run) for e in queue.entries()] == [third.path, second.path]
    waiting.remove(third)
    until(lambda: state_of(third) == "stopped")
    control.request(second, "stop")
    until(lambda: state_of(second) == "stopped")
    assert queue.entries() == [] and "resume" in status(second).advice
    control.request(first, "stop")
    assert wait(first).state == "stopped"
    until(lambda: not queue.holders())


def test_after_a_restart_of_the_machine_a_queued_run_is_held_until_it_is_released(
    runs: list[RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", ENV["PYTHONPATH"])
    monkeypatch.setenv("FAKE_STEPS", "3")
    first, second, third = runs
    start(first, **LONG)
    until(lambda: status(first).step > 0)
    pids = [start(second), start(third)]
    until(lambda: state_of(second) == state_of(third) == "queued")
    there = queue.queue_path().read_bytes()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    control.request(first, "stop")
    wait(first)
    boot = boot_id().encode()
    queue.queue_path().write_bytes(there.replace(boot, b"an-earlier-boot"))
    for run in (second, third):  # what the next boot finds: names of processes of another one
        events = [
            json.loads(line) for line in run.events_path.read_bytes().replace(boot, b"x/1").splitlines()
        ]
        crcless = [{k: v for k, v in event.items() if k != "crc"} for event in events]
        run.events_path.write_bytes(b"".join(map(encode_line, crcless)))
        run.status_path.unlink()
        assert state_of(run) == "held" and "restarted" in status(run).reason
    assert [row["restarted"] for row in cli("queue")] == [True, True]
    assert not queue.holders()  # nothing goes on by itself
    cli("queue", "remove", "second")
    assert state_of(second) == "stopped" and queue.place(second) is None
    cli("queue", "release", "third")
    assert wait(third).state == "finished" and status(third).attempt == 2
