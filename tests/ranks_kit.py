"""A training by several processes, forked from this one, which plays torchrun: starts and ends with them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import train_kit as kit

from loratui.jobs import train as job
from loratui.jobs._main import run_job
from loratui.runs.directory import RunDir


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(run: RunDir, count: int, tweak: Any = None) -> list[int]:
    """Fork the processes of a job; their pids by rank.

    Args:
        run: its run.toml asks for as many.
        count: of processes.
        tweak: called in each before it begins, with its rank.
    """
    port, pids = free_port(), []
    for rank in range(count):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        code = 70
        try:
            log = os.open(run.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            os.environ |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count), "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
            }  # fmt: skip
            if tweak is not None:
                tweak(rank)
            run_job(job.main, [str(run.path)])
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            os._exit(code)
    return pids


def finish(pids: list[int], timeout_s: float = 90.0) -> list[int]:
    """Wait for all; exit codes by rank, negative for signals. Those that outlast the time are killed."""
    codes: dict[int, int] = {}
    deadline = time.monotonic() + timeout_s
    while len(codes) < len(pids):
        for pid in pids:
            if pid not in codes and (done := os.waitpid(pid, os.WNOHANG))[0]:
                codes[pid] = os.waitstatus_to_exitcode(done[1])
        if time.monotonic() > deadline:
            for pid in pids:
                if pid not in codes:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.02)
    return [codes[pid] for pid in pids]


def train(run: RunDir, count: int, tweak: Any = None) -> list[dict[str, Any]]:
    """Run a job to its end; its events. One process is run here."""
    if count == 1:
        return kit.run_job_here(run)
    codes = finish(start(run, count, tweak))
    assert codes == [0] * count, (codes, log(run))
    return kit.events(run)


def log(run: RunDir) -> str:
    """The end of what the processes printed."""
    return run.log_path.read_text(errors="replace")[-4000:]


def losses(events: list[dict[str, Any]]) -> list[float]:
    """Of the steps, in order."""
    return [e["loss"] for e in events if e["kind"] == "step"]


def last_lora(run: RunDir) -> Path:
    """The LoRA of the newest checkpoint."""
    return max(run.checkpoints_dir.glob("step-*")) / "lora.safetensors"
