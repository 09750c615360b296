"""The state of a run as it is now: from the cache and the journal's end, with liveness."""

from __future__ import annotations

import time
from collections.abc import Callable

from loratui.errors import RunError
from loratui.runs import snapshot
from loratui.runs.diagnosis import explained
from loratui.runs.directory import RunDir
from loratui.runs.events import Event
from loratui.runs.fold import apply
from loratui.runs.liveness import newest_beat, observed_state
from loratui.runs.state import ENDED, RunState
from loratui.runs.tail import Tail

_POLL_S = 0.2


class Watch:
    """A run followed from its first event: poll for what is new, look at `state`.

    Attributes:
        folded: the fold of the events read so far.
        state: the same as observed: `crashed` when the process is gone.
        tail: where in the journal this is.
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.tail = Tail(run)
        self.folded = RunState(run_id=run.id)
        self.state = self.folded
        self._explained: tuple[tuple[object, ...], RunState] | None = None

    @classmethod
    def onward(cls, run: RunDir, folded: snapshot.Folded) -> Watch:
        """A watch that goes on from what was folded, which it changes."""
        watch = cls(run)
        watch.folded = watch.state = folded.state
        watch.tail.offset, watch.tail.bad_lines = folded.offset, folded.state.bad_lines
        return watch

    def poll(self, max_bytes: int | None = None, now: float | None = None) -> list[Event]:
        """Read, fold and observe; returns the new events."""
        events = self._read(max_bytes)
        if events and max_bytes is not None:  # amid a long journal: who lived then is not the question
            self.state = self.folded
            return events
        seen = observed_state(self.folded, now, self.run)
        if seen.state == "crashed":  # it may have written its last words between the two looks
            events += self._read(max_bytes)
            seen = observed_state(self.folded, now, self.run)
        self.state = self._in_words(seen) if seen.state in ENDED else seen
        return events

    def _in_words(self, seen: RunState) -> RunState:
        """Why it ended; the log is read once for each end."""
        mark = (self.folded.events, seen.state, seen.reason)
        if self._explained is None or self._explained[0] != mark:
            self._explained = mark, explained(seen, self.run)
        return self._explained[1]

    def _read(self, max_bytes: int | None) -> list[Event]:
        events = self.tail.poll(max_bytes)
        if self.tail.restarted:
            self.folded = RunState(run_id=self.run.id)
        for event in events:
            apply(self.folded, event)
        self.folded.bad_lines = self.tail.bad_lines
        return events


def status(run: RunDir, now: float | None = None) -> RunState:
    """The state of `run` as one sees it now.

    Raises:
        RunError: there is no such run, or it cannot be read.
    """
    return looked(run, now)[0]


def looked(run: RunDir, now: float | None = None) -> tuple[RunState, snapshot.Folded]:
    """The state of `run` as one sees it now, and the fold of its journal, which can be read on from.

    Raises:
        RunError: there is no such run, or it cannot be read.
    """
    if not run.exists():
        raise RunError(f"{run.path} is not a run.", "`loratui runs` lists the runs of a project.")
    try:
        folded = snapshot.load(run)
        folded.state.run_id = folded.state.run_id or run.id
        seen = observed_state(folded.state, now, run)
        if seen.state == "crashed":  # it may have ended well between the two looks
            seen = observed_state(snapshot.advance(run, folded).state, now, run)
    except OSError as error:
        raise RunError(
            f"The journal of run {run.id} cannot be read: {error.strerror or error}.",
            "Check its permissions.",
        ) from error
    return explained(seen, run), folded


def wait(run: RunDir, on_event: Callable[[Event], None] | None = None, poll_s: float = _POLL_S) -> RunState:
    """Follow `run` until it ends or crashes; returns its last state.

    Args:
        run: a run that was launched.
        on_event: called for each event, those before the call included.
        poll_s: pause between looks.
    """
    watch = Watch(run)
    while True:
        for event in watch.poll():
            if on_event is not None:
                on_event(event)
        if watch.state.state in ENDED:
            return watch.state
        time.sleep(poll_s)


def beat_age(run: RunDir, now: float | None = None) -> float:
    """Seconds since the newest heartbeat of the run's writer."""
    return (time.time() if now is None else now) - newest_beat(run)
