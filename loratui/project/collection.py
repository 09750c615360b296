"""The pictures of a project with all that is known of each, and every way to change them.

One object for the screen: index, history and trash behind it. Reading and writing may take a while, so all of
it may be called from worker threads; rows are handed out whole and never changed here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratui.config.schema import DataConfig
from loratui.dataset import batch as batches
from loratui.dataset.batch import Batch
from loratui.dataset.duplicates import Group, groups
from loratui.dataset.edits import Operation
from loratui.dataset.exports import Exported, ExportPicture, Format, export
from loratui.dataset.framing import Frame
from loratui.dataset.index import Index, Indexed, Refreshed
from loratui.dataset.measure_pool import Measured
from loratui.dataset.rows import Facts, PictureRow, candidates, make_rows
from loratui.dataset.scan import Look, Scan, natural_key, scan, walk_sources
from loratui.dataset.sidecar import Caption, read_caption
from loratui.dataset.tags import Kind
from loratui.errors import DatasetError, Problem
from loratui.project.framing import framing, set_alpha, set_frames
from loratui.project.history import Actor, FileChange, History, NoteChange, Outcome, from_batch
from loratui.project.history_log import Entry
from loratui.project.project import Project
from loratui.project.trash import Item, Trash

TRASHED = "trashed"
"""Note of a picture that lies in the trash: undo takes it out again."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What an undo or redo did.

    Attributes:
        outcome: of the captions and notes.
        pictures: that came back from the trash, or went there again.
        problems: of those that could not.
        noted: files of which other things are noted now: stars, kinds, crops, pins.
    """

    outcome: Outcome
    pictures: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()
    noted: tuple[Path, ...] = ()


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
        self.index = Index(project.cache_dir)
        self.history = History(project.root, roots)
        self.trash = Trash(project.root, roots)
        self.groups: tuple[Group, ...] = ()
        self._lock = threading.RLock()
        self._changed: dict[str, int] = {}
        self._changed_at = (-1, 0, 0)

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
        notes = {name: self.history.notes(name) for name in ("stars", "kind", "score")}
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
        """Look at the disk: new, changed and removed pictures and captions."""
        with self._lock:
            self.history.refresh()
            return self.index.refresh(walk_sources(self._sources), on_progress)

    def look_again(self, pictures: Iterable[Path]) -> None:
        """Look at the disk for some pictures."""
        with self._lock:
            self.index.refresh(pictures, forget=False)

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
        return scan(
            self._sources, root=self.project.root, data=self.data, look=look, frames=frames, alpha=alpha
        )

    def measure(self) -> Generator[Measured, None, None]:
        """Measure what is not measured yet and make thumbnails, picture by picture as they are ready."""
        yield from self.index.measure(thumbnails=True)

    def regroup(self) -> tuple[Group, ...]:
        """Find near-duplicates among the pictures that are measured."""
        with self._lock:
            known = self.index.rows()
        self.groups = tuple(groups(candidates(known)))
        return self.groups

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
        return self.history.commit(made, Actor("hand"), f"edit {picture.name}")

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
        return self.history.commit(from_batch(batch), who, batch.label, include_pinned=include_pinned)

    def note(self, values: Mapping[Path, Any], name: str, label: str) -> Outcome:
        """Keep a value about each picture (`stars`, `kind`) as one step; None forgets it."""
        notes = [NoteChange(picture, name, value) for picture, value in values.items()]
        return self.history.commit((), Actor("hand"), label, notes)

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
        return set_frames(self.history, chosen, actor, alpha, label)

    def use_alpha(self, pictures: Mapping[Path, bool]) -> Outcome:
        """Say whether the alpha channel of pictures is their mask, as one step.

        Raises:
            DatasetError: the history cannot be written.
            LockedError: another process holds it.
        """
        return set_alpha(self.history, pictures)

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
        return self._follow(self.history.undo())

    def redo(self) -> Moved:
        """Do the step again that was taken back last."""
        return self._follow(self.history.redo())

    def _follow(self, outcome: Outcome) -> Moved:
        """Let the trash follow the notes of a step."""
        entry = self.history.log.entries.get(outcome.entry)
        notes = [(self.history.path(n.path), n) for n in (entry.notes if entry else ())]
        wanted = [(path, bool(n.after)) for path, n in notes if n.name == TRASHED]
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
        noted = dict.fromkeys(path for path, n in notes if n.name != TRASHED)
        return Moved(outcome, tuple(moved), tuple(problems), tuple(noted))

    # --- out --------------------------------------------------------------------------------------------

    def export(
        self,
        rows: Sequence[PictureRow],
        target: Path,
        kind: Format,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Exported:
        """Write these pictures in another tool's layout.

        Raises:
            DatasetError: the target exists or cannot be written.
        """
        pictures = []
        for row in rows:
            path = row.known.path
            place = next((s.path for s in self._sources if path.is_relative_to(s.path)), path.parent)
            mask = row.mask.path if row.mask is not None and row.mask.kind == "file" else None
            rel = path.relative_to(place).as_posix()
            pictures.append(
                ExportPicture(path, rel, row.caption, row.repeats or 1, row.source or "pictures", mask)
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
