"""One picture of a group of near-duplicates: its looks, figures and caption, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content

from loratui.dataset.duplicates import Candidate, Group, why_kept
from loratui.dataset.framing import with_box
from loratui.dataset.rows import PictureRow
from loratui.ui import figures, text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.titles import set_title
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.image_view import ImageView

if TYPE_CHECKING:
    from loratui.ui.app import LoratuiApp


class Double(Vertical):
    """Picture above; fate, figures and caption below. The one with the cursor has a bright frame."""

    DEFAULT_CSS = """
    Double { width: 1fr; border: round $faint; border-title-color: $muted; padding: 0 1; }
    Double.-here { border: round $accent; border-title-color: $accent; }
    Double Facts { height: 7; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        """Begin with nothing."""
        super().__init__(id=id)
        self._row: PictureRow | None = None
        self._one: Candidate | None = None
        self._group: Group | None = None
        self._kept = False

    def compose(self) -> ComposeResult:
        """Picture and figures."""
        yield ImageView()
        yield Facts(self._facts)

    def show(self, row: PictureRow | None, group: Group, one: Candidate, kept: bool, here: bool) -> None:
        """Show a picture of a group.

        Args:
            row: what the room of pictures knows of it; None when it has just gone.
            group: its group.
            one: its figures.
            kept: whether it is to be kept.
            here: whether the cursor is on it.
        """
        self._row, self._group, self._one, self._kept = row, group, one, kept
        self.set_class(here, "-here")
        name = text.plain(row.name) if row is not None else "gone"
        set_title(self, text.shorten(name, max(8, self.size.width - 4)) if self.size.width else name)
        view = self.query_one(ImageView)
        if row is None:
            view.show(None)
        else:
            from loratui.ui.preview import Shown

            paper = cast("LoratuiApp", self.app).data_settings.paper
            turned = Shown(with_box(row.frame, None), stamp=row.known.mtime_ns, paper=paper)
            view.show(row.known.path, at_once=True, shown=turned)
        self.query_one(Facts).redraw()

    def on_resize(self) -> None:
        """The name may have more room."""
        if self._row is not None:
            name = text.plain(self._row.name)
            set_title(self, Content(text.shorten(name, max(8, self.size.width - 4))))

    def _facts(self, width: int, height: int, colours: Palette) -> list[Row]:
        one, group, row = self._one, self._group, self._row
        if one is None or group is None or row is None:
            return []
        fate: Row = [("● kept", colours.green)] if self._kept else [("✖ to the trash", colours.red)]
        why = f"proposed: {why_kept(group)}" if one is group.keep else ""
        largest = max(c.width * c.height for c in group.members)
        sharpest = max(c.sharpness or 0.0 for c in group.members)
        best = one.width * one.height == largest
        size: Row = [
            (f"{one.width}×{one.height}", colours.text if best else colours.muted),
            (f"  {figures.size(one.size)}", colours.muted),
        ]
        if one.sharpness is not None:
            tint = colours.text if one.sharpness == sharpest else colours.muted
            size += [("  sharp ", colours.muted), (f"{one.sharpness:.2f}", tint)]
        lines: list[Row] = [fate, [(text.crop(why, width), colours.muted)], size]
        words = text.plain(row.caption.replace("\n", " ⏎ "))
        room = max(1, height - len(lines))
        if not words:
            lost = self._kept and any(c is not one for c in group.members)
            return [*lines, [("no caption", colours.amber if lost else colours.muted)]]
        wrapped = text.wrap(words, max(8, width), most=room)
        lines += [[(line, colours.text)] for line in wrapped]
        return lines
