"""Files that other programs change: told by the kernel on local disks, looked at now and then elsewhere.

On local disks every change below the sources is shown within a second or so. A network disk tells nobody of
what other machines do there: only the pictures in sight are looked at, every few seconds. Either way a
caption is compared with the disk before it is written, so nothing of others is overwritten.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from loratui.dataset.sidecar import SUFFIXES as CAPTIONS
from loratui.disks import file_system, is_network
from loratui.ui.messages import Said

if TYPE_CHECKING:
    from loratui.project.collection import Collection
    from loratui.ui.library import Library

SLOW_S = 5.0
"""Seconds between two looks at the pictures in sight, where nobody tells of changes."""
_BURST_MS = 400
"""Changes that come within so long of each other are looked at together."""
_TICK_MS = 300
"""How soon is seen that a folder itself came or went, and that nothing happened while watching began."""
_REST = 0.5
"""After a look the machine has its duration again to itself, at most so many seconds: copying a folder in
must not keep it busy with looking, and the next change is to be seen soon."""
_SOON_S = 10.0
"""Failures that come within so long of each other count together."""
_MANY = 300
"""Above so many changed files it is quicker to look at all of them."""

Folders = dict[Path, tuple[int, int]]
"""Folders that are there -> which one it is (device, inode)."""


class Outside:
    """One thread that watches the folders of a collection, and tells the library."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._stop = threading.Event()

    def start(self, collection: Collection) -> None:
        """Watch the sources of a collection; what changes is looked at once the library has read the disk."""
        self.stop()
        self._stop = threading.Event()
        threading.Thread(target=self._run, args=(collection, self._stop), daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()

    def _run(self, collection: Collection, stop: threading.Event) -> None:
        folders = collection.folders
        silent = [f for f in folders if is_network(file_system(f))]
        told = [f for f in folders if f not in silent]
        if silent:
            threading.Thread(target=self._now_and_then, args=(silent, stop), daemon=True).start()
        if not told:
            return
        told.append(collection.history.folder)
        failed, again, last = 0, False, 0.0
        while not stop.is_set():
            try:
                self._watch(collection, told, stop, again)
            except RuntimeError:  # a name that is not UTF-8 cannot be told; that something happened is known
                began = time.monotonic()
                self._library.look(collection, stop.is_set)
                stop.wait(min(_REST, time.monotonic() - began))
            except (OSError, sqlite3.Error) as error:  # no watches left; or the index was busy with figures
                failed = failed + 1 if time.monotonic() - last < _SOON_S else 1
                last = time.monotonic()
                if failed > 2:
                    self._give_up(error, told, stop)
                    return
                stop.wait(0.5)
            again = True

    def _give_up(self, error: Exception, folders: list[Path], stop: threading.Event) -> None:
        self._library.studio.post_message(
            Said(
                f"Changes by other programs cannot be watched: {error}.",
                "The pictures in sight are looked at every few seconds; `rescan` looks at all.",
                "warning",
            )
        )
        self._now_and_then(folders, stop)

    def _watch(self, collection: Collection, wanted: list[Path], stop: threading.Event, again: bool) -> None:
        """Watch until the folders themselves are others: one came, went, or is another one now.

        Args:
            collection: whose.
            wanted: the folders, the history's last.
            stop: set when it is to end.
            again: whether nobody watched for a moment before.

        Raises:
            OSError: they cannot be watched.
            RuntimeError: something changed that cannot be told.
        """
        from watchfiles import watch  # here, so that the first frame does not wait for it

        present, first = _present(wanted), True
        if not present:
            stop.wait(_TICK_MS / 1000)
            if _present(wanted):
                self._library.look(collection, stop.is_set)
            return
        for changes in watch(
            *present,
            watch_filter=None,
            debounce=_BURST_MS,
            step=100,
            stop_event=stop,
            rust_timeout=_TICK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            if first and not self._is_read(collection, stop):
                return
            began = time.monotonic()
            files = _ours({Path(name) for _, name in changes}, present, collection.project.root)
            if files:
                self._look(collection, files, stop)
            if first and again:
                self._library.look(collection, stop.is_set, fresh=False)  # what happened while nobody watched
            now = _present(wanted)
            if now != present:
                only_history = {f for f in wanted if now.get(f) != present.get(f)} == {wanted[-1]}
                self._library.look(collection, stop.is_set, fresh=not only_history)
                return
            if files or (first and again):
                stop.wait(min(_REST, time.monotonic() - began))
            first = False

    def _is_read(self, collection: Collection, stop: threading.Event) -> bool:
        """Wait until the library has read the disk for the first time; False when it is closed before."""
        while not (self._library.read and self._library.collection is collection):
            if stop.wait(0.05):
                return False
        return True

    def _look(self, collection: Collection, files: set[Path], stop: threading.Event) -> None:
        while collection.history.on_progress is not None:  # the app's own batch: its rows are renewed once
            if stop.wait(1.0):
                return
        many = len(files) > _MANY
        if many or not self._library.look_at(collection, files):
            only_captions = all(file.suffix.lower() in CAPTIONS for file in files)
            self._library.look(collection, stop.is_set, fresh=not only_captions)

    def _now_and_then(self, folders: list[Path], stop: threading.Event) -> None:
        library = self._library
        while not stop.wait(SLOW_S):
            library.studio.call_later(library.look_in_sight, folders)


def _present(folders: Iterable[Path]) -> Folders:
    """Those that are there."""
    found: Folders = {}
    for folder in folders:
        try:
            stat = folder.stat()
        except OSError:
            continue
        found[folder] = (stat.st_dev, stat.st_ino)
    return found


def _ours(files: set[Path], folders: Iterable[Path], root: Path) -> set[Path]:
    """Without what no picture or caption is: hidden files, temporary ones of writers, runs of the project."""
    runs, log = root / "runs", root / ".loratui" / "history" / "log.jsonl"
    kept = set()
    for file in files:
        if file == log:
            kept.add(file)
            continue
        base = next((f for f in folders if file.is_relative_to(f)), None)
        if base is None or file.is_relative_to(runs):
            continue
        if not any(part.startswith(".") for part in file.parts[len(base.parts) :]):
            kept.add(file)
    return kept


def is_below(picture: Path, folders: Iterable[Path]) -> bool:
    """Whether a picture lies in one of some folders."""
    name = os.fspath(picture)
    return any(name.startswith(os.fspath(f) + os.sep) for f in folders)
