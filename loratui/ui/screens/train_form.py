"""The form of the train room: what is changed, with undo and repairs."""

from __future__ import annotations

from typing import Any

from textual import on

from loratui.config.load import as_dict
from loratui.ui import text
from loratui.ui.drafts import written
from loratui.ui.drawing import Row
from loratui.ui.form_groups import form_lines
from loratui.ui.planning import short, span
from loratui.ui.screens.train_plan import TrainPlan
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.form import Form
from loratui.ui.widgets.line_list import LineList
from loratui.ui.widgets.problem_list import ProblemList


class TrainForm(TrainPlan):
    """Each change of a setting is a step of undo and leads to a new plan."""

    @on(LineList.Moved, "#form")
    def _moved(self) -> None:
        self.query_one("#help", Facts).redraw()

    @on(Form.Edited)
    def _edited(self, message: Form.Edited) -> None:
        value, project = message.value, self.studio.project
        if value is None and project is not None and message.path in project.overrides:
            value = written(self._base_values.get(message.path))
        if self.draft.change({message.path: value}):
            self._plan()

    @on(Form.Opened)
    def _opened(self, message: Form.Opened) -> None:
        """A list of texts is edited in a dialog, one a line."""
        from loratui.ui.screens.ask_lines import LinesDialog

        path = message.field.path
        now = as_dict(self._config)[path] if self._config is not None else ()

        def keep(lines: list[str] | None) -> None:
            if lines is not None and self.draft.change({path: written(lines)}):
                self._plan()

        self.app.push_screen(LinesDialog(path, now, message.field.help), keep)

    def take(self, changes: dict[str, Any], why: str) -> None:
        """Take changes into the form as one step of undo."""
        if self.draft.change({path: written(value) for path, value in changes.items()}):
            said = ", ".join(f"{path} = {written(value) or 'empty'}" for path, value in changes.items())
            self.notify(f"{said}. u takes it back.", title=why, timeout=5)
            self._plan()

    def action_reset_all(self) -> None:
        """All settings as the preset has them."""
        if self.draft.replace({}):
            self._plan()

    def action_undo(self) -> None:
        """Take the newest change of settings back."""
        if self.draft.undo():
            self._plan()
        else:
            self.notify("Nothing was changed here.")

    def action_redo(self) -> None:
        """Do again what was taken back."""
        if self.draft.redo():
            self._plan()

    def action_mend(self) -> None:
        """Make the change that mends the setting, or the problem under the cursor."""
        listed, form = self.query_one(ProblemList), self.query_one(Form)
        problem = listed.current
        if form.has_focus and form.current is not None:
            problem = listed.about(form.current.path) or problem
        if problem is None:
            self.notify("Nothing speaks against these settings.")
        elif not problem.fix:
            self.notify(f"{problem.message} {problem.advice}".strip(), title="no sure repair")
        else:
            self.take(dict(problem.fix), "mended")

    @on(LineList.Chosen, "#problem-lines")
    async def _go(self) -> None:
        """To the setting, or to the pictures, that a problem is about."""
        problem = self.query_one(ProblemList).current
        if problem is None:
            return
        if self.query_one(Form).reveal(problem.path):
            self.query_one(Form).focus()
        elif problem.path in {"captions", "data"}:
            await self.studio.action_room("dataset")

    def _help(self, width: int, height: int, colours: Palette) -> list[Row]:
        field = self.query_one(Form).current
        if field is None:
            return []
        words = field.help
        words += span(field)
        rows: list[Row] = [
            [(part, colours.muted)] for part in text.wrap(words, width, most=max(1, height - 1))
        ]
        if field.path in self._base_values:
            rows.append(
                [("preset ", colours.muted), (short(self._base_values[field.path]) or "–", colours.text)]
            )
        return rows[:height]

    def _show_form(self, bad: frozenset[str]) -> None:
        values: dict[str, Any] = as_dict(self._config) if self._config is not None else {}
        values |= {
            path: value for path, value in self.draft.edits.items() if path in bad or self._config is None
        }
        own = frozenset(p for p, v in values.items() if short(v) != short(self._base_values.get(p)))
        if "model.base" not in self.draft.edits:  # it is the project's, and no preset has one
            own -= {"model.base"}
        self.query_one(Form).show(form_lines(), values, own, bad)
        self.query_one("#help", Facts).redraw()
