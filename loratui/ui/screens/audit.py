"""What is wrong with pictures and captions, by kind; enter goes to the pictures, a key mends what is safe."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from loratui.project.remedies import Trouble
from loratui.ui import figures, text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.line_list import LineList

_SIGNS = {"error": "!", "warning": "▲", "info": "·"}
_DOUBLES = frozenset({"near-duplicate", "similar-pictures"})
_ABOUT = 8
"""Lines below the list: message, advice, keys."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants of a finding: to see its pictures, to mend them, or to compare them."""

    trouble: Trouble
    mend: bool = False
    compare: bool = False


class AuditDialog(ModalScreen[Wish | None]):
    """Gives back a wish, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,A", "dismiss(None)", "leave"),
        Binding("f", "mend", "fix"),
        Binding("S", "compare", "side by side"),
    ]
    DEFAULT_CSS = """
    AuditDialog { align: center middle; background: $background 60%; }
    AuditDialog Vertical { width: 76; max-width: 96%; height: auto; max-height: 92%; background: $panel;
        border: round $accent; border-title-color: $accent; border-subtitle-color: $muted; padding: 0 1; }
    AuditDialog LineList { height: 4; background: $panel; }
    AuditDialog #audit-about { height: 8; border-top: solid $faint; }
    """

    def __init__(self) -> None:
        """Open, and wait for `show` to bring the findings."""
        super().__init__()
        self.troubles: tuple[Trouble, ...] = ()
        self._known = False

    def compose(self) -> ComposeResult:
        """Findings, and what the one under the cursor means."""
        with Vertical() as box:
            box.border_title = Content("audit")
            yield LineList(self._row, empty="Looking at pictures and captions…", id="audit")
            yield Facts(self._about, id="audit-about")

    def on_mount(self) -> None:
        """Keys go to the list."""
        self.query_one(LineList).focus()
        if self._known:
            self.show(self.troubles)

    def progress(self, done: int, of: int) -> None:
        """Pictures are measured first."""
        if self.is_mounted and not self._known:
            self.query_one(LineList).say(f"Measuring pictures: {done:,} of {of:,}\nesc goes back.")

    def show(self, troubles: tuple[Trouble, ...]) -> None:
        """The findings are known."""
        self.troubles, self._known = troubles, True
        if not self.is_mounted:
            return
        view = self.query_one(LineList)
        view.styles.height = max(3, min(len(troubles), self.app.size.height - _ABOUT - 5))
        view.say("Nothing is wrong with pictures and captions.\nesc goes back.")
        view.show_rows(len(troubles), 0)
        mended = sum(bool(t.fix) for t in troubles)
        box = self.query_one(Vertical)
        box.border_subtitle = Content(f"{figures.plural(len(troubles), 'kind')}, {mended} with a safe fix")
        self.query_one(Facts).redraw()

    # --- drawing ----------------------------------------------------------------------------------------

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        trouble = self.troubles[index]
        colour = {"error": colours.red, "warning": colours.amber}.get(trouble.severity, colours.muted)
        count = figures.plural(len(trouble.paths), "picture")
        fix = "f fixes" if trouble.fix else "S compares" if trouble.code in _DOUBLES else ""
        return [
            (f" {_SIGNS[trouble.severity]} ", colour),
            (text.fit(trouble.title, max(10, width - 32)), colours.text),
            (count.rjust(16), colours.text),
            (fix.rjust(11), colours.green),
        ]

    def _about(self, width: int, height: int, colours: Palette) -> list[Row]:
        if not self._known or not self.troubles:
            return [[("esc", colours.accent), (" leaves", colours.muted)]]
        trouble = self.troubles[min(self.query_one(LineList).cursor, len(self.troubles) - 1)]
        room = max(1, height - 1)
        messages = [text.plain(f.message) for f in trouble.findings]
        more = len(messages) - 2
        said = [text.crop(m, width) for m in messages[: 2 if more > 0 else 3]]
        said += [f"and {more:,} more of the kind"] if more > 1 else []
        lines: list[Row] = [[(line, colours.text)] for line in said]
        lines += [[(line, colours.muted)] for line in wrap(trouble.advice, max(20, width))]
        keys: Row = [("enter", colours.accent), (" shows the pictures    ", colours.muted)]
        if trouble.fix:
            keys += [("f", colours.accent), (" fixes, the diff comes first    ", colours.muted)]
        if trouble.code in _DOUBLES:
            keys += [("S", colours.accent), (" compares them side by side    ", colours.muted)]
        keys += [("esc", colours.accent), (" leaves", colours.muted)]
        lines = lines[:room]
        return [*lines, *([[]] * (room - len(lines))), keys]

    # --- keys -------------------------------------------------------------------------------------------

    @on(LineList.Moved)
    def _moved(self) -> None:
        self.query_one(Facts).redraw()

    @on(LineList.Chosen)
    def _chosen(self, event: LineList.Chosen) -> None:
        self.dismiss(Wish(self.troubles[event.index]))

    def action_compare(self) -> None:
        """Side by side, where pictures look the same."""
        if self.troubles:
            trouble = self.troubles[self.query_one(LineList).cursor]
            if trouble.code in _DOUBLES:
                self.dismiss(Wish(trouble, compare=True))
            else:
                self.notify("Only pictures that look the same are compared. enter shows the pictures.")

    def action_mend(self) -> None:
        """Mend what the cursor is on, where that is safe."""
        if not self.troubles:
            return
        trouble = self.troubles[self.query_one(LineList).cursor]
        if trouble.fix:
            self.dismiss(Wish(trouble, mend=True))
        else:
            self.notify(f"No fix is safe for {trouble.title}: a person decides. enter shows the pictures.")
