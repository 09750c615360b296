"""Answers become captions in a thread of their own, through the project's history: the model never waits.

Each commit takes all answers that have come meanwhile. They are on the disk before a caption changes, so a
kill at any moment leaves each picture captioned, or answered and captioned by the resume, or not asked yet.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from loratui.caption.compose import compose
from loratui.caption.engine import Picture
from loratui.caption.results import Result, Results, State
from loratui.caption.settings import CaptionSettings
from loratui.dataset.batch import encode_like
from loratui.dataset.sidecar import Caption, read_caption
from loratui.errors import DatasetError, LockedError
from loratui.project.history import Actor, FileChange, History, Outcome

_EVERY_S = 0.5
"""At least so long between two commits: each is a few flushes of the disk."""
_MOST = 256
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Style:
    """What the captions of a run are made with.

    Attributes:
        settings: of the run.
        trigger: of the project.
        count: counts CLIP tokens.
    """

    settings: CaptionSettings
    trigger: str = ""
    count: Callable[[str], int] | None = None


class Writer:
    """Writes captions.

    Args:
        results: of the run, open for writing.
        pictures: by index.
        history: of the project.
        actor: who the captions are from; its detail holds `run`, which makes all commits one step of undo.
        style: how captions are made.
        on_done: called in the writer's thread with the pictures that are finished.
    """

    def __init__(
        self,
        results: Results,
        pictures: dict[int, Picture],
        history: History,
        actor: Actor,
        style: Style,
        on_done: Callable[[list[Result]], None] = lambda done: None,
    ) -> None:
        self._results = results
        self._pictures = pictures
        self._history = history
        self._actor = actor
        self._style = style
        self._on_done = on_done
        self._queue: queue.Queue[list[Result] | None] = queue.Queue(maxsize=64)
        self._error: BaseException | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="captions", daemon=True)

    def start(self) -> None:
        """Begin; `put` may be called from now on."""
        self._thread.start()

    def put(self, results: list[Result]) -> None:
        """Hand answers over.

        Raises:
            DatasetError, OSError: what kept earlier ones from being written.
        """
        while True:
            self._check()
            try:
                self._queue.put(results, timeout=0.2)
                return
            except queue.Full:
                continue

    def finish(self) -> None:
        """Write what is left and end.

        Raises:
            DatasetError, OSError: it could not be written.
        """
        self._ending.set()
        if self._thread.ident is not None:
            while self._thread.is_alive() and self._error is None:
                try:
                    self._queue.put(None, timeout=0.2)
                    break
                except queue.Full:
                    continue
            self._thread.join()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        ended = False
        try:
            while not ended:
                taken, ended = self._take()
                began = time.monotonic()
                if taken:
                    self._results.add(r for r in taken if r.state == "said")
                    self.write(taken)
                if not ended:  # the end cuts the wait short
                    self._ending.wait(max(0.0, _EVERY_S - (time.monotonic() - began)))
        except BaseException as error:  # handed to the thread that asks
            self._error = error

    def _take(self) -> tuple[list[Result], bool]:
        """All answers that wait, at least one batch; and whether the end was among them."""
        taken: list[Result] = []
        batch = self._queue.get()
        while batch is not None:
            taken += batch
            if len(taken) >= _MOST:
                return taken, False
            try:
                batch = self._queue.get_nowait()
            except queue.Empty:
                return taken, False
        return taken, True

    def write(self, results: Iterable[Result]) -> None:
        """Caption pictures by answers that are on the disk; also called by a resume, before `start`."""
        fresh = list(results)
        rest = [r for r in fresh if r.state == "said"]
        for result in fresh:
            if result.state == "failed":
                self._results.close_picture(result, "failed", result.reason)
        for _ in range(3):  # a caption that somebody changes meanwhile is read and composed again
            rest = self._commit(rest)
            if not rest:
                break
        for result in rest:
            self._results.close_picture(result, "left", "is being changed by another program")
        self._on_done(fresh)

    def _commit(self, results: list[Result]) -> list[Result]:
        """One commit; returns those whose file had changed under it."""
        changes: list[FileChange] = []
        by_path: dict[Path, tuple[Result, str]] = {}
        for result in results:
            old, text = self._composed(result)
            if old is None:
                continue
            if old.path in by_path:
                self._close(result, "left", "shares its caption with another picture")
                continue
            by_path[old.path] = (result, text)
            data = encode_like(text, old)
            changes.append(FileChange(old.path, old.raw if old.exists else None, data))
        if not changes:
            return []
        outcome = self._patiently(changes)
        again: list[Result] = []
        left = dict(outcome.left)
        conflicts = {c.path for c in outcome.conflicts}
        for path, (result, text) in by_path.items():
            if path in conflicts:
                again.append(result)
            elif path in left:
                self._close(result, "left", left[path])
            else:
                self._close(result, "written", "", text)
        return again

    def _patiently(self, changes: list[FileChange]) -> Outcome:
        """Commit; a person who edits captions meanwhile holds the history for moments only."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._history.commit(changes, self._actor, f"caption with {self._actor.name}")
            except LockedError:
                if time.monotonic() > deadline:
                    raise

    def _composed(self, result: Result) -> tuple[Caption | None, str]:
        """The caption file of a picture as it is, and its new text; None when it stays as it is."""
        picture = self._pictures[result.index]
        try:
            old = read_caption(picture.path)
        except DatasetError as error:
            self._close(result, "failed", error.message)
            return None, ""
        style = self._style
        made = compose(result.said, style.settings, style.trigger, old.text, style.count)
        if made.reason:
            self._close(result, "left", made.reason)
            return None, ""
        return old, made.text

    def _close(self, result: Result, state: State, reason: str = "", text: str = "") -> None:
        self._results.close_picture(result, state, reason, text)


def written_by(history: History, run_id: str) -> set[Path]:
    """Caption files that a run has written, whatever became of them since."""
    paths: set[Path] = set()
    for entry in history.entries():
        if entry.actor.get("run") == run_id and not entry.undoes:
            paths |= {history.path(record.path) for record in entry.files}
    return paths
