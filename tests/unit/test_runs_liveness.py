"""Who lives: exact on this boot, by heartbeat elsewhere, never by pid alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from loratui.runs import liveness
from loratui.runs.directory import RunDir
from loratui.runs.liveness import is_alive, last_log_line, observed_state, process_identity, process_start
from loratui.runs.state import Memo, RunState


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "runs", "x")


def running(**changes: object) -> RunState:
    me = process_identity()
    state = RunState(
        run_id="r", state="running", attempt=1, updated_at=time.time(), memo=Memo(took_over=True)
    )
    for name, value in {**me.as_dict(), **changes}.items():
        setattr(state, name, value)
    return state


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    return child.pid


def test_this_process_lives() -> None:
    me = process_identity()
    assert is_alive(me) is True
    assert me.pid == os.getpid() and 0 < me.process_start <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_a_reused_pid_is_another_process() -> None:
    me = process_identity()
    assert is_alive(replace(me, process_start=me.process_start - 1.0)) is False


def test_another_boot_or_host_cannot_be_told() -> None:
    me = process_identity()
    assert is_alive(replace(me, boot_id="another")) is None
    assert is_alive(replace(me, host="another")) is None


def test_the_dead_and_zombies_are_dead() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    who = process_identity(child.pid)
    deadline = time.monotonic() + 10
    while process_start(child.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Path(f"/proc/{child.pid}").exists()  # a zombie: nobody has waited for it
    assert is_alive(who) is False
    child.wait()
    assert is_alive(who) is False


def test_a_living_run_is_left_alone_and_a_dead_one_crashed() -> None:
    state = running()
    assert observed_state(state) is state
    seen = observed_state(running(pid=dead_pid()))
    assert seen.state == "crashed"
    assert "SIGKILL" in seen.reason and "loratui resume r" in seen.advice


@pytest.mark.parametrize("name", ["finished", "stopped", "failed"])
def test_ended_runs_need_no_process(name: str) -> None:
    assert observed_state(running(state=name, pid=dead_pid())).state == name


@pytest.mark.parametrize("name", ["queued", "held"])
def test_a_process_waits_for_a_queued_run(name: str) -> None:
    assert observed_state(running(state=name, pid=0)).state == name  # never launched
    assert observed_state(running(state=name)).state == name
    killed = observed_state(running(state=name, pid=dead_pid()))
    assert killed.state == "crashed" and "while it waited" in killed.reason


def test_other_hosts_are_told_by_the_heartbeat(run: RunDir) -> None:
    now = time.time()
    state = running(host="elsewhere", updated_at=now - 300)
    run.status_path.write_text(json.dumps({"heartbeat": {"at": now - 5}}))
    assert observed_state(state, now, run).state == "running"
    run.status_path.write_text(json.dumps({"heartbeat": {"at": now - 90}}))
    os.utime(run.status_path, (now - 90, now - 90))
    seen = observed_state(state, now, run)
    assert seen.state == "crashed" and "elsewhere for 90 s" in seen.reason
    run.status_path.write_text("{")
    os.utime(run.status_path, (now - 90, now - 90))
    assert observed_state(state, now, run).state == "crashed"
    assert observed_state(running(host="elsewhere"), now, run).state == "running"


def test_after_a_restart_of_the_machine(run: RunDir) -> None:
    seen = observed_state(running(boot_id="before", updated_at=time.time() - 60), run=run)
    assert seen.state == "crashed" and "restarted" in seen.reason


def test_a_launch_that_named_nobody(run: RunDir) -> None:
    now = time.time()
    state = RunState(state="starting", attempt=1, updated_at=now - 5)
    assert observed_state(state, now, run).state == "starting"
    assert "interrupted" in observed_state(state, now + 30, run).reason


def test_death_before_the_first_word_shows_the_log(run: RunDir) -> None:
    run.log_path.write_text(
        f"an old line\n{liveness.LOG_MARK} 1, attempt 2\nTraceback\n  x\nImportError: no \x1b[2Jtorch\n\n"
    )
    seen = observed_state(running(pid=dead_pid(), memo=Memo()), run=run)
    assert seen.reason == "The job ended before it began: ImportError: no ␛[2Jtorch"
    assert "log.txt" in seen.advice


def test_the_log_of_an_earlier_attempt_is_not_blamed(run: RunDir) -> None:
    run.log_path.write_text(f"{liveness.LOG_MARK} 1\nValueError: old\n{liveness.LOG_MARK} 2\n")
    assert last_log_line(run) == ""
    assert last_log_line(RunDir(run.path / "none")) == ""


def test_faults_in_native_code_are_named(run: RunDir) -> None:
    run.log_path.write_text(
        f"{liveness.LOG_MARK} 1\nFatal Python error: Segmentation fault\n\nThread 1\n  x\n"
    )
    assert "Segmentation fault" in observed_state(running(pid=dead_pid()), run=run).reason


@pytest.mark.parametrize("layout", ["memory.events", "memory.oom_control"])
def test_the_kernels_memory_killer_is_named(run: RunDir, layout: str) -> None:
    counter = run.path / layout
    counter.write_text("low 0\noom 3\noom_kill 2\n")
    state = running(
        pid=dead_pid(), memory={"rss_gib": 30.5}, memo=Memo(True, oom_kills=1, cgroup=str(counter))
    )
    state.memo.took_over = True
    assert "memory ran out" in observed_state(state, run=run).reason
    assert "30.5 GiB" in observed_state(state, run=run).reason
    state.memo.oom_kills = 2
    assert "SIGKILL" in observed_state(state, run=run).reason


def test_the_counter_of_this_machine_is_read_or_unknown() -> None:
    file, count = liveness.oom_counter()
    assert (file == "") == (count == -1)
