"""Two processes under torchrun by the command line: queued, one of them killed, resumed with one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from loratui.config.load import load_run
from loratui.config.write import write_run
from loratui.project.demo import make_demo
from loratui.runs.directory import RunDir
from loratui.runs.fold import fold
from loratui.runs.journal import read_events
from loratui.runs.liveness import observed_state

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
STEPS = 12
SMALL = ("samples.every=0", "saving.every=4", "data.batch_size=2", "network.rank=4", f"steps={STEPS}")
PATIENCE_S = 400.0


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    yield make_demo(tmp_path / "demo").root
    for run in (tmp_path / "demo" / "runs").iterdir():  # what a failed test has left
        for process in ranks_of(RunDir(run)):
            process.kill()


def command(*words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "loratui", *words, "--json"], stdout=subprocess.PIPE, text=True, timeout=120
    )
    return json.loads(done.stdout)


def train(demo: Path, name: str, processes: int) -> RunDir:
    settings = [w for text in (*SMALL, f"memory.processes={processes}") for w in ("--set", text)]
    return RunDir(command("train", str(demo), "--name", name, "--queue", "--device", "cpu", *settings)["run"])


def events(run: RunDir) -> list[dict[str, Any]]:
    return read_events(run.events_path).events


def losses(run: RunDir) -> dict[int, float]:
    """By step; a step that was done again has its last."""
    return {e["step"]: e["loss"] for e in events(run) if e["kind"] == "step"}


def state_of(run: RunDir) -> Any:
    return observed_state(fold(events(run)), run=run)


def wait(run: RunDir, holds: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not holds(state := state_of(run)):
        assert time.monotonic() < deadline, (state.state, state.reason, run.log_path.read_text()[-2000:])
        time.sleep(0.25)
    return state


def ranks_of(run: RunDir) -> list[psutil.Process]:
    """The job's processes by rank; torchrun itself has none."""
    found = {}
    for process in psutil.process_iter():
        try:
            if str(run.path) in process.cmdline() and "RANK" in (env := process.environ()):
                found[int(env["RANK"])] = process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [found[n] for n in sorted(found)]


def set_processes(run: RunDir, count: int) -> None:
    from dataclasses import replace

    info, config = load_run(run.config_path)
    write_run(run.config_path, info, replace(config, memory=replace(config.memory, processes=count)))


def test_queued_killed_and_resumed_with_another_count(demo: Path) -> None:
    one, two = train(demo, "one", 1), train(demo, "two", 2)
    assert state_of(two).state == "queued" or losses(one)
    assert wait(one, lambda s: s.state == "finished").step == STEPS
    wait(two, lambda s: s.step >= 5)
    first = next(e["t"] for e in events(two) if e["kind"] == "state" and e["state"] == "caching")
    last = next(e["t"] for e in events(one) if e["kind"] == "state" and e["state"] == "finished")
    assert first >= last - 0.5, "it waited for its turn"
    processes = ranks_of(two)
    assert len(processes) == 2
    victim, other = processes[1], processes[0]
    begun = time.monotonic()
    os.kill(victim.pid, signal.SIGKILL)
    state = wait(two, lambda s: s.state == "crashed")
    took = time.monotonic() - begun
    psutil.wait_procs([other], timeout=max(0.1, 30.0 - took))
    assert took < 30.0 and not other.is_running() and not ranks_of(two)
    print(f"crashed after {took:.1f} s: {state.reason}")
    set_processes(two, 1)  # the count may change from one attempt to the next
    command("resume", str(two.path))
    assert wait(two, lambda s: s.state in {"finished", "failed", "crashed"}).state == "finished"
    said = [e["message"] for e in events(two) if e["kind"] == "warning"]
    assert any("memory.processes was 2 and is 1" in message for message in said)
    expected, found = losses(one), losses(two)
    assert list(found) == list(range(1, STEPS + 1))
    worst = max(abs(found[n] - expected[n]) / abs(expected[n]) for n in expected)
    print(f"losses of 1, and of 2 then 1 processes: {worst:.1e} apart")
    assert worst < 1e-5
