"""What `loratui doctor` finds, in the app: each finding a line, its detail and advice below."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen

from loratui.ui import text
from loratui.ui.drawing import Row
from loratui.ui.graphics import KINDS
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.line_list import LineList

if TYPE_CHECKING:
    from loratui.checkup import Check
    from loratui.ui.app import LoratuiApp
    from loratui.ui.watching import Gone, Post

_SIGNS = {"ok": "✓", "info": "·", "warning": "!", "attention": "✗"}


class Checked(Message):
    """All was looked at."""

    def __init__(self, checks: list[Check]) -> None:
        super().__init__()
        self.checks = checks


class DoctorDialog(ModalScreen[None]):
    """Looks at the machine in a thread; r looks again."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(None)", "leave"),
        Binding("r", "again", "look again"),
    ]
    DEFAULT_CSS = """
    DoctorDialog { align: center middle; background: $background 60%; }
    DoctorDialog Vertical { width: 100; max-width: 96%; height: auto; max-height: 94%; background: $panel;
        border: round $accent; border-title-color: $accent; border-subtitle-color: $muted; padding: 0 1; }
    DoctorDialog LineList { height: 14; background: $panel; }
    DoctorDialog #doctor-detail { height: 5; border-top: solid $faint; }
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.checks: list[Check] = []

    def compose(self) -> ComposeResult:
        """Findings, and the one under the cursor in full."""
        with Vertical() as box:
            box.border_title = "doctor"
            box.border_subtitle = "r looks again   esc leaves"
            yield LineList(self._row, None, "Looking at this machine, and asking torch…")
            yield Facts(self._detail, id="doctor-detail")

    def on_mount(self) -> None:
        """Look."""
        view = self.query_one(LineList)
        view.styles.height = max(4, min(16, self.app.size.height - 9))
        view.focus()
        self.action_again()

    def action_again(self) -> None:
        """Look at everything, again."""
        studio, folder = cast("LoratuiApp", self.app), self._folder
        graphics = KINDS[studio.graphics.kind]
        self.checks = []
        self.query_one(LineList).show_rows(0)
        self.query_one(Facts).redraw()

        def work(post: Post, _gone: Gone) -> None:
            from loratui.checkup import all_checks

            post(Checked(all_checks(folder, graphics)))

        studio.in_thread(work, "doctor", self)

    def on_checked(self, message: Checked) -> None:
        """Show what was found, the cursor on what needs attention."""
        self.checks = message.checks
        levels = [check.level for check in self.checks]
        bad = next((levels.index(level) for level in ("attention", "warning") if level in levels), 0)
        self.query_one(LineList).show_rows(len(self.checks), bad)
        count = levels.count("attention")
        box = self.query_one(Vertical)
        box.border_title = Content(
            f"doctor · {count} of {len(levels)} need attention" if count else "doctor · all well"
        )
        self.query_one(Facts).redraw()

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        check = self.checks[index]
        tints = {
            "ok": colours.green,
            "info": colours.muted,
            "warning": colours.amber,
            "attention": colours.red,
        }
        tint = tints[check.level]
        return [
            (f" {_SIGNS[check.level]} ", tint),
            (check.name.ljust(13), tint if check.level == "attention" else colours.text),
            (text.crop(text.plain(check.detail), max(0, width - 17)), colours.muted),
        ]

    def _detail(self, width: int, height: int, colours: Palette) -> list[Row]:
        cursor = self.query_one(LineList).cursor
        if cursor >= len(self.checks):
            return []
        check = self.checks[cursor]
        rows: list[Row] = [[(p, colours.text)] for p in text.wrap(text.plain(check.detail), width, most=3)]
        if check.advice:
            advice = text.wrap(text.plain(check.advice), width, most=max(1, height - len(rows)))
            rows += [[(p, colours.accent)] for p in advice]
        return rows[:height]

    @on(LineList.Moved)
    def _moved(self) -> None:
        self.query_one(Facts).redraw()
