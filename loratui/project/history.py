"""The undo history of captions: one door for every change, and nothing lost behind it.

`History.commit` takes changes of whole files (bytes before, bytes after), checks under a lock that each file
still is what it was, writes all contents ahead to `.loratui/history/log.jsonl`, then replaces the files one
by one. Killed at any moment, each file is the old or the new one, and `recover` finishes the rest or takes
it back. Undo and redo are entries of their own: the log only grows. A file that somebody else changed
meanwhile is a conflict: reported, never overwritten.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from loratui.dataset.batch import Batch
from loratui.errors import DatasetError, LockedError
from loratui.files import sync_folder
from loratui.project.history_log import (
    Entry,
    FileRecord,
    HistoryLog,
    NoteRecord,
    blob_line,
    digest,
)
from loratui.project.history_write import FileWriter, WriteProblem

ActorKind = Literal["hand", "batch", "captioner", "import", "restore"]
PINNED = "pinned"
_WRITERS = 8
"""Threads that replace files: on slow disks each rename waits, and waits overlap."""
_SYNC_EACH = 32
"""Up to so many files are flushed one by one; above, the whole file system at once."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change.

    Attributes:
        kind: hand, batch, captioner, import or restore.
        name: the captioner's model, the operation...
        detail: what belongs to it (threshold, run id...), plain JSON values.
    """

    kind: ActorKind
    name: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The actor as the log keeps it."""
        return {"kind": self.kind, "name": self.name, **self.detail}


@dataclass(frozen=True, slots=True)
class FileChange:
    """What to make of one file; None stands for no file."""

    path: Path
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True, slots=True)
class NoteChange:
    """A value to keep about a file (`stars`, `kind`, `pinned`, `crop`...); None forgets it."""

    path: Path
    name: str
    after: Any


@dataclass(frozen=True, slots=True)
class Conflict:
    """A file that is not what it was taken for; it was left as it is.

    Attributes:
        path: the file.
        expected: its bytes as they were known.
        found: its bytes now.
        wanted: the bytes that were to be written.
    """

    path: Path
    expected: bytes | None
    found: bytes | None
    wanted: bytes | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a commit, an undo, a redo or a recovery.

    Attributes:
        entry: number of the entry, 0 when nothing was changed.
        label: of the entry that was made, taken back or done again.
        written: files that changed.
        left: files left alone, with the reason.
        conflicts: files somebody else changed.
    """

    entry: int = 0
    label: str = ""
    written: tuple[Path, ...] = ()
    left: tuple[tuple[Path, str], ...] = ()
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one file, for its own history."""

    entry: Entry
    before: bytes | None
    after: bytes | None


class _FailedAt(Exception):
    """A file could not be written."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(str(path))
        self.path = path
        self.why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


class History:
    """The history of one project.

    Attributes:
        on_progress: called with (done, of) now and then while many files are written, from any thread.

    Args:
        root: the project folder.
        roots: further folders whose files may be changed (sources outside the project).
        timeout: seconds to wait for another process that is writing.
    """

    def __init__(self, root: Path, roots: Sequence[Path] = (), timeout: float = 10.0) -> None:
        self.root = root.absolute()
        self.folder = self.root / ".loratui" / "history"
        self.log = HistoryLog(self.folder / "log.jsonl")
        self.timeout = timeout
        self.on_progress: Callable[[int, int], None] | None = None
        self._writer = FileWriter((self.root, *roots))
        self._mutex = threading.RLock()
        self.log.refresh()

    # --- the door ---------------------------------------------------------------------------------------

    def commit(
        self,
        changes: Iterable[FileChange],
        actor: Actor,
        label: str = "",
        notes: Iterable[NoteChange] = (),
        include_pinned: bool = False,
    ) -> Outcome:
        """Make changes as one step.

        A change by hand pins its files: other actors leave them alone unless `include_pinned`.

        Raises:
            DatasetError: a file could not be written; all others were put back.
            LockedError: another process holds the history.
        """
        with self._door():
            keep = actor.kind != "hand" and not include_pinned
            wanted: list[FileChange] = []
            left: list[tuple[Path, str]] = []
            for change in changes:
                if keep and self.log.notes.get((self.key(change.path), PINNED)):
                    left.append((change.path, "pinned by hand"))
                else:
                    wanted.append(change)
            new = list(notes)
            if actor.kind == "hand":
                new += [NoteChange(c.path, PINNED, True) for c in wanted if c.before != c.after]
            return self._step(wanted, new, actor, label, left)

    def undo(self, actor: Actor | None = None) -> Outcome:
        """Take the newest step back, with all entries of its run; an empty outcome when there is none."""
        with self._door():
            return self._whole(actor or Actor("hand"), undo=True)

    def redo(self, actor: Actor | None = None) -> Outcome:
        """Do the step again that was taken back last; an empty outcome when there is none."""
        with self._door():
            return self._whole(actor or Actor("hand"), undo=False)

    def restore(self, entry: int, actor: Actor | None = None, only: Path | None = None) -> Outcome:
        """Bring files back to what they were right after an entry (0: before the first one), as a new step.

        Args:
            entry: the number of the entry.
            actor: who.
            only: one file; all of them when left out.
        """
        with self._door():
            if entry and entry not in self.log.entries:
                raise DatasetError(
                    f"There is no entry {entry} in the history.", "`loratui history` lists them."
                )
            only_key = None if only is None else self.key(only)
            first: dict[str, str | None] = {}
            last: dict[str, str | None] = {}
            for later in self._done():
                for record in later.files if later.id > entry else ():
                    if only_key in (None, record.path):
                        first.setdefault(record.path, record.before)
                        last[record.path] = record.after
            data = self.log.blobs([*first.values(), *last.values()])
            changes = [
                FileChange(self.path(key), data[last[key]], data[want])
                for key, want in first.items()
                if want != last[key] and want in data and last[key] in data
            ]
            notes = () if only is not None else self._notes_after(entry)
            return self._step(changes, list(notes), actor or Actor("restore"), f"restore to {entry}", [])

    def recover(self, resume: bool = True) -> list[Outcome]:
        """Finish what was cut off, or with `resume` False take it back; nothing to do gives an empty list."""
        with self._door(recover=False):
            return self._recover(resume)

    # --- reading ----------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take in what other processes added."""
        with self._mutex:
            self.log.refresh()

    def entries(self) -> list[Entry]:
        """All steps that took effect, the oldest first (undo and redo are steps too)."""
        return self._done()

    def pending(self) -> list[Entry]:
        """Steps that were cut off."""
        return self.log.pending()

    def can_undo(self) -> Entry | None:
        """The step that `undo` would take back."""
        return self.log.entries[self.log.undo_stack[-1]] if self.log.undo_stack else None

    def can_redo(self) -> Entry | None:
        """The step that `redo` would do again."""
        return self.log.entries[self.log.redo_stack[-1]] if self.log.redo_stack else None

    def of(self, path: Path) -> list[Step]:
        """The history of one file, the oldest first; contents that are lost read as no file."""
        key = self.key(path)
        found = [(e, r) for e in self._done() for r in e.files if r.path == key]
        data = self.log.blobs(h for _, r in found for h in (r.before, r.after))
        return [Step(e, data.get(r.before), data.get(r.after)) for e, r in found]

    def note(self, path: Path, name: str, default: Any = None) -> Any:
        """A value kept about a file."""
        return self.log.notes.get((self.key(path), name), default)

    def notes(self, name: str) -> dict[Path, Any]:
        """All files that have a value of this name."""
        return {self.path(key): value for (key, n), value in self.log.notes.items() if n == name}

    def pinned(self) -> set[Path]:
        """Caption files that were written by hand and are kept from batches."""
        return {path for path, value in self.notes(PINNED).items() if value}

    def edited(self) -> set[Path]:
        """Caption files that differ by steps which were not taken back."""
        keys = {r.path for n in self.log.undo_stack for r in self.log.entries[n].files}
        return {self.path(k) for k in keys}

    def key(self, path: Path) -> str:
        """How a file is named in the log: relative to the project where it lies inside."""
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 -- links must stay as they are named
        try:
            return absolute.relative_to(self.root).as_posix()
        except ValueError:
            return str(absolute)

    def path(self, key: str) -> Path:
        """The file a name in the log stands for."""
        return self.root / key

    # --- inside -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _door(self, recover: bool = True) -> Iterator[None]:
        with self._mutex:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(str(self.folder / "lock"), timeout=self.timeout)
                lock.acquire()
            except Timeout:
                raise LockedError(
                    "Another loratui is writing captions of this project.", "Wait for it, then try again."
                ) from None
            except OSError as error:
                raise DatasetError(
                    f"The history in {self.folder} cannot be written: {error.strerror}.",
                    "Captions change only where that can be undone: make the project folder writable.",
                ) from error
            try:
                self.log.refresh(truncate=True)
                if recover and self.log.pending():
                    self._recover(resume=True)
                yield
            finally:
                lock.release()

    def _done(self) -> list[Entry]:
        return [e for e in self.log.entries.values() if e.status == "done"]

    def _notes_after(self, entry: int) -> list[NoteChange]:
        first: dict[tuple[str, str], Any] = {}
        for later in self._done():
            for note in later.notes if later.id > entry else ():
                first.setdefault((note.path, note.name), note.before)
        return [NoteChange(self.path(key), name, value) for (key, name), value in first.items()]

    def _whole(self, actor: Actor, undo: bool) -> Outcome:
        """The newest step taken back or done again; a run that commits as it goes is one step of many."""
        entry = self.can_undo() if undo else self.can_redo()
        if entry is None:
            return Outcome()
        run, total = entry.actor.get("run"), self._again(entry, actor, undo)
        while run:
            entry = self.can_undo() if undo else self.can_redo()
            if entry is None or entry.actor.get("run") != run:
                break
            one = self._again(entry, actor, undo)
            left, conflicts = total.left + one.left, total.conflicts + one.conflicts
            total = Outcome(one.entry, one.label, total.written + one.written, left, conflicts)
        return total

    def _again(self, entry: Entry, actor: Actor, undo: bool) -> Outcome:
        pairs = [(r.path, r.after, r.before) if undo else (r.path, r.before, r.after) for r in entry.files]
        data = self.log.blobs(h for _, a, b in pairs for h in (a, b))
        changes: list[FileChange] = []
        left: list[tuple[Path, str]] = []
        for key, old, new in pairs:
            if old in data and new in data:
                changes.append(FileChange(self.path(key), data[old], data[new]))
            else:
                left.append((self.path(key), "its content in the history is damaged"))
        notes = [NoteChange(self.path(n.path), n.name, n.before if undo else n.after) for n in entry.notes]
        link = {"undoes" if undo else "redoes": entry.id}
        return self._step(changes, notes, actor, entry.label, left, link)

    def _step(
        self,
        changes: Sequence[FileChange],
        notes: Sequence[NoteChange],
        actor: Actor,
        label: str,
        left: list[tuple[Path, str]],
        link: dict[str, int] | None = None,
    ) -> Outcome:
        """Check, write ahead, replace, mark done."""
        ready: list[FileChange] = []
        conflicts: list[Conflict] = []
        seen: set[str] = set()
        for change in changes:
            key = self.key(change.path)
            if change.before == change.after or key in seen:
                continue
            seen.add(key)
            try:
                found = self._writer.read(change.path)
            except WriteProblem as problem:
                left.append((change.path, str(problem)))
                continue
            if found == change.before:
                ready.append(change)
            else:
                conflicts.append(Conflict(change.path, change.before, found, change.after))
        untouched = {self.key(c.path) for c in conflicts} | {self.key(p) for p, _ in left}
        records = [
            NoteRecord(key, n.name, old, n.after)
            for n in notes
            if (key := self.key(n.path)) not in untouched
            and (old := self.log.notes.get((key, n.name))) != n.after
        ]
        if not ready and not records and link is None:
            return Outcome(0, label, (), tuple(left), tuple(conflicts))
        number = self._write_ahead(ready, records, actor, label, link or {})
        self._replace(number, ready)
        written = tuple(c.path for c in ready)
        return Outcome(number, label, written, tuple(left), tuple(conflicts))

    def _write_ahead(
        self,
        changes: Sequence[FileChange],
        notes: Sequence[NoteRecord],
        actor: Actor,
        label: str,
        link: dict[str, int],
    ) -> int:
        number = self.log.next_id()
        begin = {
            "k": "begin",
            "id": number,
            "t": round(time.time(), 3),
            "actor": actor.as_json(),
            "label": label,
        }
        lines: list[dict[str, Any]] = [{**begin, **link}]
        known: set[str] = set()
        for change in changes:
            for data in (change.before, change.after):
                name = digest(data)
                if (
                    data is not None
                    and name is not None
                    and name not in known
                    and not self.log.has_blob(name)
                ):
                    known.add(name)
                    lines.append(blob_line(data))
            names = {"b": digest(change.before), "a": digest(change.after)}
            lines.append({"k": "file", "id": number, "p": self.key(change.path), **names})
        lines += [
            {"k": "note", "id": number, "p": n.path, "n": n.name, "b": n.before, "a": n.after} for n in notes
        ]
        lines.append({"k": "ready", "id": number, "n": len(changes) + len(notes)})
        try:
            self.log.append(lines)
        except OSError as error:
            raise DatasetError(
                f"The history cannot be written: {error.strerror}.",
                "Nothing was changed; make room, then try again.",
            ) from error
        return number

    def _replace(self, number: int, changes: Sequence[FileChange]) -> None:
        made: list[FileChange] = []
        try:
            self._write_all(changes, made, number)
            self._flush([c.path for c in changes])
        except (_FailedAt, OSError) as error:
            why = error.why if isinstance(error, _FailedAt) else error.strerror
            name = error.path if isinstance(error, _FailedAt) else "a folder"
            try:
                for change in reversed(made):
                    self._writer.write(change.path, change.before, number)
                self.log.append([{"k": "void", "id": number}])
            except (OSError, WriteProblem) as again:
                raise DatasetError(
                    f"{name} cannot be written ({why}), and the others cannot be put back now ({again}).",
                    "Make room, then run `loratui history DIR recover`: the history holds every byte.",
                ) from error
            raise DatasetError(
                f"{name} cannot be written: {why}.", "Nothing was changed; mend that, then try again."
            ) from error
        self.log.append([{"k": "done", "id": number}])

    def _write_all(self, changes: Sequence[FileChange], made: list[FileChange], number: int) -> None:
        """Write them, several at a time when there are many; `made` grows by each one that is done.

        Raises:
            _FailedAt: the first failure, when all that were under way have ended.
        """
        stop = threading.Event()

        def one(change: FileChange) -> None:
            if stop.is_set():
                return
            try:
                self._writer.write(change.path, change.after, number)
            except (OSError, WriteProblem) as error:
                stop.set()
                raise _FailedAt(change.path, error) from error
            made.append(change)
            if self.on_progress is not None and len(made) % 100 == 0:
                self.on_progress(len(made), len(changes))

        if len(changes) <= _SYNC_EACH:
            for change in changes:
                one(change)
            return
        with ThreadPoolExecutor(_WRITERS) as pool:
            for done in [pool.submit(one, change) for change in changes]:
                done.result()

    def _flush(self, paths: Sequence[Path]) -> None:
        """Everything on disk before the log says so."""
        if len(paths) <= _SYNC_EACH:
            for path in paths:
                self._writer.sync(path)
            for folder in {p.parent for p in paths}:
                sync_folder(folder)
            return
        for folder in {p.parent for p in paths}:
            _sync_file_system(folder)

    def _recover(self, resume: bool) -> list[Outcome]:
        out: list[Outcome] = []
        for entry in self.log.pending():
            forward = resume and not entry.damaged
            out.append(self._finish(entry, forward))
        return out

    def _finish(self, entry: Entry, forward: bool) -> Outcome:
        """Bring each file of a step that was cut off to one side of it."""
        data = self.log.blobs(h for r in entry.files for h in (r.before, r.after))
        written: list[Path] = []
        left: list[tuple[Path, str]] = []
        conflicts: list[Conflict] = []
        pick: Callable[[FileRecord], tuple[str | None, str | None]] = (
            (lambda r: (r.before, r.after)) if forward else (lambda r: (r.after, r.before))
        )
        for record in entry.files:
            path = self.path(record.path)
            old, new = pick(record)
            try:
                self._writer.sweep(path, entry.id)
                found = self._writer.read(path)
                if digest(found) == new:
                    written.append(path)
                elif digest(found) == old and new in data:
                    self._writer.write(path, data[new], entry.id)
                    written.append(path)
                elif digest(found) == old:
                    left.append((path, "its content in the history is damaged"))
                else:
                    conflicts.append(Conflict(path, data.get(old), found, data.get(new)))
            except WriteProblem as problem:
                left.append((path, str(problem)))
            except OSError as error:
                raise DatasetError(
                    f"{path} cannot be written: {error.strerror}.",
                    "The step stays open; make room, then recover again.",
                ) from error
        self._flush([p for p in written if p.exists()])
        self.log.append([{"k": "done" if forward else "void", "id": entry.id}])
        return Outcome(entry.id, entry.label, tuple(written), tuple(left), tuple(conflicts))


def from_batch(batch: Batch) -> list[FileChange]:
    """The changes of a batch edit, as `History.commit` takes them."""
    return [FileChange(c.path, c.raw, c.data) for c in batch.changes]


def _sync_file_system(folder: Path) -> None:
    """`syncfs` of the file system a folder lies on; all of them where the C library lacks it."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "syncfs"):
        os.sync()
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if library.syncfs(handle) != 0:
            os.sync()
    finally:
        os.close(handle)
