"""The plan of the train room: made anew with each change, with memory, measured on request, started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from textual.content import Content
from textual.timer import Timer

from loratui.config.schema import RunConfig
from loratui.errors import LoratuiError, Problem
from loratui.plan.fitting import shortage
from loratui.ui.drafts import Draft
from loratui.ui.panels.plan import PlanPanel
from loratui.ui.planning import Foretold, Measured, PlanMade, make_plan, typed
from loratui.ui.screens.room import Room
from loratui.ui.widgets.line_list import LineList
from loratui.ui.widgets.problem_list import ProblemList

if TYPE_CHECKING:
    from loratui.config.presets import Preset
    from loratui.project.dryrun import Child
    from loratui.project.start import Ready
    from loratui.ui.watching import Gone, Post

_REST_S = 1.0
"""How long the form rests before memory is estimated."""


class TrainPlan(Room):
    """What becomes of preset and changes: plan, estimate, dry run, start."""

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
        self._base_values: dict[str, Any] = {}
        self._resting: Timer | None = None
        self._estimator: Child | None = None
        self._measuring: Child | None = None

    @property
    def _preset(self) -> Preset | None:
        cursor = self.query_one("#presets", LineList).cursor
        return self._presets[cursor] if cursor < len(self._presets) else None

    def take(self, changes: dict[str, Any], why: str) -> None:
        """Take changes into the form as one step of undo."""
        raise NotImplementedError

    def _show_form(self, bad: frozenset[str]) -> None:
        raise NotImplementedError

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
            post(make_plan(number, project, preset, edits, scan, seen))

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
                        preset=name, overrides={**project.overrides, **typed(config, edits)}
                    )
                    self.studio.post_message(ProjectOpened(kept, config.data))
                except LoratuiError as error:
                    post(Said(error.message, error.advice, "warning"))

        self.studio.in_thread(work, "launch", self.studio)
