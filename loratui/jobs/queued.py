"""`python -m loratui.jobs.queued RUN PROGRAM ARG...`: wait for a device, then become the job.

A small process without torch. It holds the run's lock and writes its journal while it waits, answers what is
asked of it, and at its turn replaces itself by PROGRAM, with the same pid and the device's lock in hand.
"""

from __future__ import annotations

import logging
import os
import sys
import time

from loratui.errors import LoratuiError
from loratui.jobs._main import _TAKEOVER_S, Context, _plain_output, _Stop, _take_over
from loratui.runs import queue
from loratui.runs.devices import wanted
from loratui.runs.directory import RunDir
from loratui.runs.journal import Journal
from loratui.runs.launch import run_document
from loratui.runs.lock import DeviceLock, RunLock

POLL_S = 0.5
_log = logging.getLogger("loratui.jobs")


def main(arguments: list[str]) -> int:
    """Wait, and become the job; returns an exit code only when it does not come to that."""
    if len(arguments) < 2:
        sys.stderr.write("usage: python -m loratui.jobs.queued RUN PROGRAM ARG...\n")
        return 2
    run, command = RunDir(arguments[0]), arguments[1:]
    stop = _Stop()
    with _plain_output(run), stop.installed():
        try:
            lock = RunLock(run)
            lock.acquire(_TAKEOVER_S)
        except LoratuiError as error:
            _log.error("%s %s", error.message, error.advice)
            queue.leave(run)
            return 2
        try:
            with Journal(run) as journal:
                context = Context(run, journal)
                stop.context = context
                _take_over(context, lambda _: None)
                taken = _wait(context)
        except LoratuiError as error:
            _log.error("%s %s", error.message, error.advice)
            queue.leave(run)
            return 2
        finally:
            lock.release()
    if not taken:
        return 0
    return _become(run, command, taken)


def _become(run: RunDir, command: list[str], taken: list[DeviceLock]) -> int:
    """Replace this process by the job, which finds the locks by the environment."""
    pairs = [f"{lock.device}={lock.pass_on()}" for lock in taken]
    want = wanted(run_document(run))
    environment = os.environ | {queue.LOCKS: " ".join([str(os.getpid()), *pairs])}
    if want is not None:
        environment |= want.environment([lock.device for lock in taken])
    try:
        os.execve(command[0], command, environment)
    except OSError as error:
        with RunLock(run) as _, Journal(run) as journal:
            reason = f"The job could not be started with {command[0]}: {error.strerror or error}."
            advice = "Check LORATUI_PYTHON or `jobs.python` in the user config."
            journal.write("state", state="failed", reason=reason, advice=advice)
    return 1


def _wait(context: Context) -> list[DeviceLock]:
    """The locks once it is this run's turn; empty when it left the queue."""
    run, told = context.run, ""
    want = wanted(run_document(run))
    if want is not None:
        queue.enter(run, want)
    while True:
        ended = _asked(context)
        if ended:
            queue.leave(run)
            context.set_state("stopped", ended, f"Queue it again with `loratui resume {run.id}`.")
            return []
        try:
            found, taken = queue.take_turn(run)
        except LoratuiError as error:  # a disk that is away for a moment: the place is kept
            found, taken = "waiting", []
            _log.warning("%s %s", error.message, error.advice)
        if found == "taken":
            if told:
                context.set_state("starting")
            return taken
        if found == "removed":
            reason = "It was taken out of the queue."
            context.set_state("stopped", reason, f"Queue it again with `loratui resume {run.id}`.")
            return []
        held = found == "held"
        reason = "It is held in the queue." if held else why(run)
        if f"{held}{reason}" != told:
            told = f"{held}{reason}"
            advice = f"Let it go on with `loratui queue release {run.id}`." if held else ""
            context.set_state("held" if held else "queued", reason, advice)
        time.sleep(POLL_S)


def why(run: RunDir) -> str:
    """What a waiting run waits for, in one sentence."""
    before = queue.ahead(run)
    if before:
        more = f" and {len(before) - 1} more" if before[1:] else ""
        return f"It waits in the queue behind {RunDir(before[-1].run).id}{more}."
    mine = next((entry for entry in queue.entries() if entry.run == str(run.path)), None)
    busy = [holder for holder in queue.holders() if mine is not None and holder.device in mine.devices]
    if not busy:
        return "It is next in the queue."
    names = (f"{h.device} ({RunDir(h.run).id if h.run else f'process {h.pid}'})" for h in busy)
    return f"It is next in the queue, and waits for {' or '.join(names)}."


def _asked(context: Context) -> str:
    """Answer requests; returns why the run should leave the queue, empty while it should wait."""
    for request in context.controls():
        kind: str = request.kind
        if kind == "stop":
            context.ack(request)
            return "It was stopped while it waited in the queue."
        if kind in {"pause", "resume"}:
            queue.hold(context.run, kind == "pause")
            context.ack(request)
        else:
            context.ack(request, ok=False, reason="The run waits in the queue.")
    return context.stop_requested


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
