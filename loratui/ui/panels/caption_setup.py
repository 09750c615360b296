"""Choosing captioners and their options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message

from loratui.captioners.spec import CaptionerSpec
from loratui.errors import Problem
from loratui.ui import figures, text
from loratui.ui.captioning import Choices, as_text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.titles import set_title
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.form import Form
from loratui.ui.widgets.line_list import LineList
from loratui.ui.widgets.options_form import OptionsForm

if TYPE_CHECKING:
    from loratui.caption.choosing import Readiness
    from loratui.caption.plan import CaptionPlan
    from loratui.ui.machine import Reading


class CaptionSetup(Vertical):
    """Captioners on the left, their options beside, what is under the cursor explained below."""

    class Changed(Message):
        """Captioners or options are others now."""

    def __init__(self, choices: Choices) -> None:
        super().__init__(id="setup")
        self.choices = choices
        self._rows: Sequence[tuple[CaptionerSpec, Readiness]] = ()
        self._problems: Sequence[Problem] = ()
        self._plan: CaptionPlan | None = None
        self._checking = True
        self.reading: Reading | None = None
        self.pictures: int | None = None

    def compose(self) -> ComposeResult:
        """Lists over the explanation."""
        with Horizontal(id="choosing"):
            with Vertical(id="captioners-panel", classes="panel") as left:
                left.border_title = "captioners"
                yield LineList(self._row, None, "Looking for captioners…", id="captioners")
            with Vertical(id="options-panel", classes="panel") as right:
                right.border_title = "options"
                yield OptionsForm(id="options")
        about = Facts(self._about, id="about", classes="panel")
        about.border_title = "about"
        yield about

    def on_mount(self) -> None:
        """Nothing is chosen yet."""
        self.query_one(OptionsForm).say("space chooses a captioner.")

    # what is shown

    def show_catalog(self, rows: Sequence[tuple[CaptionerSpec, Readiness]]) -> None:
        """All captioners there are."""
        first = not self._rows
        self._rows = rows
        chosen = next((i for i, (row, _) in enumerate(rows) if row.name in self.choices.names), 0)
        self.query_one("#captioners", LineList).show_rows(len(rows), chosen if first else None)
        self.show_choices()

    def show_choices(self) -> None:
        """The form for what is chosen."""
        table = self.choices.table()
        bad = frozenset(problem.path for problem in self._problems if problem.path in table)
        own = frozenset(
            path for path, value in self.choices.edits.items() if value != as_text(_default(table, path))
        )
        self.query_one(OptionsForm).show(self.choices.lines(), self.choices.shown(), own, bad)
        self.query_one("#captioners", LineList).refresh()
        names = " + ".join(self.choices.names)
        set_title(self.query_one("#options-panel"), f"options · {names}" if names else "options")
        self.redraw()

    def show_checked(self, plan: CaptionPlan | None, problems: Sequence[Problem]) -> None:
        """What a start would do."""
        self._plan, self._problems, self._checking = plan, problems, False
        self.show_choices()

    def checking(self) -> None:
        """A check is under way; what is shown stays until it answers."""
        self._checking = True

    def redraw(self) -> None:
        """Explain what is under the cursor."""
        about = self.query_one("#about", Facts)
        form = self.query_one(OptionsForm)
        field = form.current if form.has_focus else None
        row = self.current
        set_title(about, field.key.replace("_", " ") if field else row.title if row else "about")
        about.redraw()

    @property
    def _in_form(self) -> bool:
        return self.query_one(OptionsForm).has_focus

    @property
    def current(self) -> CaptionerSpec | None:
        """The captioner under the cursor."""
        at = self.query_one("#captioners", LineList).cursor
        return self._rows[at][0] if at < len(self._rows) else None

    # drawing

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        row, ready = self._rows[index]
        chosen = row.name in self.choices.names
        several = chosen and len(self.choices.names) > 1
        state = "here" if ready.ready else "off" if not row.weights else "to get" if not ready.where else "!"
        tint = colours.green if ready.ready else colours.muted
        mark = f"{self.choices.names.index(row.name) + 1} " if several else "● " if chosen else "○ "
        memory = f"{row.memory_gib:g} G" if row.memory_gib else ""
        name = max(8, width - 21)
        return [
            (mark, colours.accent if chosen else colours.faint),
            (text.fit(row.name, name), colours.text if ready.ready else colours.muted),
            (row.output.rjust(6), colours.muted),
            (memory.rjust(6), colours.muted),
            (state.rjust(7), tint),
        ]

    def _about(self, width: int, height: int, colours: Palette) -> list[Row]:
        form = self.query_one(OptionsForm)
        rows = self._field_help(form, width, colours) if form.has_focus else self._captioner(width, colours)
        verdict = self._verdict(width, colours)
        room = max(0, height - len(verdict))
        return [*rows[:room], *([[]] * max(0, room - len(rows))), *verdict]

    def _field_help(self, form: Form, width: int, colours: Palette) -> list[Row]:
        field = form.current
        if field is None:
            return []
        wrong = next((p for p in self._problems if p.path == field.path), None)
        rows: list[Row] = []
        if wrong is not None:
            rows += [[(part, colours.red)] for part in text.wrap(text.plain(wrong.message), width)]
        words = field.help + (f" One of {', '.join(field.choices)}." if field.choices else "")
        words += " Parted by semicolons." if field.kind == "list" else ""
        rows += [[(part, colours.muted)] for part in text.wrap(words, width)]
        default = as_text(field.default)
        rows.append([("default ", colours.muted), (default or "empty", colours.text)])
        return rows

    def _captioner(self, width: int, colours: Palette) -> list[Row]:
        at = self.query_one("#captioners", LineList).cursor
        if at >= len(self._rows):
            return []
        row, ready = self._rows[at]
        rows: list[Row] = []
        if not ready.ready:
            tint = colours.amber if row.weights else colours.muted
            problem = ready.problem.split("; looked in")[0].rstrip(".") + "."
            rows += [[(part, tint)] for part in text.wrap(text.plain(problem), width)]
            rows += [[(part, colours.text)] for part in text.wrap(text.plain(ready.advice), width)]
        elif ready.where:
            where = text.shorten(text.plain(ready.where), max(8, width - 8))
            shown = "bundled with loratui" if row.bundled and ready.where.endswith(row.bundled) else where
            rows.append([("weights ", colours.muted), (shown, colours.text)])
        what = f"Writes {row.output}: {row.notes}."
        if row.memory_gib:
            what += f" Takes about {row.memory_gib:g} G of memory{self._room()}."
        told: list[Row] = [[(part, colours.muted)] for part in text.wrap(text.plain(what), width)]
        return [*told, *rows] if ready.ready else [*rows, *told]  # what to do next is never cut off

    def _room(self) -> str:
        gpus = self.reading.gpus if self.reading is not None else ()
        if not gpus:
            return ""
        gpu = gpus[0]
        return f"; GPU{gpu.index} has {figures.gib(max(0.0, gpu.total_gib - gpu.used_gib))} G free"

    def _verdict(self, width: int, colours: Palette) -> list[Row]:
        """What `s` would do, or what keeps it."""
        if not self._rows:
            return []
        if self.pictures == 0:
            return [[("No pictures yet: 1 says where they belong.", colours.amber)]]
        if not self.choices.names:
            return [[("space chooses the captioner under the cursor.", colours.muted)]]
        problem = next(iter(self._problems), None)
        if problem is not None:
            more = f" (and {len(self._problems) - 1} more)" if len(self._problems) > 1 else ""
            name = problem.path.removesuffix(".model")
            told = self.current is not None and name == self.current.name and not self._in_form
            if name != problem.path and told:  # the lines above say it all
                return [[(f"✖ {name} cannot start yet{more}", colours.red)]]
            head = "" if name != problem.path else f"{problem.path}: " if problem.path else ""
            message = problem.message.split("; looked in")[0].rstrip(".")
            words = text.plain(f"✖ {head}{message}{more}. {problem.advice}")
            return [[(part, colours.red)] for part in text.wrap(words, width, most=4)]
        plan = self._plan
        if plan is None:
            return [[("checking…", colours.muted)]]
        count = len(plan.pictures)
        verb = {"missing": "captions", "replace": "captions", "append": "adds to the captions of"}.get(
            plan.settings.mode, "puts words before the captions of"
        )
        row: Row = []
        if count:
            row += [("✔ ", colours.green), ("s", colours.accent), (f" {verb} ", colours.text)]
            row.append((figures.plural(count, "picture"), colours.bold))
        else:
            row += [("nothing to do", colours.amber)]
        left = [f"{plan.captioned} have one"] if plan.captioned else []
        left += [f"{plan.pinned} by hand stay"] if plan.pinned else []
        if plan.other and self.choices.only is not None:
            left += [f"{plan.other} not {'in the filter' if self.choices.scope == 'filtered' else 'marked'}"]
        tail = f" · {', '.join(left)}" if left else ""
        return [[*row, (text.crop(tail, max(0, width - sum(len(p) for p, _ in row))), colours.muted)]]

    # what the user does

    @on(LineList.Moved, "#captioners")
    @on(LineList.Moved, "#options")
    def _moved(self) -> None:
        self.redraw()

    def on_descendant_focus(self) -> None:
        """The explanation is of the list in focus."""
        self.redraw()

    @on(LineList.Chosen, "#captioners")
    def _to_options(self) -> None:
        if self.current is not None and not self.choices.names:
            self.toggle()
        self.query_one(OptionsForm).focus()

    def toggle(self) -> None:
        """Choose the captioner under the cursor, or do without it."""
        if self.current is not None:
            self.choices.toggle(self.current.name)
            self.show_choices()
            self.post_message(self.Changed())

    @on(Form.Edited)
    def _edited(self, message: Form.Edited) -> None:
        message.stop()
        table = self.choices.table()
        if message.value is None or message.value == as_text(_default(table, message.path)):
            self.choices.edits.pop(message.path, None)
        else:
            self.choices.edits[message.path] = message.value
        self.show_choices()
        self.post_message(self.Changed())


def _default(table: object, path: str) -> object:
    info = table.get(path) if isinstance(table, dict) else None
    return info.default if info is not None else None
