"""What people do with runs that wait: let them go on, take them out, whether their process lives or not."""

from __future__ import annotations

from loratui.errors import RunError
from loratui.runs import queue
from loratui.runs.directory import RunDir
from loratui.runs.journal import Journal
from loratui.runs.launch import resume
from loratui.runs.liveness import is_left_behind
from loratui.runs.lock import RunLock
from loratui.runs.state import ENDED
from loratui.runs.status import status


def release(run: RunDir) -> bool:
    """Let a held run wait for its turn again, at its place; returns whether its process had to be started.

    Raises:
        RunError: it does not wait.
    """
    entry = next((entry for entry in queue.entries() if entry.run == str(run.path)), None)
    if entry.standing == "restarted" if entry is not None else is_left_behind(status(run)):
        resume(run)
        return True
    queue.hold(run, False)
    return False


def remove(run: RunDir) -> None:
    """Take a run out of the queue; it can be resumed later.

    Raises:
        RunError: it does not wait.
        LockedError: its process has just begun to work.
    """
    entry = queue.leave(run)
    if not run.exists():  # its folder was removed while it waited
        return
    state = status(run)
    left = is_left_behind(state)
    if entry is None and not left:
        raise RunError(
            f"The run {run.id} does not wait in the queue.", "`loratui queue` lists those that do."
        )
    if left or (entry is not None and entry.standing == "restarted"):  # nobody is there to say so
        with RunLock(run), Journal(run, heartbeat=False) as journal:
            if journal.state.state not in ENDED:
                advice = f"Queue it again with `loratui resume {run.id}`."
                reason = "It was taken out of the queue."
                journal.write("state", state="stopped", reason=reason, advice=advice)
