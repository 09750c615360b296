"""The rows the rooms see: which are shown in which order, their marks, figures and counts.

`state_changed` of the app says what is new: `pictures` when rows or captions are others, `measured` when
figures came, `shown` when the filter or the order lets other rows through, `marks`, `tags`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.dataset.query import Node, QueryError, parse, parse_sort, select, sort_rows
from loratui.dataset.rows import INFO, PictureRow
from loratui.ui.counting import frequencies, totals
from loratui.ui.still import making_rows

if TYPE_CHECKING:
    from loratui.dataset.measure_pool import Measured
    from loratui.dataset.tokens import ClipTokens
    from loratui.ui.watching import Gone, Post, Watching

_AT_ONCE = 3000
"""Up to so many rows are filtered without a thread."""
_REST_S = 0.004
"""A thread that counts leaves the interpreter to the keys for so long, again and again."""
_RECOUNT = 0.3


class Shelf:
    """All rows, and which of them are shown; where they come from is not its business."""

    def __init__(self, studio: Watching) -> None:
        self.studio = studio
        self.rows: list[PictureRow] = []
        self.shown: list[PictureRow] = []
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
        self.totals = (0, 0, 0)
        """Pictures with a caption, pictures to look at, unusable files."""
        self._node: Node | None = None
        self._by_file: dict[str, PictureRow] = {}
        self.measured: set[Path] = set()
        """Pictures whose figures came last."""
        self._alike: Mapping[Path, int] = {}
        self.painted = threading.Event()
        """Set when the first list stands on the screen: what can wait, waits for it."""

    def row(self, picture: Path) -> PictureRow | None:
        """The row of a picture."""
        return self._by_file.get(os.fspath(picture))

    def forget(self, pictures: Iterable[Path]) -> None:
        """Rows of pictures that are going away: gone from the screen at once."""
        paths = set(pictures)
        self.marked -= paths
        gone = set(map(os.fspath, paths))
        self.rows = [row for row in self.rows if row.known.file not in gone]
        self.shown = [row for row in self.shown if row.known.file not in gone]
        for file in gone:
            self._by_file.pop(file, None)
        self._publish("shown")

    # --- figures ----------------------------------------------------------------------------------------

    def take_figures(self, found: Iterable[Measured]) -> None:
        """Figures of some pictures."""
        self.measured = set()
        for one in found:
            row = self.row(one.path)
            if row is not None and one.face is not None:
                self.measured.add(one.path)
                row.known = replace(row.known, face=one.face)
            elif row is not None:
                self.measured.add(one.path)
                error = one.error or "ok"
                row.known = replace(row.known, quality=one.quality, phash=one.phash or None, measured=error)
                if one.quality is not None:
                    row.problems = tuple(dict.fromkeys((*row.problems, *one.quality.findings())))
        self._publish("measured")

    def take_groups(self, alike: Mapping[Path, int]) -> None:
        """How many pictures look like each."""
        self.measured = set(self._alike.keys() | alike.keys())
        for path in self.measured:
            row = self.row(path)
            if row is not None:
                row.dup = alike.get(path, 0)
        self._alike = alike
        self._publish("measured")

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
        if len(rows) <= _AT_ONCE or (node is None and sort == "name"):
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
                self.studio.call_later(self._counted, *totals(rows, _REST_S))

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

            def work(_post: Post, gone: Gone) -> None:
                self.painted.wait(1.0)
                if not gone():
                    self.studio.call_later(take, *count())

            self.studio.in_thread(work, "tags")

    def _publish(self, what: str) -> None:
        if what in {"pictures", "measured"}:
            self._recount()
        self.studio.state_changed.publish(what)

    def _count_again(self) -> None:
        """Tokens can be counted now and need not be guessed."""
        for row in self.rows:
            row.tokens = None
        if "tokens" in f"{self.filter} {self.sort}":
            self._narrow()
        self._publish("pictures")
