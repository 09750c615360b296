"""The pictures as the rooms see them: rows, marks, filter, order. Workers find out, the handlers here own.

`state_changed` of the app says what is new: `pictures` when rows or captions are others, `measured` when
figures came, `shown` when the filter or the order lets other rows through, `marks`, `tags`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from loratui.dataset.query import Node, QueryError, parse, parse_sort, select, sort_rows
from loratui.dataset.rows import INFO, PictureRow
from loratui.dataset.sidecar import Caption, read_caption
from loratui.dataset.tokens import ClipTokens
from loratui.errors import DatasetError, LoratuiError
from loratui.ui.counting import frequencies, shared_prefix, token_counter, totals
from loratui.ui.measuring import Measuring
from loratui.ui.messages import ProjectOpened, Said, ScanDone, ScanProgress
from loratui.ui.outside import Outside, is_below
from loratui.ui.still import making_rows
from loratui.ui.thumbnail_source import ThumbnailSource

if TYPE_CHECKING:
    from PIL.Image import Image

    from loratui.dataset.measure_pool import Measured
    from loratui.project.collection import Collection
    from loratui.ui.watching import Gone, Post, Watching

_AT_ONCE = 3000
"""Up to so many rows are filtered without a thread."""
_RECOUNT = 0.3


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


class Library:
    """All pictures of the project, and what of them is shown."""

    MEASURES: ClassVar[bool] = True
    """Whether pictures are measured in the background."""
    WATCHES: ClassVar[bool] = True
    """Whether changes by other programs are looked out for."""

    def __init__(self, studio: Watching) -> None:
        self.studio = studio
        self.collection: Collection | None = None
        self.rows: list[PictureRow] = []
        self.shown: list[PictureRow] = []
        self.read = False
        """Whether the disk was looked at."""
        self._behind = False
        """Whether the index knows of changes that the rows do not: their look was cut short."""
        self.filter = ""
        self.last_filter = ""
        """The filter before it was cleared, for n and N."""
        self.sort = "name"
        self.marked: set[Path] = set()
        self.tags_shown: list[tuple[str, int]] = []
        self.tags_all: list[tuple[str, int]] = []
        self.calm: frozenset[str] = INFO
        """Codes of findings that ask for nothing in this project."""
        self.tokens: ClipTokens | None = None
        self._node: Node | None = None
        self._by_path: dict[Path, PictureRow] = {}
        self.prefix = ""
        """The folder that all pictures lie in, with its slash."""
        self.changed: set[Path] = set()
        """Pictures whose files were found to be others, the last time that was looked for."""
        self.totals = (0, 0, 0)
        """Pictures with a caption, pictures to look at, unusable files."""
        self._measuring = Measuring(self)
        self._outside = Outside(self)
        self._looking = threading.Lock()
        self.in_sight: Callable[[], Sequence[PictureRow]] = tuple
        """Gives the rows in sight; set by the room that shows them."""
        self._alike: Mapping[Path, int] = {}
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
                post(Said(error.message, error.advice, "error"))
                return
            with making_rows():
                rows = collection.rows()
            if rows and not gone():
                self.studio.call_later(self._take, rows, collection, False)
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
        self._look(collection, self.studio.post_message, gone, not fresh)

    def look_at(self, collection: Collection, files: Iterable[Path]) -> bool:
        """Look at files that another program changed, in a thread; False when all has to be looked at."""
        with self._looking:
            found = collection.look_at(files)
            if found is not None:
                self._renew(collection, found.touched, bool(found.changed))
        if found is not None and found.changed and self.MEASURES:
            self.studio.call_later(self._measuring.start, collection)
        return found is not None

    def look_in_sight(self, folders: Iterable[Path]) -> None:
        """Look at the pictures in sight that lie in these folders."""
        collection = self.collection
        pictures = [row.known.path for row in self.in_sight() if is_below(row.known.path, folders)]
        if collection is None or not pictures:
            return

        def work(_post: Post, gone: Gone) -> None:
            if not self.look_at(collection, pictures) and not gone():
                self.look(collection, gone)

        self.studio.in_thread(work, "sight")

    def _look(self, collection: Collection, post: Post, gone: Gone, known: bool) -> None:
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
            with making_rows():
                scan = collection.scan()
            post(ScanDone(scan))
        except LoratuiError as error:
            post(Said(error.message, error.advice, "error"))
            return
        if self.tokens is None:
            self.tokens = token_counter(collection.project.base)
            self.studio.call_later(self._count_again)
        if self.MEASURES and not gone():
            self.studio.call_later(self._measuring.start, collection)

    def _count_again(self) -> None:
        """Tokens can be counted now and need not be guessed."""
        for row in self.rows:
            row.tokens = None
        if "tokens" in f"{self.filter} {self.sort}":
            self._narrow()
        self._publish("pictures")

    def _take(self, rows: list[PictureRow] | None, collection: Collection, read: bool) -> None:
        """Rows as they are now; None when nothing changed."""
        self.collection = collection
        self.read = self.read or read
        if rows is not None:
            before = self._by_path
            self.changed = {
                row.known.path
                for row in rows
                if (old := before.get(row.known.path)) is not None
                and old.known.mtime_ns != row.known.mtime_ns
            }
            self.rows = rows
            self.prefix = shared_prefix(rows)
            self._by_path = {row.known.path: row for row in rows}
            self.marked &= self._by_path.keys()
            for path in self.marked:
                self._by_path[path].marked = True
            self._narrow()
        self._publish("pictures")

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
                self.studio.call_later(self._take, collection.rows(), collection, True)
        else:
            self.studio.call_later(self._patch, collection.rows(pictures), sift)
        if many or rescan:
            with making_rows():
                self.studio.post_message(ScanDone(collection.scan()))

    def _patch(self, rows: Sequence[PictureRow], sift: bool) -> None:
        self.changed = set()
        for new in rows:
            old = self._by_path.get(new.known.path)
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

    def forget(self, pictures: Iterable[Path]) -> None:
        """Rows of pictures that are going away: gone from the screen at once."""
        gone = set(pictures)
        self.marked -= gone
        self.rows = [row for row in self.rows if row.known.path not in gone]
        self.shown = [row for row in self.shown if row.known.path not in gone]
        for path in gone:
            self._by_path.pop(path, None)
        self._publish("shown")

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
            self._source = ThumbnailSource(collection, self._ending)
        return self._source.get(picture)

    def row(self, picture: Path) -> PictureRow | None:
        """The row of a picture."""
        return self._by_path.get(picture)

    # --- figures ----------------------------------------------------------------------------------------

    @property
    def measuring(self) -> tuple[int, int] | None:
        """(done, of) while pictures are measured."""
        return self._measuring.progress

    def take_figures(self, found: Iterable[Measured]) -> None:
        """Figures of some pictures."""
        for one in found:
            row = self._by_path.get(one.path)
            if row is not None:
                error = one.error or "ok"
                row.known = replace(row.known, quality=one.quality, phash=one.phash or None, measured=error)
                if one.quality is not None:
                    row.problems = tuple(dict.fromkeys((*row.problems, *one.quality.findings())))
        self._publish("measured")

    def take_groups(self, alike: Mapping[Path, int]) -> None:
        """How many pictures look like each."""
        for path in self._alike.keys() | alike.keys():
            row = self._by_path.get(path)
            if row is not None:
                row.dup = alike.get(path, 0)
        self._alike = alike
        self._publish("measured")

    def close(self) -> None:
        """The app ends: so does everything that runs in the background."""
        self._measuring.stop()
        self._outside.stop()
        self._ending.set()
        if self._source is not None:
            self._source.close()

    # --- what is shown ----------------------------------------------------------------------------------

    def narrow(self, text: str) -> QueryError | None:
        """Show what a filter lets through; a wrong one changes nothing and comes back as the error."""
        text = text.strip()
        try:
            node = parse(text) if text else None
        except QueryError as error:
            return error
        if self.filter and not text:
            self.last_filter = self.filter
        self.filter, self._node = text, node
        self._narrow()
        return None

    def order(self, text: str) -> QueryError | None:
        """Sort by fields; a wrong one changes nothing and comes back as the error."""
        try:
            parse_sort(text)
        except QueryError as error:
            return error
        self.sort = text
        self._narrow()
        return None

    def _narrow(self) -> None:
        node, sort, rows = self._node, self.sort, self.rows
        if len(rows) <= _AT_ONCE:
            self._show(self._choose(node, sort, rows))
            return

        def work(_post: Post, _gone: Gone) -> None:
            self.studio.call_later(self._show, self._choose(node, sort, rows), node, sort)

        self.studio.in_thread(work, "filter")

    def _choose(self, node: Node | None, sort: str, rows: list[PictureRow]) -> list[PictureRow]:
        if "tokens" in f"{self.filter} {sort}":
            for row in rows:
                self.count(row)
        chosen = select(node, rows) if node is not None else rows
        return chosen if sort == "name" else sort_rows(chosen, parse_sort(sort))

    def _show(self, shown: list[PictureRow], *asked: Any) -> None:
        if asked and asked != (self._node, self.sort):
            return  # another filter was typed meanwhile
        self.shown = shown
        self._publish("shown")
        self.count_tags()

    def matches(self, text: str) -> set[int]:
        """The rows a filter selects among those shown, by `id`."""
        try:
            return {id(row) for row in select(parse(text), self.shown)}
        except QueryError:
            return set()

    # --- marks ------------------------------------------------------------------------------------------

    def mark(self, rows: Iterable[PictureRow], on: bool | None = True) -> None:
        """Mark rows, take the marks away, or with None turn each over."""
        for row in rows:
            row.marked = not row.marked if on is None else on
            if row.marked:
                self.marked.add(row.known.path)
            else:
                self.marked.discard(row.known.path)
        self._publish("marks")
        if "marked" in self.filter:
            self._narrow()

    def marked_rows(self) -> list[PictureRow]:
        """Marked rows, in natural order."""
        return [row for row in self.rows if row.marked] if self.marked else []

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

    # --- counts -----------------------------------------------------------------------------------------

    def count(self, row: PictureRow) -> int:
        """CLIP tokens of a caption; about so many where the base has no vocabulary here."""
        if row.tokens is None:
            row.tokens = self.count_text(row.caption)
        return row.tokens

    def count_text(self, caption: str) -> int:
        """CLIP tokens of a text."""
        if self.tokens is not None:
            return self.tokens.count(caption)
        from loratui.ui.widgets.caption_editor import tokens

        return tokens(caption)

    @property
    def exact(self) -> bool:
        """Whether tokens are counted and not guessed."""
        return self.tokens is not None

    def _recount(self) -> None:
        """Count captions and findings anew, in a thread when there are many."""
        rows = self.rows
        if len(rows) <= _AT_ONCE:
            self._counted(*totals(rows))
            return

        def work(_post: Post, gone: Gone) -> None:
            time.sleep(_RECOUNT)  # changes come in bursts; the newest one counts
            if not gone():
                self.studio.call_later(self._counted, *totals(rows))

        self.studio.in_thread(work, "totals")

    def _counted(self, totals: tuple[int, int, int], calm: frozenset[str]) -> None:
        if (totals, calm) != (self.totals, self.calm):
            self.totals, self.calm = totals, calm
            self.studio.state_changed.publish("marks")

    def amiss(self, row: PictureRow) -> bool:
        """Whether somebody should look at this picture."""
        return bool(row.dup) or any(code not in self.calm for code in row.problems)

    def count_tags(self) -> None:
        """Count tags of what is shown and of all, in a thread when there are many."""
        shown, rows = self.shown, self.rows

        def count() -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
            with making_rows():  # the tags of each row are kept with it
                return both()

        def both() -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
            every = frequencies(rows)
            return (every if len(shown) == len(rows) else frequencies(shown)), every

        def take(here: list[tuple[str, int]], every: list[tuple[str, int]]) -> None:
            self.tags_shown, self.tags_all = here, every
            self._publish("tags")

        if len(rows) <= _AT_ONCE:
            take(*count())
        else:

            def work(_post: Post, _gone: Gone) -> None:
                self.studio.call_later(take, *count())

            self.studio.in_thread(work, "tags")

    def _publish(self, what: str) -> None:
        if what in {"pictures", "measured"}:
            self._recount()
        self.studio.state_changed.publish(what)
