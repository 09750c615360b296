"""Locks: one holder, who is named; the dead hold nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loratui.errors import LockedError, RunError
from loratui.runs import lock as lock_module
from loratui.runs.directory import RunDir
from loratui.runs.liveness import process_identity
from loratui.runs.lock import DeviceLock, RunLock, owner

HOLDER = """
import sys, time
from loratui.runs.lock import RunLock
lock = RunLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "runs", "x")


def test_one_holder_who_is_named_and_a_dead_one_holds_nothing(run: RunDir) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        start = time.monotonic()
        with pytest.raises(LockedError, match=f"process {holder.pid}"):
            RunLock(run).acquire(timeout=0.2)
        assert 0.2 <= time.monotonic() - start < 2
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    named = owner(run.lock_path)
    assert named is not None and named.pid == holder.pid
    with RunLock(run) as lock:
        assert lock.held
        assert owner(run.lock_path) == process_identity()
    assert owner(run.lock_path) is None


def test_two_in_one_process(run: RunDir) -> None:
    first, second = RunLock(run), RunLock(run)
    first.acquire()
    with pytest.raises(LockedError):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_a_forked_child_does_not_keep_it(run: RunDir) -> None:
    lock = RunLock(run)
    lock.acquire()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)  # outlives the parent's hold
        os._exit(0)
    fd = lock._fd
    os.close(fd)  # as if the parent died: its descriptor goes without an unlock
    lock._fd = -1
    taken = RunLock(run)
    taken.acquire(timeout=5)
    taken.release()
    os.close(writing)
    os.waitpid(child, 0)
    os.close(reading)


def test_where_flock_does_not_exclude_a_living_holder_is_respected(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = process_identity(os.getppid())
    run.lock_path.write_text(json.dumps(parent.as_dict()))
    with pytest.raises(LockedError, match=f"process {parent.pid}"):
        RunLock(run).acquire()
    run.lock_path.write_text(json.dumps({**parent.as_dict(), "host": "elsewhere"}))
    run.status_path.write_text(json.dumps({"heartbeat": {"at": time.time()}}))
    with pytest.raises(LockedError, match="on elsewhere"):
        RunLock(run).acquire()
    os.utime(run.status_path, (1, 1))
    run.status_path.write_text(json.dumps({"heartbeat": {"at": 1}}))
    os.utime(run.status_path, (1, 1))
    RunLock(run).acquire()


def test_where_there_is_no_flock_a_soft_lock_stands_in(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock_module.fcntl, "flock", refuse)
    first = RunLock(run)
    first.acquire()
    with pytest.raises(LockedError):
        RunLock(run).acquire()
    first.release()
    with RunLock(run):
        pass


def test_a_replaced_lock_file_is_not_the_lock(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    replaced = []

    def replace_then_lock(fd: int, operation: int) -> None:
        if not replaced:
            replaced.append(True)
            run.lock_path.unlink()
            run.lock_path.touch()
        real(fd, operation)

    monkeypatch.setattr(lock_module.fcntl, "flock", replace_then_lock)
    lock = RunLock(run)
    lock.acquire(timeout=1)
    assert os.fstat(lock._fd).st_ino == run.lock_path.stat().st_ino
    lock.release()


def test_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATUI_STATE", str(tmp_path / "state"))
    with DeviceLock("cuda"):
        with pytest.raises(LockedError, match="cuda:0"):
            DeviceLock("cuda:0").acquire()
        with DeviceLock("cuda:1"):
            pass


def test_an_unwritable_folder_is_a_clear_refusal(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.lock_path.mkdir()
    with pytest.raises(RunError, match="cannot be opened"):
        RunLock(run).acquire()
    (tmp_path / "file").touch()
    monkeypatch.setenv("LORATUI_STATE", str(tmp_path / "file"))
    with pytest.raises(RunError, match="device locks") as caught:
        DeviceLock("cuda")
    assert "LORATUI_STATE" in caught.value.advice
