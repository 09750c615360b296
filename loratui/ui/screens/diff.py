"""What a batch edit would do, before it happens: file, old and new words, what is left alone and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.cells import cell_len
from rich.style import Style
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from loratui.dataset.batch import PINNED, Batch, Change, Piece, word_diff
from loratui.ui import figures, text
from loratui.ui.drawing import Row, bar
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.line_list import LineList


class DiffDialog(ModalScreen[bool]):
    """Enter does it, esc leaves, tab shows what is left alone."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,n", "leave", "leave everything as it is"),
        Binding("tab", "turn", "left alone", priority=True),
        Binding("P", "pinned", "pinned too"),
    ]
    DEFAULT_CSS = """
    DiffDialog { align: center middle; background: $background 60%; }
    DiffDialog Vertical { width: 94%; max-width: 150; height: 92%; background: $panel; border: round $accent;
        border-title-color: $accent; border-subtitle-color: $muted; padding: 0 1; }
    DiffDialog LineList { height: 1fr; background: $panel; }
    DiffDialog #whole { height: 6; border-top: solid $faint; }
    DiffDialog.-low #whole { height: 4; }
    DiffDialog #sum { height: 1; }
    DiffDialog #do { height: 1; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-tall")]

    def __init__(self, scope: str, replan: Callable[[bool], None] | None, do: Callable[[], None]) -> None:
        """Open, and wait for `show` to bring the plan.

        Args:
            scope: which captions, in words.
            replan: asks for another plan, with or without the pinned captions; `show` brings it.
            do: does it; `progress` and `done` follow.
        """
        super().__init__()
        self._scope, self._replan, self._do = scope, replan, do
        self.plan: Batch | None = None
        self.include_pinned = False
        self._left = False
        self._progress: tuple[int, int] | None = None

    def compose(self) -> ComposeResult:
        """List, the whole text of one, the sum, the keys."""
        with Vertical() as box:
            box.border_subtitle = Content(text.plain(self._scope))
            yield LineList(self._row, empty="Working out what would change…", id="changes")
            yield Facts(self._whole, id="whole")
            yield Facts(self._sum, id="sum")
            yield Facts(self._keys, id="do")

    def on_mount(self) -> None:
        """Start in the list."""
        self.query_one(LineList).focus()
        if self.plan is not None:
            self._fill()

    def show(self, batch: Batch) -> None:
        """What would happen; when nothing would, the reasons."""
        self.plan = batch
        self._left = not batch.changes and bool(batch.left_alone)
        if self.is_mounted:
            self._fill()

    def _fill(self) -> None:
        assert self.plan is not None
        self.query_one(Vertical).border_title = Content(text.shorten(text.plain(self.plan.label), 60))
        view = self.query_one(LineList)
        view.say("Nothing to change.\nesc goes back.")
        view.show_rows(len(self._changes), 0)
        for facts in self.query(Facts):
            facts.redraw()

    @property
    def _changes(self) -> tuple[Change, ...]:
        if self.plan is None:
            return ()
        return self.plan.left_alone if self._left else self.plan.changes

    # --- drawing ----------------------------------------------------------------------------------------

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        change = self._changes[index]
        name = max(10, min(28, width // 4))
        row: Row = [(" " + text.fit(text.plain(change.picture.name), name) + "  ", colours.muted)]
        room = width - name - 3
        if self._left:
            reason = text.crop(text.plain(change.reason), 28)
            row.append((reason.ljust(28) + " ", colours.amber))
            return [*row, (text.crop(text.plain(change.before or ""), max(0, room - 29)), colours.muted)]
        pieces = word_diff(change.before or "", change.after or "")
        return row + _cut(_styled(pieces, colours), room)

    def _whole(self, width: int, height: int, colours: Palette) -> list[Row]:
        cursor = self.query_one(LineList).cursor
        if cursor >= len(self._changes):
            return []
        change = self._changes[cursor]
        pieces = word_diff(change.before or "", (change.before if self._left else change.after) or "")
        return _wrapped(_styled(pieces, colours), width, height)

    def _sum(self, width: int, height: int, colours: Palette) -> list[Row]:
        batch = self.plan
        if batch is None:
            return []
        row: Row = [(f"{len(batch.changes):,} to change", colours.green if batch.changes else colours.muted)]
        if batch.reasons:
            reasons = ", ".join(f"{n:,} {why}" for why, n in batch.reasons.items())
            row.append((text.crop(f"   left alone: {text.plain(reasons)}", width - 16), colours.amber))
        return [row]

    def _keys(self, width: int, height: int, colours: Palette) -> list[Row]:
        if self._progress is not None:
            done, of = self._progress
            share = bar(done / max(1, of), min(40, width // 3), colours.accent, colours.track)
            return [[("writing  ", colours.muted), *share, (f"  {done:,} of {of:,}", colours.muted)]]
        row: Row = []
        batch = self.plan or Batch("")
        count = len(batch.changes)
        if count and not self._left:
            row += [
                ("enter", colours.accent),
                (f" change {figures.plural(count, 'caption')}   ", colours.text),
            ]
        row += [("esc", colours.accent), (" leave everything   ", colours.muted)]
        if batch.left_alone:
            words = "what changes" if self._left else "what is left alone"
            row += [("tab", colours.accent), (f" {words}   ", colours.muted)]
        if self._replan is not None and (self.include_pinned or PINNED in batch.reasons):
            words = "without the pinned" if self.include_pinned else "those pinned by hand too"
            row += [("P", colours.accent), (f" {words}", colours.muted)]
        return [row]

    # --- keys -------------------------------------------------------------------------------------------

    @on(LineList.Moved)
    def _moved(self) -> None:
        self.query_one("#whole", Facts).redraw()

    @on(LineList.Chosen)
    def _chosen(self) -> None:
        if self.plan is None or self._progress is not None or not self.plan.changes:
            return
        if self._left:
            self.action_turn()
            return
        self._progress = (0, len(self.plan.changes))
        self.query_one("#do", Facts).redraw()
        self._do()

    def progress(self, done: int, of: int) -> None:
        """So many files are written."""
        self._progress = (done, of)
        if self.is_mounted:
            self.query_one("#do", Facts).redraw()

    def finish(self) -> None:
        """All is written, or could not be: close, if it was not left before."""
        if self.is_current:
            self.dismiss(True)

    def action_turn(self) -> None:
        """What changes, or what is left alone."""
        if self.plan is not None:
            self._left = not self._left
            self._fill()

    def action_pinned(self) -> None:
        """Plan again, with the captions that were written by hand or without them."""
        if self._replan is not None and self._progress is None:
            self.include_pinned = not self.include_pinned
            self._replan(self.include_pinned)

    def action_leave(self) -> None:
        """Close; what is being written goes on."""
        if self.is_current:
            self.dismiss(self._progress is not None)


def _styled(pieces: list[Piece], colours: Palette) -> Row:
    removed, added = colours.red + Style(strike=True), colours.green + Style(bold=True)
    tints = {"same": colours.text, "removed": removed, "added": added}
    row: Row = []
    for piece in pieces:
        # colour is never the only sign: removed words stand in brackets of their own
        words = text.plain(piece.text)
        shape = {"same": words, "removed": f"[-{words}-]", "added": f"{{+{words}+}}"}[piece.kind]
        row.append((shape, tints[piece.kind]))
    return row


def _cut(row: Row, width: int) -> Row:
    """The part of a diff that holds its first change, in `width` cells."""
    first = next((i for i, (words, _) in enumerate(row) if words.startswith(("[-", "{+"))), 0)
    before = sum(cell_len(words) for words, _ in row[:first])
    if before > width // 3 and first:
        words, tint = row[first - 1]
        row = [("…" + words[-max(4, width // 4) :], tint), *row[first:]]
    out: Row = []
    room = width
    for words, tint in row:
        if room <= 0:
            break
        shown = text.crop(words, room)
        out.append((shown, tint))
        room -= cell_len(shown)
    return out


def _wrapped(row: Row, width: int, height: int) -> list[Row]:
    """A diff over several lines."""
    out: list[Row] = [[]]
    room = width
    for words, tint in row:
        for part in words.replace(" ", " \0").split("\0"):
            if cell_len(part) > room and out[-1]:
                out.append([])
                room = width
            out[-1].append((text.crop(part, width), tint))
            room -= cell_len(part)
    return out[:height]
