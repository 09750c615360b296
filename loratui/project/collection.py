"""The pictures of a project with all that is known of each, and every way to change them.

One object for the screen: index, history and trash behind it. Reading and writing may take a while, so all of
it may be called from worker threads; rows are handed out whole and never changed here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loratui.config.schema import DataConfig
from loratui.dataset import batch as batches
from loratui.dataset.batch import Batch
from loratui.dataset.buckets import buckets_of
from loratui.dataset.cropping import Crop
from loratui.dataset.duplicates import Group, groups
from loratui.dataset.edits import Operation
from loratui.dataset.exports import Exported, ExportPicture, Format, export
from loratui.dataset.framing import Frame
from loratui.dataset.gently import let_go
from loratui.dataset.index import Index, Indexed, Refreshed
from loratui.dataset.measure_pool import Measured
from loratui.dataset.rows import Facts, PictureRow, candidates, make_rows
from loratui.dataset.scan import SUFFIXES, Look, Scan, natural_key, scan, walk_sources
from loratui.dataset.sidecar import SUFFIXES as CAPTIONS
from loratui.dataset.sidecar import Caption, read_caption
from loratui.dataset.tags import Kind
from loratui.errors import DatasetError, Problem
from loratui.project.apart import APART, read_apart, set_apart
from loratui.project.framing import framing, set_alpha, set_frames
from loratui.project.history import Actor, FileChange, History, NoteChange, Outcome, from_batch
from loratui.project.history_log import Entry
from loratui.project.project import Project
from loratui.project.trash import Item, Trash
from loratui.project.weighing import WEIGHT

TRASHED = "trashed"
"""Note of a picture that lies in the trash: undo takes it out again."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What an undo or redo did.

    Attributes:
        outcome: of the captions and notes.
        pictures: that came back from the trash, or went there again.
        problems: of those that could not.
        touched: pictures whose captions or notes are others now.
        regrouped: whether near-duplicates are others now.
    """

    outcome: Outcome
    pictures: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()
    touched: tuple[Path, ...] = ()
    regrouped: bool = False


class Collection:
    """All pictures of one project.

    Args:
        project: whose.
        data: settings the buckets are made from.
    """

    def __init__(self, project: Project, data: DataConfig) -> None:
        self.project = project
        self.data = data
        self._sources = project.scan_sources()
        roots = [s.path for s in self._sources]
        self.index = Index(project.cache_dir, data.paper)
        self.history = History(project.root, roots)
        self.trash = Trash(project.root, roots)
        self.groups: tuple[Group, ...] = ()
        self._lock = threading.RLock()
        self._changed: dict[str, int] = {}
        self._changed_at = (-1, 0, 0)
        self._told = max(self.history.log.entries, default=0)
        self._own: set[int] = set()

    @property
    def folders(self) -> list[Path]:
        """The folders that the pictures lie in."""
        return [s.path for s in self._sources]

    # --- reading ----------------------------------------------------------------------------------------

    def rows(self, pictures: Iterable[Path] | None = None) -> list[PictureRow]:
        """Rows as the index knows them, in natural order of their paths; of some pictures or of all."""
        with self._lock:
            if pictures is None:
                known = self.index.rows()
            else:
                known = [found for p in pictures if (found := self.index.get(p)) is not None]
            rows = make_rows(known, self.project.root, self._facts(), self.data)
        if pictures is None:
            rows.sort(key=lambda row: natural_key(row.rel))
        return rows

    def _facts(self) -> Facts:
        sources = {s.path: (s.path.name, s.repeats) for s in self._sources}
        notes = {name: self.history.notes(name) for name in ("stars", "kind", "score", WEIGHT)}
        frames, alpha = framing(self.project.root, self.history)
        return Facts(
            sources,
            notes,
            frozenset(self.history.edited()),
            frozenset(self.history.pinned()),
            groups=self.groups,
            frames=frames,
            alpha=alpha,
        )

    def refresh(self, on_progress: Callable[[int], None] | None = None) -> Refreshed:
        """Look at the disk: new, changed and removed pictures and captions, and steps of other processes."""
        with self._lock:
            noted = self._steps_of_others()
            found = self.index.refresh(walk_sources(self._sources), on_progress)
            found.touched = list(dict.fromkeys((*found.touched, *noted)))
            return found

    def look_again(self, pictures: Iterable[Path]) -> Refreshed:
        """Look at the disk for some pictures."""
        with self._lock:
            return self.index.refresh(pictures, forget=False)

    def look_at(self, files: Iterable[Path]) -> Refreshed | None:
        """Look at files that are said to be others now: pictures, captions, whatever lies beside them.

        Returns:
            What became of the pictures they belong to; None when pictures, masks or folders came or went, so
            that all has to be looked at.
        """
        with self._lock:
            noted = self._steps_of_others()
            pictures: dict[Path, None] = {}
            for file in files:
                found = self._belongs_to(file)
                if found is None:
                    return None
                pictures |= dict.fromkeys(found)
            seen = self.index.refresh(pictures, forget=False)
            seen.touched = list(dict.fromkeys((*seen.touched, *noted)))
            return None if seen.added or seen.removed else seen

    def _belongs_to(self, file: Path) -> list[Path] | None:
        """The known pictures a file says something about; None when it is not one file of a known picture."""
        kind = file.suffix.lower()
        if kind in CAPTIONS:
            return self.index.of_caption(file)
        if kind in SUFFIXES:
            known = self.index.get(file) is not None and file.exists()
            return [file] if known else None
        if file.is_dir() or self.index.holds_below(file):
            return None
        return []

    def _steps_of_others(self) -> list[Path]:
        """Pictures of steps in the history that another process made since this was asked last."""
        self.history.refresh()
        entries = self.history.log.entries
        self._told = min(self._told, max(entries, default=0))
        fresh: list[Entry] = []
        for number in sorted(n for n in entries if n > self._told):
            entry = entries[number]
            if entry.status not in {"done", "void"}:
                break  # it is being written
            self._told = number
            if entry.status == "done" and number not in self._own:
                fresh.append(entry)
            self._own.discard(number)
        return self._pictures_of(fresh)

    def _pictures_of(self, entries: Iterable[Entry]) -> list[Path]:
        """The pictures whose captions or notes some steps changed."""
        keys: dict[str, None] = {}
        for entry in entries:
            keys |= dict.fromkeys(r.path for r in entry.files) | dict.fromkeys(n.path for n in entry.notes)
        pictures: dict[Path, None] = {}
        for path in map(self.history.path, keys):
            is_caption = path.suffix.lower() in CAPTIONS
            pictures |= dict.fromkeys(self.index.of_caption(path) if is_caption else [path])
        return list(pictures)

    def scan(self) -> Scan:
        """What `Project.scan` gives, from the index: nothing is read twice."""
        with self._lock:
            known = {found.path: found for found in self.index.rows()}

        def header(path: Path) -> tuple[tuple[int, int], int]:
            found = known.get(path)
            if found is None:
                raise _gone(path)
            if found.code:
                problem = Problem(str(path), found.code, "error", found.message, advice=_UNUSABLE)
                raise DatasetError(found.message, _UNUSABLE, (problem,))
            return (found.width, found.height), found.frames

        def caption(path: Path) -> Caption:
            found = known[path]
            if found.encoding == "unreadable":
                return read_caption(path)  # it says what is wrong
            where = found.caption_path
            return Caption(
                found.caption, where or path.with_suffix(".txt"), where is not None, found.encoding
            )

        frames, alpha = framing(self.project.root, self.history)
        look = Look(header, caption)
        try:
            return scan(
                self._sources, root=self.project.root, data=self.data, look=look, frames=frames, alpha=alpha
            )
        finally:
            let_go(known)

    def measure(self) -> Generator[Measured, None, None]:
        """Measure what is not measured yet and make thumbnails, picture by picture as they are ready."""
        yield from self.index.measure(thumbnails=True)

    def look_for_faces(self) -> Generator[Measured, None, None]:
        """Look for the faces of measured pictures, one by one as they are ready; none without a detector."""
        yield from self.index.look_for_faces()

    def regroup(self) -> tuple[Group, ...]:
        """Find near-duplicates among the pictures that are measured."""
        with self._lock:
            known = self.index.rows()
        self.groups = tuple(groups(candidates(known, read_apart(self.history))))
        let_go(known)
        return self.groups

    @property
    def alike(self) -> dict[Path, int]:
        """How many pictures look the same, of each that is not alone."""
        return {Path(c.path): len(g.members) for g in self.groups if g.sure for c in g.members}

    def say_apart(self, pictures: Sequence[Path]) -> Outcome:
        """Remember that pictures which look the same are no duplicates, as one step; then find groups anew.

        Raises:
            DatasetError: the history cannot be written.
            LockedError: another process holds it.
        """
        with self._lock:
            known = [found for p in pictures if (found := self.index.get(p)) is not None]
        hashes = {found.path: found.phash for found in known if found.phash is not None}
        outcome = self._mine(set_apart(self.history, hashes))
        self.regroup()
        return outcome

    def get(self, picture: Path) -> Indexed | None:
        """What the index knows of a picture."""
        with self._lock:
            return self.index.get(picture)

    def last_change(self, caption: Path) -> Entry | None:
        """The step that made a caption what it is, None when it is as it was found."""
        log = self.history.log
        stamp = (len(log.undo_stack), log.undo_stack[-1] if log.undo_stack else 0, len(log.redo_stack))
        if stamp != self._changed_at:
            self._changed = {r.path: n for n in log.undo_stack for r in log.entries[n].files}
            self._changed_at = stamp
        number = self._changed.get(self.history.key(caption))
        return None if number is None else log.entries.get(number)

    # --- captions ---------------------------------------------------------------------------------------

    def save_caption(self, picture: Path, text: str, expected: Caption) -> Outcome:
        """An edit by hand; it pins the caption.

        Raises:
            DatasetError: the file cannot be written.
            LockedError: another process is writing captions.
        """
        change = batches.set_text(picture, text, expected)
        if change.reason:
            return Outcome()
        made = [FileChange(change.path, change.raw, change.data)]
        return self._mine(self.history.commit(made, Actor("hand"), f"edit {picture.name}"))

    def plan(self, operation: Operation, rows: Sequence[PictureRow], include_pinned: bool = False) -> Batch:
        """What a batch edit would do to the captions of `rows`, as they lie on disk now."""
        kinds: dict[Path, Kind] = {
            r.known.path: "prose" if r.kind == "prose" else "tags" for r in rows if r.chosen_kind
        }
        targets = batches.load((r.known.path for r in rows), self.history.pinned(), kinds)
        return batches.plan(operation, targets, include_pinned)

    def commit(self, batch: Batch, actor: Actor | None = None, include_pinned: bool = False) -> Outcome:
        """Do a planned batch as one step."""
        who = actor or Actor("batch", batch.label)
        outcome = self.history.commit(from_batch(batch), who, batch.label, include_pinned=include_pinned)
        return self._mine(outcome)

    def _mine(self, outcome: Outcome) -> Outcome:
        """A step of this object's own: its caller knows of it already."""
        if outcome.entry:
            self._own.add(outcome.entry)
        return outcome

    def note(self, values: Mapping[Path, Any], name: str, label: str) -> Outcome:
        """Keep a value about each picture (`stars`, `kind`) as one step; None forgets it."""
        notes = [NoteChange(picture, name, value) for picture, value in values.items()]
        return self._mine(self.history.commit((), Actor("hand"), label, notes))

    def frame(
        self,
        chosen: Mapping[Path, Frame],
        alpha: Mapping[Path, bool] | None = None,
        label: str = "",
        actor: Actor | None = None,
    ) -> Outcome:
        """Keep turn and crop of pictures, as one step; the files are never touched.

        Args:
            chosen: picture -> its frame.
            alpha: picture -> whether its alpha channel is its mask.
            label: of the step in the history.
            actor: who did it; the hand when left out.

        Raises:
            DatasetError: the history cannot be written.
            LockedError: another process holds it.
        """
        return self._mine(set_frames(self.history, chosen, actor, alpha, label))

    def use_alpha(self, pictures: Mapping[Path, bool]) -> Outcome:
        """Say whether the alpha channel of pictures is their mask, as one step.

        Raises:
            DatasetError: the history cannot be written.
            LockedError: another process holds it.
        """
        return self._mine(set_alpha(self.history, pictures))

    # --- undo and trash ---------------------------------------------------------------------------------

    def throw_away(self, pictures: Sequence[Path]) -> list[Item]:
        """Move pictures with captions and masks to the trash, as one step.

        Raises:
            DatasetError: one cannot be moved; those before it are in the trash.
        """
        done: list[Item] = []
        try:
            for picture in pictures:
                done += self.trash.put([picture])
        finally:
            if done:
                label = f"trash {done[0].picture.name}" if len(done) == 1 else f"trash {len(done)} pictures"
                self.note(dict.fromkeys((i.picture for i in done), True), TRASHED, label)
        return done

    def bring_back(self, ids: Sequence[str]) -> list[Item]:
        """Restore items of the trash, as one step.

        Raises:
            DatasetError: an item is unknown, or its place is taken.
        """
        done: list[Item] = []
        try:
            for name in ids:
                done += self.trash.restore([name])
        finally:
            if done:
                label = (
                    f"restore {done[0].picture.name}" if len(done) == 1 else f"restore {len(done)} pictures"
                )
                self.note(dict.fromkeys(i.picture for i in done), TRASHED, label)
        return done

    def undo(self) -> Moved:
        """Take the newest step back, pictures in the trash included."""
        return self._step(self.history.undo)

    def redo(self) -> Moved:
        """Do the step again that was taken back last."""
        return self._step(self.history.redo)

    def _step(self, go: Callable[[], Outcome]) -> Moved:
        before = max(self.history.log.entries, default=0)
        moved = self._follow(go())
        made = [e for e in self.history.log.entries.values() if e.id > before and e.status == "done"]
        self._own |= {e.id for e in made}
        regrouped = any(n.name == APART for e in made for n in e.notes)
        if regrouped:
            self.regroup()
        with self._lock:
            return replace(moved, touched=tuple(self._pictures_of(made)), regrouped=regrouped)

    def _follow(self, outcome: Outcome) -> Moved:
        """Let the trash follow the notes of a step."""
        entry = self.history.log.entries.get(outcome.entry)
        wanted = [
            (self.history.path(n.path), bool(n.after))
            for n in (entry.notes if entry else ())
            if n.name == TRASHED
        ]
        moved: list[Path] = []
        problems: list[str] = []
        lying = {item.picture: item.id for item in reversed(self.trash.items())} if wanted else {}
        for picture, away in wanted:
            try:
                if away and picture.exists():
                    self.trash.put([picture])
                elif not away and picture in lying:
                    self.trash.restore([lying[picture]])
                else:
                    continue
                moved.append(picture)
            except DatasetError as error:
                problems.append(error.message)
        return Moved(outcome, tuple(moved), tuple(problems))

    # --- out --------------------------------------------------------------------------------------------

    def export(
        self,
        rows: Sequence[PictureRow],
        target: Path,
        kind: Format,
        on_progress: Callable[[int, int], None] | None = None,
        bake: bool = False,
    ) -> Exported:
        """Write these pictures in another tool's layout.

        Args:
            rows: which.
            target: a folder or file that does not exist yet.
            kind: of layout.
            on_progress: called with (done, total).
            bake: carry turns, crops and alpha masks out on the copies.

        Raises:
            DatasetError: the target exists or cannot be written, or a picture cannot be decoded.
        """
        sizes = buckets_of(self.data)
        pictures = []
        for row in rows:
            path = row.known.path
            place = next((s.path for s in self._sources if path.is_relative_to(s.path)), path.parent)
            rel = path.relative_to(place).as_posix()
            cut = Crop(row.known.width, row.known.height, sizes, row.frame)
            pictures.append(
                ExportPicture(
                    path,
                    rel,
                    row.caption,
                    row.repeats or 1,
                    row.source or "pictures",
                    row.mask,
                    row.frame,
                    cut.box if row.frame.box is not None else None,
                    bake,
                    self.data.paper,
                )
            )
        return export(pictures, target, kind, self.data.resolution, on_progress)

    def close(self) -> None:
        """Close the index."""
        with self._lock:
            self.index.close()


_UNUSABLE = "It is left out of the training."


def _gone(path: Path) -> DatasetError:
    message = "was removed while the folder was read."
    return DatasetError(message, "", (Problem(str(path), "missing-file", "error", message),))
