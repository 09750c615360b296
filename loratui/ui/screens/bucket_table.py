"""The buckets of the project's training as a table; enter shows the pictures of one."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from loratui.config.schema import DataConfig
from loratui.dataset.bucket_table import BucketLine
from loratui.dataset.buckets import buckets_of
from loratui.ui import figures
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.line_list import LineList

_HEADING = "    bucket  pictures  batches  left over  cut off  enlarged"


class BucketTable(ModalScreen[str | None]):
    """Gives back the filter of a bucket, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,B", "dismiss(None)", "leave")]
    DEFAULT_CSS = """
    BucketTable { align: center middle; background: $background 60%; }
    BucketTable Vertical { width: 76; max-width: 96%; height: auto; max-height: 92%; background: $panel;
        border: round $accent; border-title-color: $accent; border-subtitle-color: $muted; padding: 0 1; }
    BucketTable LineList { height: 4; background: $panel; }
    BucketTable #bucket-sum { height: 3; border-top: solid $faint; }
    """

    def __init__(self, data: DataConfig) -> None:
        """Open, and wait for `show` to bring the table.

        Args:
            data: settings the buckets are made from.
        """
        super().__init__()
        self._data = data
        self.lines: tuple[BucketLine, ...] = ()
        self._known = False

    def compose(self) -> ComposeResult:
        """Table, sum and keys."""
        with Vertical() as box:
            box.border_title = Content(f"buckets at {', '.join(map(str, self._data.resolutions))} px")
            box.border_subtitle = Content(f"batch size {self._data.batch_size}")
            yield LineList(self._row, self._heading, "Counting…", id="buckets")
            yield Facts(self._sum, id="bucket-sum")

    def on_mount(self) -> None:
        """Keys go to the table."""
        self.query_one(LineList).focus()
        if self._known:
            self.show(self.lines)

    def show(self, lines: tuple[BucketLine, ...]) -> None:
        """The table is known."""
        self.lines, self._known = lines, True
        if not self.is_mounted:
            return
        view = self.query_one(LineList)
        view.styles.height = max(3, min(len(lines) + 1, self.app.size.height - 9))
        view.say("No pictures yet.\nesc goes back.")
        view.show_rows(len(lines), 0)
        self.query_one(Facts).redraw()

    # --- drawing ----------------------------------------------------------------------------------------

    def _heading(self, _index: int, width: int, colours: Palette) -> Row:
        return [(_HEADING, colours.muted)]

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        line = self.lines[index]
        plain, amber = colours.text, colours.amber
        enlarged = figures.count(line.enlarged) if line.enlarged else "–"
        worst = f" to {line.upscale_most:.1f}×" if line.enlarged else ""
        return [
            (f"{line.width}×{line.height}".rjust(10), plain),
            (figures.count(line.images).rjust(10), plain),
            (figures.count(line.batches).rjust(9), plain),
            ((figures.count(line.leftover) if line.leftover else "–").rjust(11), self._left(line, colours)),
            (figures.percent(line.crop).rjust(9), amber if line.crop > 0.2 else plain),
            (enlarged.rjust(10), amber if line.upscale_most >= 1.5 else plain),
            (worst, colours.muted),
        ]

    def _left(self, line: BucketLine, colours: Palette) -> Style:
        """Amber where the bucket never fills a batch."""
        return colours.amber if line.leftover and line.batches == 1 else colours.text

    def _sum(self, width: int, height: int, colours: Palette) -> list[Row]:
        if not self._known:
            return []
        lines = self.lines
        images, batches = sum(b.images for b in lines), sum(b.batches for b in lines)
        many = len(self._data.resolutions) > 1
        what = figures.plural(images, "view") if many else figures.plural(images, "picture")
        there = sum(len(buckets_of(self._data, side)) for side in self._data.resolutions)
        small = sum(bool(b.leftover) for b in lines)
        words = (
            f"{what} in {len(lines)} of {max(there, len(lines))} buckets, "
            f"{figures.plural(batches, 'batch', 'batches')} an epoch, {small:,} not full"
        )
        keys: Row = [("enter", colours.accent), (" shows the pictures of one    ", colours.muted)]
        return [[(words, colours.muted)], [*keys, ("esc", colours.accent), (" leaves", colours.muted)]]

    @on(LineList.Chosen)
    def _chosen(self, event: LineList.Chosen) -> None:
        self.dismiss(f"bucket:{self.lines[event.index].name}")
