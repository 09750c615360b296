"""The queue of captions that wait for a verdict, and everything a verdict needs to see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from rich.style import Style
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message

from loratui.dataset.batch import word_diff
from loratui.dataset.framing import PLAIN
from loratui.ui import figures, text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.titles import set_title
from loratui.ui.widgets.answers import Answers
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.image_view import ImageView
from loratui.ui.widgets.line_editor import LineEditor
from loratui.ui.widgets.line_list import LineList

if TYPE_CHECKING:
    from loratui.caption.review import Waiting
    from loratui.ui.app import LoratuiApp

ORDERS = ("as they were written", "least sure first", "shortest first")


class CaptionReview(Horizontal):
    """The queue on the left; picture, what changed, caption and answers of the one under the cursor."""

    class Wanted(Message):
        """Another caption stands under the cursor: what was there before is wanted."""

        def __init__(self, item: Waiting) -> None:
            super().__init__()
            self.item = item

    def __init__(self) -> None:
        super().__init__(id="review")
        self._items: list[Waiting] = []
        self._order = 0
        self._longest = 0
        """Cells of the longest name."""
        self._asked: Waiting | None = None
        self._before: str | None = None
        self._known = False
        self.expects_back = False
        """Whether an undo was asked for: what comes back gets the cursor."""

    def compose(self) -> ComposeResult:
        """List, picture, texts."""
        with Vertical(id="queue-panel", classes="panel") as panel:
            panel.border_title = "to look over"
            yield LineList(self._row, None, "Reading…", id="queue")
        with Vertical(id="review-right"):
            with Vertical(id="review-picture-panel", classes="panel"):
                yield ImageView(id="review-picture")
            was = Facts(self._was, id="review-was", classes="panel")
            was.border_title = "change"
            yield was
            with Vertical(id="review-caption-panel", classes="panel") as caption:
                caption.border_title = "caption"
                yield LineEditor(id="review-caption")
            with Vertical(id="review-said-panel", classes="panel") as said:
                said.border_title = "said"
                yield Answers("", id="review-said")

    def show_items(self, items: Sequence[Waiting]) -> None:
        """The queue is this now; the cursor stays where it is, or goes to what undo brought back."""
        view = self.query_one("#queue", LineList)
        before = self.current
        at = view.cursor
        known = {item.caption for item in self._items}
        self._items = self._ordered(items)
        self._longest = max((cell_len(text.plain(item.picture.name)) for item in self._items), default=0)
        paths = [item.caption for item in self._items]
        keep = min(at, max(0, len(paths) - 1))
        if before is not None and before.caption in paths:
            keep = paths.index(before.caption)
        fresh = [i for i, path in enumerate(paths) if path not in known]
        if self.expects_back and fresh:
            keep, self.expects_back = fresh[0], False
        view.say(
            "No caption waits for a look.\nWhat caption runs write appears here; esc goes back to start one."
        )
        view.show_rows(len(self._items), keep)
        self._show()

    def next_order(self) -> None:
        """The next order of the queue."""
        self._order = (self._order + 1) % len(ORDERS)
        self.show_items(self._items)

    def _ordered(self, items: Sequence[Waiting]) -> list[Waiting]:
        if self._order == 1:
            return sorted(items, key=lambda item: item.least_sure)
        if self._order == 2:
            return sorted(items, key=lambda item: len(item.text))
        return sorted(items, key=lambda item: item.run, reverse=True)

    @property
    def current(self) -> Waiting | None:
        """The caption under the cursor."""
        at = self.query_one("#queue", LineList).cursor
        return self._items[at] if at < len(self._items) else None

    @property
    def items(self) -> list[Waiting]:
        """All that wait."""
        return list(self._items)

    def go(self, by: int) -> None:
        """To another caption, around the ends."""
        if self._items:
            view = self.query_one("#queue", LineList)
            view.cursor = (view.cursor + by) % len(self._items)

    @on(LineList.Moved, "#queue")
    def _show(self) -> None:
        item = self.current
        panel = self.query_one("#queue-panel")
        set_title(panel, f"to look over · {figures.count(len(self._items))}")
        set_title(panel, ORDERS[self._order], below=True)
        row = cast("LoratuiApp", self.app).library.row(item.picture) if item is not None else None
        view = self.query_one("#review-picture", ImageView)
        view.show_framed(item.picture if item is not None else None, row.frame if row is not None else PLAIN)
        name = text.shorten(text.plain(item.picture.name), 40) if item is not None else "picture"
        set_title(self.query_one("#review-picture-panel"), name)
        self.query_one(LineEditor).show(item.text if item is not None else "")
        by = " + ".join(item.said) if item is not None else ""
        title = f"caption · by {text.plain(by)}" if by else "caption"
        set_title(self.query_one("#review-caption-panel"), title)
        self.query_one(Answers).show(item.said if item is not None else {})
        if item is None:
            self._asked, self._known = None, False
        elif self._asked != item:
            self._asked, self._known = item, False
            self.post_message(self.Wanted(item))
        self.query_one("#review-was", Facts).redraw()

    def show_before(self, item: Waiting, before: str | None) -> None:
        """What was there before."""
        if item == self._asked:
            self._before, self._known = before, True
            self.query_one("#review-was", Facts).redraw()

    # drawing

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        item = self._items[index]
        sure = item.least_sure
        mark = f"{sure:.2f}" if sure <= 1 else "    "
        name = max(8, min(self._longest, width // 3))
        return [
            (text.fit(text.plain(item.picture.name), name) + " ", colours.text),
            (mark + "  ", colours.amber if sure < 0.5 else colours.muted),
            (text.crop(text.plain(item.text), max(0, width - name - 7)), colours.muted),
        ]

    def _was(self, width: int, height: int, colours: Palette) -> list[Row]:
        item = self.current
        if item is None or not self._known:
            return []
        if not self._before:
            return [[("There was no caption before.", colours.muted)]]
        row: Row = []
        struck = Style(strike=True)
        for piece in word_diff(self._before, item.text):
            tint = {"added": colours.green, "removed": colours.red + struck}.get(piece.kind, colours.muted)
            row.append((text.plain(piece.text), tint))
        return _wrapped(row, width, height)


def _wrapped(row: Row, width: int, height: int) -> list[Row]:
    """A long row of styled words as several."""
    rows: list[Row] = [[]]
    used = 0
    for piece, tint in row:
        for number, word in enumerate(piece.split(" ")):
            gap = 1 if number else 0
            if used and used + gap + len(word) > width:
                rows.append([])
                used, gap = 0, 0
            rows[-1].append((" " * gap + word, tint))
            used += gap + len(word)
    return rows[:height]
