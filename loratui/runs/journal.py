"""The one writer of a run's events: append-only, a line at a time, never a reason for the training to end.

Whoever holds the run's lock opens a `Journal`. It keeps status.json fresh from a thread of its own, so the
heart beats during long steps too. When the disk is full the lines wait in memory and go out, in order, when
there is room.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from typing import Any

from loratui.errors import RunError
from loratui.files import replace_file
from loratui.runs import snapshot
from loratui.runs.directory import RunDir
from loratui.runs.events import Event, Read, decode_line, encode_line, read_events
from loratui.runs.fold import apply
from loratui.runs.liveness import HEARTBEAT_S, process_identity
from loratui.runs.state import RunState

__all__ = ["DURABLE", "Event", "Journal", "Read", "read_events"]

DURABLE = frozenset({"opened", "process", "state", "checkpoint", "pruned", "exported", "verified", "error"})
"""Kinds that are on the disk, not only in its cache, when `write` returns."""
_DROPPABLE = frozenset({"step", "memory", "log", "progress"})
_FRESH_S = 0.5
_RETRY_S = 1.0
_MOST_WAITING = 20_000
_log = logging.getLogger(__name__)


class Journal:
    """Open for append; the caller holds the run's lock for as long as the journal is open.

    Args:
        run: the run directory.
        heartbeat: keep status.json and its heartbeat fresh from a thread (a launcher, who stays briefly, does
            not).

    Raises:
        RunError: the journal cannot be opened for writing.
    """

    def __init__(self, run: RunDir, heartbeat: bool = True) -> None:
        self.run = run
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._fd = os.open(run.events_path, flags, 0o644)
            self._size = _repair(self._fd)
        except OSError as error:
            raise RunError(
                f"The journal of run {run.id} cannot be written: {error.strerror or error}.",
                f"Check that the disk has room and that you may write in {run.path}.",
            ) from error
        folded = snapshot.load(run)
        self.state: RunState = folded.state
        self.attempt = folded.state.attempt
        self._n = folded.state.memo.last_n
        self._end = snapshot.ending(run.events_path, self._size)
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._retry_at = 0.0
        self._warned: set[str] = set()
        self._mutex = threading.RLock()
        self._status_mutex = threading.Lock()
        self._dirty = False
        self._saved_at = 0.0
        self._owner = process_identity()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        if heartbeat:
            self._thread = threading.Thread(target=self._beat, name="journal", daemon=True)
            self._thread.start()

    def write(self, kind: str, **fields: Any) -> Event:
        """Append one event and fold it into `state`; returns it as readers will see it.

        Non-finite numbers and numpy or torch scalars are welcome. Kinds in `DURABLE` are flushed to the disk.
        Never raises for a full or failing disk: the line waits.
        """
        assert os.getpid() == self._owner.pid, "a forked child must not write the parent's journal"
        with self._mutex:
            if kind == "opened" and "attempt" in fields:
                self.attempt = int(fields["attempt"])
            self._n += 1
            line = encode_line({"n": self._n, "t": time.time(), "a": self.attempt, "kind": kind, **fields})
            event = decode_line(line[:-1])
            assert event is not None
            apply(self.state, event)
            self._waiting.append((kind, line))
            self._flush(now=kind in DURABLE)
            self._dirty = True
        if kind in {"state", "opened", "process"}:
            self.save_status()
        return event

    def save_status(self) -> None:
        """Replace status.json now; a disk that refuses is reported once and tried again later."""
        with self._status_mutex:
            with self._mutex:
                self._dirty = False
                beat = {**self._owner.as_dict(), "at": time.time()}
                behind = bool(self._waiting)  # the state is ahead of the journal on disk: no cache of it
                end = "waiting" if behind else self._end
                data = snapshot.encode(self.state, self._size, end, beat)
            self._saved_at = time.monotonic()
            try:
                replace_file(self.run.status_path, data)
            except OSError as error:
                self._warn_once("status", f"status.json cannot be written: {error.strerror or error}")

    def close(self, patience_s: float = 20.0) -> None:
        """Write what waits, trying for `patience_s` on a full disk, and close."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        if self._fd < 0:
            return
        deadline = time.monotonic() + patience_s
        with self._mutex:
            self._flush(now=True)
            while self._waiting and time.monotonic() < deadline:
                time.sleep(0.1)
                self._flush(now=True)
        self.save_status()
        os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _flush(self, now: bool = False) -> None:
        """Write the waiting lines in order; `now` also syncs, and tries a failing disk again."""
        if not now and time.monotonic() < self._retry_at:
            self._bound()
            return
        try:
            if self._retry_at:
                os.ftruncate(self._fd, self._size)  # the part of a line that a full disk took
            while self._waiting:
                line = self._waiting[0][1]
                written = os.write(self._fd, line)
                if written != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._size += written
                self._end = line[-18:].decode()
                self._waiting.popleft()
            if now:
                os.fsync(self._fd)
        except OSError as error:
            self._retry_at = time.monotonic() + _RETRY_S
            try:
                os.ftruncate(self._fd, self._size)
            except OSError:
                _log.debug("the torn line stays until the disk has room")
            self._warn_once(
                "events", f"The journal cannot be written ({error.strerror or error}); the run goes on"
            )
            self._bound()
            return
        if self._retry_at:
            self._retry_at = 0.0
            self._warned.discard("events")
            message = "The journal could not be written for a while; the disk was full or failing."
            self.write("warning", code="journal-delayed", message=message, advice="Free some disk space.")

    def _bound(self) -> None:
        """Drop the oldest lines that a reader can miss when too many wait."""
        if len(self._waiting) <= _MOST_WAITING:
            return
        excess = len(self._waiting) - _MOST_WAITING // 2
        kept: deque[tuple[str, bytes]] = deque()
        for kind, line in self._waiting:
            if excess > 0 and kind in _DROPPABLE:
                excess -= 1
            else:
                kept.append((kind, line))
        self._waiting = kept

    def _warn_once(self, what: str, message: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            _log.warning("%s", message)

    def _beat(self) -> None:
        while not self._closing.wait(_FRESH_S / 2):
            if self._waiting:
                with self._mutex:
                    self._flush()
            age = time.monotonic() - self._saved_at
            if age >= HEARTBEAT_S or (self._dirty and age >= _FRESH_S):
                self.save_status()


def _repair(fd: int) -> int:
    """Cut off a last line that has no line break (its writer died in it); returns the size."""
    size = os.fstat(fd).st_size
    end = size
    while end > 0:
        start = max(0, end - 65536)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end != size:
        os.ftruncate(fd, end)
    return end
