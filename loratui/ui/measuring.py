"""Figures, hashes and thumbnails of pictures that have none yet, in the background; then near-duplicates."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from loratui.ui.still import making_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loratui.dataset.measure_pool import Measured
    from loratui.project.collection import Collection
    from loratui.ui.library import Library

_TELL_S = 1.0
"""Seconds between two repaints."""
_REST_S = 0.5
"""The first keys have the machine to themselves."""


class Measuring:
    """One thread at a time that measures what a collection does not know yet.

    Attributes:
        progress: (done, of) while there is something to measure.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._again: Collection | None = None
        self._grouped: tuple[int, ...] = ()
        self.progress: tuple[int, int] | None = None

    def start(self, collection: Collection) -> None:
        """Measure; while that goes on, once more afterwards."""
        if self._thread is not None:
            self._again = collection
            return
        self._stop = threading.Event()
        # a daemon: a file that takes its ten seconds must not hold up the end of the app
        self._thread = threading.Thread(target=self._run, args=(collection, self._stop), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; what is measured is kept."""
        self._stop.set()
        self._again, self._thread, self.progress = None, None, None

    def _run(self, collection: Collection, stop: threading.Event) -> None:
        of = collection.index.count_unmeasured()
        if of and not stop.wait(_REST_S):
            self._tell(stop, 0, of)
            ready, told, fresh = collection.measure(), time.monotonic(), []
            for done, found in enumerate(ready, 1):
                fresh.append(found)
                if stop.is_set():
                    break
                if time.monotonic() - told > _TELL_S or done == of:
                    self._tell(stop, done, of, fresh)
                    told, fresh = time.monotonic(), []
            ready.close()
        stamp = collection.index.hashes_stamp()
        if not stop.is_set() and stamp != self._grouped:
            with making_rows():
                collection.regroup()
            self._grouped = stamp
            self._library.studio.call_later(self._library.take_groups, collection.alike)
        self._faces(collection, stop)
        if not stop.is_set():
            self._library.studio.call_later(self._ended)

    def _faces(self, collection: Collection, stop: threading.Event) -> None:
        """Last and longest, where a detector is installed; nothing waits for it."""
        if stop.is_set():
            return
        ready, told, fresh = collection.look_for_faces(), time.monotonic(), []
        for found in ready:
            if stop.is_set():
                break
            fresh.append(found)
            if time.monotonic() - told > _TELL_S:
                self._tell(stop, 1, 1, fresh)
                told, fresh = time.monotonic(), []
        ready.close()
        if fresh and not stop.is_set():
            self._tell(stop, 1, 1, fresh)

    def _tell(self, stop: threading.Event, done: int, of: int, found: Sequence[Measured] = ()) -> None:
        def take() -> None:
            if not stop.is_set():
                self.progress = (done, of) if done < of else None
                self._library.take_figures(found)

        self._library.studio.call_later(take)

    def _ended(self) -> None:
        self._thread, again, self._again = None, self._again, None
        if again is not None:
            self.start(again)
