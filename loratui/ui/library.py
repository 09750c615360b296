"""The pictures of the project: read, looked at again, saved. Workers find out, the handlers here own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from loratui.dataset.rows import PictureRow
from loratui.dataset.sidecar import Caption, read_caption
from loratui.errors import DatasetError, LoratuiError
from loratui.ui.counting import Counted, shared_prefix, token_counter, totals
from loratui.ui.measuring import Measuring
from loratui.ui.messages import ProjectOpened, Said, ScanDone, ScanProgress
from loratui.ui.outside import Outside, is_below
from loratui.ui.shelf import Shelf
from loratui.ui.still import making_rows

if TYPE_CHECKING:
    from PIL.Image import Image

    from loratui.project.collection import Collection
    from loratui.ui.thumbnail_source import ThumbnailSource
    from loratui.ui.watching import Gone, Post, Watching

_PAINT_S = 1.0
"""At most so long what else is read waits for the first list to be painted."""
_REST = 0.3
"""Seconds without another key before what costs much is done."""


class CaptionConflict(DatasetError):
    """Another program changed a caption meanwhile.

    Attributes:
        theirs: the caption as it lies on disk now.
    """

    def __init__(self, picture: Path, theirs: str) -> None:
        super().__init__(
            f"The caption of {picture.name} was changed by another program meanwhile; nothing was written.",
            "Look at both, then choose.",
        )
        self.theirs = theirs


class Library(Shelf):
    """All pictures of the project, and what of them is shown."""

    MEASURES: ClassVar[bool] = True
    """Whether pictures are measured in the background."""
    WATCHES: ClassVar[bool] = True
    """Whether changes by other programs are looked out for."""

    def __init__(self, studio: Watching) -> None:
        super().__init__(studio)
        self.collection: Collection | None = None
        self.read = False
        """Whether the disk was looked at."""
        self.prefix = ""
        """The folder that all pictures lie in, with its slash."""
        self.changed: set[Path] = set()
        """Pictures whose files were found to be others, the last time that was looked for."""
        self.in_sight: Callable[[], Sequence[PictureRow]] = tuple
        """Gives the rows in sight; set by the room that shows them."""
        self.audited = False
        """Whether an audit was asked for, so that its findings are kept up with edits."""
        self._behind = False
        """Whether the index knows of changes that the rows do not: their look was cut short."""
        self._looking = threading.Lock()
        self._measuring = Measuring(self)
        self._outside = Outside(self)
        self._ending = threading.Event()
        self._source: ThumbnailSource | None = None

    # --- reading ----------------------------------------------------------------------------------------

    def open(self, opened: ProjectOpened) -> None:
        """Read the project's pictures: what the index remembers first, then the disk."""
        project, data = opened.project, opened.data

        def work(post: Post, gone: Gone) -> None:
            from loratui.project.collection import Collection

            try:
                collection = Collection(project, data)
            except LoratuiError as error:
                self.painted.set()
                post(Said(error.message, error.advice, "error"))
                return
            with making_rows():
                rows = collection.rows()
            if rows and not gone():
                self.studio.call_later(self._take, rows, collection, False, totals(rows))
                self.painted.wait(_PAINT_S)
            self.painted.set()
            if self.WATCHES and not gone():
                self._outside.start(collection)
            self._look(collection, post, gone, bool(rows))

        self._measuring.stop()
        self._outside.stop()
        if self._source is not None:  # its cache may be another project's now
            self._source.close()
            self._source = None
        self.studio.in_thread(work, "scan")

    def refresh(self) -> None:
        """Look at the disk again."""
        collection = self.collection
        if collection is not None:
            self.studio.in_thread(lambda post, gone: self._look(collection, post, gone, False), "scan")

    def look(self, collection: Collection, gone: Gone, fresh: bool = True) -> None:
        """Look at all of the disk, in a thread; with `fresh`, masks may have come or gone, too."""
        self._look(collection, self.studio.post_message, gone, not fresh, scan_now=False)

    def look_at(self, collection: Collection, files: Iterable[Path]) -> bool:
        """Look at files that another program changed, in a thread; False when all has to be looked at."""
        with self._looking:
            found = collection.look_at(files)
            self._behind |= found is None
            if found is not None:
                self._renew(collection, found.touched, bool(found.changed))
        if found is not None and found.changed and self.MEASURES:
            self.studio.call_later(self._measuring.start, collection)
        return found is not None

    def look_in_sight(self, folders: Iterable[Path]) -> None:
        """Look at the pictures in sight that lie in these folders."""
        collection = self.collection
        pictures = [row.known.path for row in self.in_sight() if is_below(row.known.path, folders)]
        if collection is None or not pictures or self._looking.locked():
            return

        def work(_post: Post, gone: Gone) -> None:
            if not self.look_at(collection, pictures):
                self.look(collection, gone)

        self.studio.in_thread(work, "sight", exclusive=False)

    def _look(
        self, collection: Collection, post: Post, gone: Gone, known: bool, scan_now: bool = True
    ) -> None:
        """In a thread: the disk, rows of what changed, the scan for the other rooms, then the figures."""
        try:
            with self._looking, making_rows():
                found = collection.refresh(lambda done: post(ScanProgress(done)))
                whole = self._behind or not known or bool(found.added or found.removed)
                self._behind = whole or bool(found.touched)
                if gone():
                    return
                self._behind = False
                rows = collection.rows() if whole else None
                self.studio.call_later(self._take, rows, collection, True)
                if not whole:
                    self._renew(collection, found.touched)
            if gone():
                return
            if scan_now:
                with making_rows():
                    post(ScanDone(collection.scan()))
            else:
                self.studio.call_later(self._scan_soon, collection)
        except LoratuiError as error:
            post(Said(error.message, error.advice, "error"))
            return
        if self.tokens is None:
            self.tokens = token_counter(collection.project.base)
            self.studio.call_later(self._count_again)
        if self.MEASURES and not gone():
            self.studio.call_later(self._measuring.start, collection)

    def _take(
        self,
        rows: list[PictureRow] | None,
        collection: Collection,
        read: bool,
        counted: Counted | None = None,
    ) -> None:
        """Rows as they are now; None when nothing changed. Their counts come along where they are known."""
        self.collection = collection
        if counted is not None:
            self.totals, self.calm = counted
        self.read = self.read or read
        if rows is not None:
            before = self._by_file
            self.changed = {
                row.known.path
                for row in rows
                if (old := before.get(row.known.file)) is not None
                and old.known.mtime_ns != row.known.mtime_ns
            }
            for new in rows if self.audited else ():
                known = before.get(new.known.file)
                if not new.audited and known is not None and known.caption == new.caption:
                    new.audited = known.audited
            self.rows = rows
            self.prefix = shared_prefix(rows)
            self._by_file = {row.known.file: row for row in rows}
            marked = [row for path in self.marked if (row := self.row(path)) is not None]
            self.marked = {row.known.path for row in marked}
            for row in marked:
                row.marked = True
            self._narrow()
        if counted is None:
            self._publish("pictures")
        else:
            self.studio.state_changed.publish("pictures")
            self.studio.call_after_refresh(self.painted.set)

    def reload(self, pictures: Sequence[Path], sift: bool = False) -> None:
        """Some captions or notes are others now: read them again, in a thread.

        Args:
            pictures: which.
            sift: whether to filter and sort anew; else they stay where they are, though no longer alike.
        """
        collection = self.collection
        if collection is None or not pictures:
            return

        def work(_post: Post, _gone: Gone) -> None:
            with self._looking:
                collection.look_again(pictures)
                self._renew(collection, pictures, sift=sift)

        self.studio.in_thread(work, "reload", exclusive=False)

    def _renew(
        self, collection: Collection, pictures: Sequence[Path], rescan: bool = False, sift: bool = True
    ) -> None:
        """In a thread: new rows for some pictures."""
        if not pictures:
            return
        many = len(pictures) * 4 > len(self.rows) + 200
        if many:  # a few rows are patched; for many it is quicker to make all of them
            with making_rows():
                every = collection.rows()
                wanted = set(map(os.fspath, pictures))
                self._audit_again([row for row in every if row.known.file in wanted], collection)
                self.studio.call_later(self._take, every, collection, True)
        else:
            rows = collection.rows(pictures)
            self._audit_again(rows, collection)
            if not rescan and self._framed_anew(rows):
                self.studio.call_later(self._scan_soon, collection)
            self.studio.call_later(self._patch, rows, sift)
        if many or rescan:
            with making_rows():
                self.studio.post_message(ScanDone(collection.scan()))

    def _audit_again(self, rows: Sequence[PictureRow], collection: Collection) -> None:
        """In a thread: what the last audit said of these is no longer so; the others stay as they were."""
        if self.audited:
            from loratui.project.findings import audit_again

            count = self.tokens.count if self.tokens is not None else None
            audit_again(rows, self._by_file, collection.project.trigger, count)

    def _framed_anew(self, rows: Sequence[PictureRow]) -> bool:
        """Whether crops or masks are others than those the plan of a training counts with."""
        scan = self.studio.scan
        before = {p.path: (p.frame, p.mask) for p in scan.pictures} if scan is not None else {}
        return any((row.frame, row.mask) != before.get(row.known.path, (row.frame, row.mask)) for row in rows)

    def _scan_soon(self, collection: Collection) -> None:
        """The scan for the other rooms, when keys and changes rest: ten of them ask for it ten times."""

        def work(post: Post, gone: Gone) -> None:
            time.sleep(_REST)
            if not gone():
                with making_rows():
                    post(ScanDone(collection.scan()))

        self.studio.in_thread(work, "rescan")

    def _patch(self, rows: Sequence[PictureRow], sift: bool) -> None:
        self.changed = set()
        for new in rows:
            old = self._by_file.get(new.known.file)
            if old is not None:
                if old.known.mtime_ns != new.known.mtime_ns:
                    self.changed.add(new.known.path)
                new.marked = old.marked
                old.__dict__.clear()  # every list holds this very object
                old.__dict__.update(new.__dict__)
        self.studio.captions_changed({row.known.path: row.known for row in rows})
        self._publish("pictures")
        if sift and (self._node is not None or self.sort != "name"):
            self._narrow()
        else:
            self.count_tags()

    def thumbnail(self, picture: Path) -> Image:
        """A small picture of a file, in a thread.

        Raises:
            DatasetError: it cannot be decoded.
            OSError: it cannot be read.
        """
        collection = self.collection
        if collection is None:
            raise DatasetError("The pictures are still being read.")
        if self._source is None:
            from loratui.ui.thumbnail_source import ThumbnailSource

            self._source = ThumbnailSource(collection, self._ending)
        return self._source.get(picture)

    @property
    def measuring(self) -> tuple[int, int] | None:
        """(done, of) while pictures are measured."""
        return self._measuring.progress

    def close(self) -> None:
        """The app ends: so does everything that runs in the background."""
        self._measuring.stop()
        self._outside.stop()
        self._ending.set()
        if self._source is not None:
            self._source.close()

    # --- captions ---------------------------------------------------------------------------------------

    def save_caption(self, picture: Path, text: str, expected: Caption) -> Caption:
        """Write a caption by hand, as one step of the history; the caption as it now stands on disk.

        Needs no event loop: signals end the app through here.

        Raises:
            CaptionConflict: the file is another than `expected`.
            DatasetError: it cannot be written.
        """
        if self.collection is None:
            raise DatasetError("The pictures are still being read.", "Save again in a moment.")
        outcome = self.collection.save_caption(picture, text, expected)
        for conflict in outcome.conflicts:
            raise CaptionConflict(picture, read_caption(picture).text if conflict.found is not None else "")
        for path, why in outcome.left:
            raise DatasetError(f"The caption {path.name} was left alone: {why}.")
        return read_caption(picture)
