"""Room 3: choose a preset, change what matters, see the plan, start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.timer import Timer

from loratui.config.docs import FieldInfo
from loratui.config.schema import RunConfig
from loratui.errors import LoratuiError, Problem
from loratui.plan.fitting import shortage
from loratui.ui import text
from loratui.ui.actions import bindings
from loratui.ui.drafts import Draft, written
from loratui.ui.drawing import Row
from loratui.ui.form_groups import form_lines
from loratui.ui.panels.plan import PlanPanel
from loratui.ui.screens.room import Room
from loratui.ui.screens.train_keys import ACTIONS, LAYOUT
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.form import Form
from loratui.ui.widgets.line_list import LineList
from loratui.ui.widgets.problem_list import ProblemList

if TYPE_CHECKING:
    from loratui.config.presets import Preset
    from loratui.project.dryrun import Child
    from loratui.project.estimating import Foreseen
    from loratui.project.start import Ready
    from loratui.ui.watching import Gone, Post


class PlanMade(Message):
    """The settings were resolved and assessed; `number` tells which change they answer."""

    def __init__(
        self,
        number: int,
        config: RunConfig | None,
        ready: Ready | None,
        problems: tuple[Problem, ...],
        base: Any,
        seen: Foreseen | None = None,
    ) -> None:
        super().__init__()
        self.number, self.config, self.ready, self.problems, self.base = number, config, ready, problems, base
        self.seen = seen


class Foretold(Message):
    """Memory was estimated, or why not."""

    def __init__(self, number: int, seen: Foreseen | None, words: str = "") -> None:
        super().__init__()
        self.number, self.seen, self.words = number, seen, words


class Measured(Message):
    """A dry run has ended."""

    def __init__(self, words: str, advice: str, severity: SeverityLevel) -> None:
        super().__init__()
        self.words, self.advice, self.severity = words, advice, severity


_REST_S = 1.0
"""How long the form rests before memory is estimated."""


class PresetsRead(Message):
    """All presets there are."""

    def __init__(self, presets: list[Preset], problems: list[Problem]) -> None:
        super().__init__()
        self.presets, self.problems = presets, problems


class TrainRoom(Room):
    """Presets on the left, the form in the middle, the plan on the right."""

    ACTIONS = ACTIONS
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = LAYOUT
    ESTIMATES: ClassVar[bool] = True
    """Whether memory is estimated by a child process when the form rests."""

    def __init__(self) -> None:
        super().__init__()
        self._presets: list[Preset] = []
        self.draft = Draft()
        self._config: RunConfig | None = None
        self._ready: Ready | None = None
        self._family = ""
        self._asked = 0
        self._reading = False
        self._base_values: dict[str, Any] = {}
        self._resting: Timer | None = None
        self._estimator: Child | None = None
        self._measuring: Child | None = None

    def body(self) -> ComposeResult:
        """Three columns."""
        with Horizontal(id="split"):
            with Vertical(id="presets-panel", classes="panel"):
                yield LineList(self._preset_row, None, "Reading the presets…", id="presets")
                yield Facts(self._about, id="about")
            with Vertical(id="form-panel", classes="panel"):
                yield Form(heading=True, id="form")
                yield Facts(self._help, id="help")
            with Vertical(id="right"):
                yield PlanPanel()
                yield ProblemList(id="problems")

    def on_mount(self) -> None:
        """Start with the presets."""
        self.query_one("#presets-panel").border_title = "presets"
        self.query_one("#form-panel").border_title = "settings"
        super().on_mount()
        self.query_one("#presets", LineList).focus()

    def follow(self, what: str) -> None:
        """The project and its pictures decide the plan."""
        if what == "project" and self.studio.project is not None and not self._reading:
            self._reading = True
            self.studio.in_thread(self._read_presets, "presets", self)
        elif what == "scan" and self._presets:
            self._plan()
        elif what == "machine":
            self.query_one(PlanPanel).capacity(self._capacity_gib())
        elif what == "clone" and self._presets:
            self._take_clone()

    # presets

    def _read_presets(self, post: Post, _gone: Gone) -> None:
        from loratui.config.presets import list_presets

        post(PresetsRead(*list_presets(self.studio.root)))

    def on_presets_read(self, message: PresetsRead) -> None:
        """Show them, the project's own choice under the cursor."""
        self._presets = message.presets
        project = self.studio.project
        chosen = project.preset if project is not None else ""
        if not chosen and project is not None:
            chosen = "demo" if project.base == "demo" else ""
        at = next((i for i, p in enumerate(self._presets) if p.name == chosen), 0)
        view = self.query_one("#presets", LineList)
        view.say("No presets were found. Put recipes as TOML files into the folder presets of this project.")
        view.show_rows(len(self._presets), at)
        self.query_one("#about", Facts).redraw()
        for problem in message.problems:
            self.notify(str(problem), severity="warning")
        if self.studio.cloned is not None:
            self._take_clone()
        else:
            self._plan()

    def _take_clone(self) -> None:
        """Take over preset and settings of a run that is to be changed and started anew."""
        if self.studio.cloned is None:
            return
        preset, edits = self.studio.cloned
        self.draft.replace(edits)
        self.studio.cloned = None
        at = next((i for i, p in enumerate(self._presets) if p.name == preset), None)
        view = self.query_one("#presets", LineList)
        view.show_rows(len(self._presets), at)
        self._plan()
        self.notify("The settings of that run; change what should differ, then s starts it.")

    @property
    def _preset(self) -> Preset | None:
        cursor = self.query_one("#presets", LineList).cursor
        return self._presets[cursor] if cursor < len(self._presets) else None

    def _preset_row(self, index: int, width: int, colours: Palette) -> Row:
        preset = self._presets[index]
        fits = not self._family or not preset.family or preset.family == self._family
        tail = (
            f"{preset.memory_gib:.0f} G"
            if preset.memory_gib and fits
            else ""
            if fits
            else text.plain(preset.family)
        )
        name = text.fit(text.plain(preset.name), max(6, width - len(tail) - 2))
        return [(name, colours.text if fits else colours.faint), (" ", None), (tail, colours.muted)]

    def _about(self, width: int, height: int, colours: Palette) -> list[Row]:
        preset = self._preset
        if preset is None:
            return []
        words = text.plain(preset.about or preset.title)
        return [[(part, colours.muted)] for part in text.wrap(words, width, most=height)]

    @on(LineList.Moved, "#presets")
    def _chose(self) -> None:
        self.query_one("#about", Facts).redraw()
        self._plan()

    @on(LineList.Chosen, "#presets")
    def _to_form(self) -> None:
        self.query_one(Form).focus()

    # the form

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
        now = _values(self._config)[path] if self._config is not None else ()

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
        words += _span(field)
        rows: list[Row] = [
            [(part, colours.muted)] for part in text.wrap(words, width, most=max(1, height - 1))
        ]
        if field.path in self._base_values:
            rows.append(
                [("preset ", colours.muted), (_written(self._base_values[field.path]) or "–", colours.text)]
            )
        return rows[:height]

    def _show_form(self, bad: frozenset[str]) -> None:
        values: dict[str, Any] = _values(self._config) if self._config is not None else {}
        values |= {
            path: value for path, value in self.draft.edits.items() if path in bad or self._config is None
        }
        own = frozenset(p for p, v in values.items() if _written(v) != _written(self._base_values.get(p)))
        if "model.base" not in self.draft.edits:  # it is the project's, and no preset has one
            own -= {"model.base"}
        self.query_one(Form).show(form_lines(), values, own, bad)
        self.query_one("#help", Facts).redraw()

    # the plan

    def _plan(self) -> None:
        """Resolve and assess in a thread; the newest change wins."""
        project, preset = self.studio.project, self._preset
        if project is None:
            return
        self._asked += 1
        self._rest()
        number, edits, scan = self._asked, dict(self.draft.edits), self.studio.scan
        seen = self.studio.data_settings
        self.query_one(PlanPanel).wait("Making the plan…")

        def work(post: Post, _gone: Gone) -> None:
            from loratui.config.presets import resolve
            from loratui.project.start import assess

            name = preset.name if preset is not None else None
            base: dict[str, Any] = {}
            try:
                base = _values(resolve(preset, {}, {}))
                config = project.resolve(name, edits)
            except LoratuiError as error:
                own = error.problems or (
                    Problem("", "bad-settings", "error", error.message, advice=error.advice),
                )
                post(PlanMade(number, None, None, own, base))
                return
            from loratui.dataset.scan import rebucket
            from loratui.project.estimating import foresee

            same = scan
            if scan is not None and config.data != seen:
                same = rebucket(scan, config.data)
            try:
                ready = assess(project, config, scan=same)
                known = foresee(project, ready, ask=False)
                post(PlanMade(number, config, ready, (), base, known))
            except LoratuiError as error:
                own = error.problems or (Problem("", "no-plan", "error", error.message, advice=error.advice),)
                post(PlanMade(number, config, None, own, base))

        self.studio.in_thread(work, "plan", self)

    def on_plan_made(self, message: PlanMade) -> None:
        """Show it, unless something was changed since."""
        if message.number != self._asked:
            return
        if message.config is not None:
            self._config = message.config
        self._ready, self._base_values = message.ready, message.base
        problems = message.ready.problems if message.ready is not None else message.problems
        if message.ready is not None and message.ready.family != self._family:
            self._family = message.ready.family
            self.query_one("#presets", LineList).refresh()
        bad = frozenset(p.path for p in problems if p.severity == "error")
        self._show_form(bad)
        words = problems[0].message if problems else ""
        self.query_one(PlanPanel).show(message.ready, message.seen, words)
        self.query_one(ProblemList).show(self._problems(problems, message.ready))
        if message.ready is not None and not message.ready.errors and message.seen is None and self.ESTIMATES:
            self._resting = self.set_timer(_REST_S, self._estimate)
        panel = self.query_one("#form-panel")
        changed = len(self.draft.edits)
        panel.border_subtitle = Content.styled(f"{changed} changed", "$accent") if changed else Content("")

    def _problems(self, problems: Sequence[Problem], ready: Ready | None) -> list[Problem]:
        """With what the card lacks."""
        lacks = shortage(ready.plan, self._capacity_gib()) if ready is not None else None
        if lacks is None:
            return list(problems)
        found = lacks.problem(f"{self._capacity_gib():.0f} GiB")
        return [*problems, replace(found, severity="warning")]

    def _capacity_gib(self) -> float:
        """Memory of the device that is trained on, in GiB; 0 when it is not known."""
        reading = self.studio.reading
        if reading is None:
            return 0.0
        cpu = self._config is not None and self._config.memory.device == "cpu"
        return max((g.total_gib for g in reading.gpus), default=0.0) if not cpu and reading.gpus else (
            reading.ram_total_gib
        )  # fmt: skip

    # memory and speed

    def _rest(self) -> None:
        """An edit ends an estimate that is being made."""
        if self._resting is not None:
            self._resting.stop()
            self._resting = None
        if self._estimator is not None:
            self._estimator.stop()
            self._estimator = None

    def leave(self) -> None:
        """Nothing is estimated for a room that nobody sees."""
        self._rest()

    def _estimate(self) -> None:
        """Estimate memory in a child process; it posts when it is ready."""
        from loratui.project.dryrun import Child

        project, ready, number = self.studio.project, self._ready, self._asked
        if project is None or ready is None or self._measuring is not None:
            return
        child = self._estimator = Child()
        self.query_one(PlanPanel).foresee(None, "estimating…")

        def work(post: Post, _gone: Gone) -> None:
            from loratui.project.estimating import foresee

            try:
                seen = foresee(project, ready, child)
            except LoratuiError as error:
                if not child.stopped:
                    post(Foretold(number, None, error.message))
                return
            post(Foretold(number, seen))

        self.studio.in_thread(work, "foresee", self)

    def on_foretold(self, message: Foretold) -> None:
        """Show it, unless something was changed since."""
        if message.number == self._asked:
            self._estimator = None
            self.query_one(PlanPanel).foresee(message.seen, message.words)

    def action_dry_run(self) -> None:
        """Measure with a few real steps; a second press ends it."""
        from loratui.project.dryrun import Child, dry_run

        if self._measuring is not None:
            self._measuring.stop()
            return
        project, ready = self.studio.project, self._ready
        if project is None or ready is None or ready.errors:
            self.notify("First mend what keeps it from starting.")
            return
        self._rest()
        child = self._measuring = Child()
        panel = self.query_one(PlanPanel)
        panel.measure("starting")

        def progress(what: str, done: int, total: int) -> None:
            self.app.call_later(panel.measure, what, done / total if total else 0.0)

        def work(post: Post, _gone: Gone) -> None:
            try:
                found = dry_run(project, ready, progress, child)
            except LoratuiError as error:
                post(Measured(error.message, error.advice, "information" if child.stopped else "error"))
                return
            speed = f"{found.measurement.step_s:.3g} s a step" if found.measurement.step_s else ""
            fits = "It fits." if found.fits else f"It does not fit. {found.sample_error}"
            peak = f"Peak {found.measurement.peak_gib:.2f} of {found.device_gib:.0f} GiB"
            post(Measured(f"{peak}, {speed}. {fits}", "", "information" if found.fits else "warning"))

        self.studio.in_thread(work, "dryrun", self)

    def on_measured(self, message: Measured) -> None:
        """The dry run has ended: the plan knows what it took."""
        self._measuring = None
        self.query_one(PlanPanel).measure("")
        self.notify(f"{message.words} {message.advice}".strip(), title="dry run", severity=message.severity)
        self._plan()

    def action_fit(self) -> None:
        """What needs less memory, each change with its effect; enter takes it and those above."""
        from loratui.ui.screens.choose import Choice, ChooseDialog, Option

        ready, capacity = self._ready, self._capacity_gib()
        lacks = shortage(ready.plan, capacity) if ready is not None else None
        if lacks is None:
            self.notify("It should fit; a dry run (D) measures it." if ready else "There is no plan yet.")
            return
        options = []
        for number, step in enumerate(lacks.steps):
            about = f"{step.total_gib:.1f} G{'  fits' if step.fits else ''}"
            options.append(Option(str(number), str(step), about))

        def take(choice: Choice | None) -> None:
            if choice is not None:
                steps = lacks.steps[: int(choice.value) + 1]
                self.take({k: v for step in steps for k, v in step.changes.items()}, "made smaller")

        title = f"about {lacks.needed_gib:.1f} G are needed, {capacity:.0f} G are there"
        say = "enter makes this change and those above it    esc leaves"
        self.app.push_screen(ChooseDialog(title, options, say), take)

    # starting

    def action_start(self) -> None:
        """Start the training, or say what keeps it."""
        ready, project, preset = self._ready, self.studio.project, self._preset
        if project is None or ready is None:
            self.notify(
                "The plan is not ready yet." if project is not None else "The project is not read yet."
            )
            return
        if ready.errors:
            first = ready.errors[0]
            self.notify(f"{first.message}\n{first.advice}".strip(), title="cannot start", severity="error")
            return
        self.notify("Starting…", timeout=2)
        edits, config = dict(self.draft.edits), ready.config
        name = preset.name if preset is not None else ""

        def work(post: Post, _gone: Gone) -> None:
            from loratui.project.start import start_training
            from loratui.ui.messages import ProjectOpened, Said, Started

            try:
                run = start_training(project, config, preset=name)
            except LoratuiError as error:
                post(Said(error.message, error.advice, "error"))
                return
            self.studio.post_message(Started(run))
            if edits or project.preset != name:
                try:
                    kept = project.update(
                        preset=name, overrides={**project.overrides, **_typed(config, edits)}
                    )
                    self.studio.post_message(ProjectOpened(kept, config.data))
                except LoratuiError as error:
                    post(Said(error.message, error.advice, "warning"))

        self.studio.in_thread(work, "launch", self.studio)


def _values(config: RunConfig) -> dict[str, Any]:
    """Dotted path -> value."""
    out: dict[str, Any] = {}
    for section in fields(config):
        part = getattr(config, section.name)
        out |= {f"{section.name}.{f.name}": getattr(part, f.name) for f in fields(part)}
    return out


def _typed(config: RunConfig, edits: dict[str, str]) -> dict[str, Any]:
    """The edits with the values they were resolved to."""
    values = _values(config)
    return {path: values[path] for path in edits if path in values}


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else written(value)


def _span(field: FieldInfo) -> str:
    """What values a setting takes."""
    if field.choices:
        return f" One of {', '.join(field.choices)}."
    low, high = field.minimum, field.maximum
    if low is None:
        return ""
    return f" From {low:g} to {high:g}." if high is not None else f" {low:g} or more."
