"""Captions are read by a thread of their own: a disk across a network must not stop the keys."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loratui.dataset import sidecar
from loratui.dataset.sidecar import Caption
from loratui.errors import LoratuiError


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a caption.

    Attributes:
        picture: whose.
        turn: of the question that this answers.
        caption: as it lies on disk, None when it cannot be read.
        problem: why not.
    """

    picture: Path
    turn: int
    caption: Caption | None
    problem: str = ""


class CaptionReader:
    """Reads the caption that was asked for last; what was asked for before it and is not begun is left out.

    Args:
        tell: gets each reading, in the thread that read it.
    """

    def __init__(self, tell: Callable[[Reading], object]) -> None:
        self._tell = tell
        self._changed = threading.Condition()
        self._wanted: tuple[Path, int] | None = None
        self._turn = 0
        self._last: Reading | None = None
        self._running = False

    def ask(self, picture: Path) -> int:
        """Read the caption of a picture soon; the number that its reading will carry."""
        with self._changed:
            self._turn += 1
            self._wanted = picture, self._turn
            if not self._running:
                self._running = True
                # a daemon: a disk that hangs must not hold up the end of the app
                threading.Thread(target=self._run, name="captions", daemon=True).start()
            return self._turn

    def wait(self, turn: int, seconds: float) -> Reading | None:
        """The reading of this number, None when it takes longer."""
        end = time.monotonic() + seconds
        with self._changed:
            while self._last is None or self._last.turn < turn:
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            return self._last if self._last is not None and self._last.turn == turn else None

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._wanted is None:
                    self._running = False
                    return
                (picture, turn), self._wanted = self._wanted, None
            try:
                found = Reading(picture, turn, sidecar.read_caption(picture))
            except LoratuiError as error:
                found = Reading(picture, turn, None, error.message)
            with self._changed:
                self._last = found
                self._changed.notify_all()
            with contextlib.suppress(RuntimeError):  # the app has ended meanwhile
                self._tell(found)
