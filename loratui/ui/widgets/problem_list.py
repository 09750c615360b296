"""What is wrong with settings, one line each, with a cursor; below it the whole text and its repair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from loratui.errors import Problem
from loratui.ui import text
from loratui.ui.drafts import written
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.line_list import LineList

_SIGNS = {"error": "!", "warning": "▲", "info": "·"}
_ORDER = {"error": 0, "warning": 1, "info": 2}


class _Lines(LineList):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "go there", id="problems.go", tooltip="Go to the setting or the pictures"),
    ]


class ProblemList(Vertical):
    """Errors first; `current` is the problem under the cursor."""

    DEFAULT_CSS = """
    ProblemList { height: auto; max-height: 50%; }
    ProblemList _Lines { height: auto; max-height: 8; }
    ProblemList Facts { height: 3; border-top: solid $faint; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, classes="panel")
        self.problems: Sequence[Problem] = ()

    def compose(self) -> ComposeResult:
        """The list, and what the problem under its cursor means."""
        yield _Lines(self._row, empty="Nothing to mend.", id="problem-lines")
        yield Facts(self._about, id="problem-about")

    @property
    def lines(self) -> LineList:
        """The list itself."""
        return self.query_one(_Lines)

    @property
    def current(self) -> Problem | None:
        """The problem under the cursor."""
        at = self.lines.cursor
        return self.problems[at] if at < len(self.problems) else None

    def show(self, problems: Sequence[Problem]) -> None:
        """Show these, the cursor on the same one where it is still there."""
        before = self.current
        self.problems = sorted(problems, key=lambda p: _ORDER[p.severity])
        at = next(
            (
                n
                for n, p in enumerate(self.problems)
                if before and (p.path, p.code) == (before.path, before.code)
            ),
            0,
        )
        self.lines.styles.height = max(1, min(8, len(self.problems)))
        self.lines.show_rows(len(self.problems), at)
        errors = sum(p.severity == "error" for p in self.problems)
        self.border_title = "keeps it from starting" if errors else "to look at"
        mended = sum(bool(p.fix) for p in self.problems)
        self.border_subtitle = f"{len(self.problems)}, F mends {mended}" if mended else ""
        self.query_one(Facts).display = bool(self.problems)
        self.query_one(Facts).redraw()

    def about(self, path: str) -> Problem | None:
        """The worst problem of a setting."""
        return next((p for p in self.problems if p.path == path), None)

    @on(LineList.Moved)
    def _moved(self) -> None:
        self.query_one(Facts).redraw()

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        problem = self.problems[index]
        tint = {"error": colours.red, "warning": colours.amber}.get(problem.severity, colours.muted)
        tail = " F" if problem.fix else "  "
        path = text.plain(problem.path.rpartition(".")[2] if "." in problem.path else problem.path)
        room = max(8, width - 4)
        words = text.pad(text.crop(text.plain(f"{path}: {problem.message}"), room), room)
        return [(f"{_SIGNS[problem.severity]} ", tint), (words, tint), (tail, colours.green)]

    def _about(self, width: int, height: int, colours: Palette) -> list[Row]:
        problem = self.current
        if problem is None:
            return []
        where = f"{problem.where}: " if problem.where and problem.where != "--set" else ""
        words = text.plain(f"{where}{problem.path}: {problem.message} {problem.advice}").strip()
        fix: list[Row] = []
        if problem.fix:
            changes = ", ".join(
                f"{path} = {written(value) or 'empty'}" for path, value in problem.fix.items()
            )
            said = text.crop(text.plain(changes), max(8, width - 2))
            fix = [[("F ", colours.green), (said, colours.text)]]
        room = max(1, height - len(fix))
        rows: list[Row] = [[(part, colours.muted)] for part in text.wrap(words, width, most=room)]
        return [*rows, *fix][:height]
