"""Tail a run's journal into a follower until the run has ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from filelock import FileLock, Timeout

from loratui.errors import LockedError
from loratui.followers.spec import Follower
from loratui.paths import state_dir
from loratui.runs.directory import RunDir
from loratui.runs.fold import apply
from loratui.runs.liveness import observed_state
from loratui.runs.state import ENDED, RunState
from loratui.runs.tail import Tail

POLL_S = 0.5
_PIECE = 1 << 20


def follow(
    run: RunDir, follower: Follower, stop: Callable[[], bool] = lambda: False, poll_s: float = POLL_S
) -> RunState:
    """Give every event of a run to a follower, in order, until it has ended or `stop` says so."""
    tail, state = Tail(run), RunState(run_id=run.id)
    seen = state
    try:
        while not stop():
            events = tail.poll(_PIECE)
            if tail.restarted:
                state = RunState(run_id=run.id)
            for event in events:
                apply(state, event)
                follower.take(event, state)
            if events:
                continue
            follower.flush()
            seen = observed_state(state, None, run)
            if seen.state in ENDED:
                if not (last := tail.poll()):
                    break
                for event in last:  # its last words came between the two looks
                    apply(state, event)
                    follower.take(event, state)
                continue
            time.sleep(poll_s)
    finally:
        follower.close(seen)
    return seen


def only_one(run: RunDir, name: str) -> FileLock:
    """The lock that keeps a run from being followed twice to the same place.

    Raises:
        LockedError: it is.
    """
    folder = state_dir() / "followers"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / f"{run.id}-{name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LockedError(
            f"{run.id} is being followed to {name} already.", "One follower of a kind is enough."
        ) from None
    return lock
