"""The plan of the train room: made anew with each change, with memory, measured on request, started."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual.content import Content
from textual.timer import Timer

from loratui.config.schema import RunConfig
from loratui.errors import LoratuiError, Problem
from loratui.plan.cards import Card
from loratui.plan.fitting import Shortage
from loratui.project.capacity import lacking, named
from loratui.ui.drafts import Draft
from loratui.ui.panels.plan import PlanPanel
from loratui.ui.planning import Foretold, Measured, PlanMade, make_plan, typed
from loratui.ui.screens.room import Room
from loratui.ui.widgets.line_list import LineList
from loratui.ui.widgets.problem_list import ProblemList

if TYPE_CHECKING:
    from loratui.config.presets import Preset
    from loratui.project.dryrun import Child
    from loratui.project.estimating import Foreseen
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
        self._seen: Foreseen | None = None
        self._found: Sequence[Problem] = ()
        self._told_gib = 0.0
        """Memory of the card that plan and problems were shown for."""
        self._family = ""
        self._asked = 0
        self._planning = threading.Lock()
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

    def order_presets(self) -> None:
        """Put those first that fit."""
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

        def work(post: Post, gone: Gone) -> None:
            with self._planning:  # one at a time: what was typed meanwhile is planned once, in its last form
                if number == self._asked and not gone():
                    post(make_plan(number, project, preset, edits, scan, seen))

        self.studio.in_thread(work, "plan", self)

    def on_plan_made(self, message: PlanMade) -> None:
        """Show it, unless something was changed since."""
        if message.number != self._asked:
            return
        if message.config is not None:
            self._config = message.config
        self._ready, self._base_values, self._seen = message.ready, message.base, message.seen
        self._found = problems = message.ready.problems if message.ready is not None else message.problems
        if message.ready is not None and message.ready.family != self._family:
            self._family = message.ready.family
            self.order_presets()
        bad = frozenset(p.path for p in problems if p.severity == "error")
        self._show_form(bad)
        self._follow_machine()  # another device may be asked for
        words = problems[0].message if problems else ""
        self.query_one(PlanPanel).show(message.ready, message.seen, words)
        self._show_problems()
        if message.ready is not None and not message.ready.errors and message.seen is None and self.ESTIMATES:
            self._resting = self.set_timer(_REST_S, self._estimate)
        panel = self.query_one("#form-panel")
        changed = len(self.draft.edits)
        panel.border_subtitle = Content.styled(f"{changed} changed", "$accent") if changed else Content("")

    def _show_problems(self) -> None:
        """What was found, with what the card lacks."""
        lacks = self._lacking()
        more = [lacks.problem(named(self._card))] if lacks is not None else []
        self.query_one(ProblemList).show([*self._found, *more])

    def _follow_machine(self) -> None:
        """The card is known, or another."""
        card = self._card
        if abs(card.gib - self._told_gib) > 0.05:
            self._told_gib = card.gib
            self.query_one(PlanPanel).capacity(card.gib)
            self.order_presets()
            if self._ready is not None:
                self._show_problems()

    def _lacking(self) -> Shortage | None:
        return lacking(self._ready, self._card, self._seen) if self._ready is not None else None

    @property
    def _card(self) -> Card:
        """What is trained on; without memory when it is not known."""
        reading = self.studio.reading
        if reading is None:
            return Card()
        cpu = self._config is not None and self._config.memory.device == "cpu"
        if cpu or not reading.gpus:
            return Card(gib=reading.ram_total_gib, cpu=True)
        best = max(reading.gpus, key=lambda gpu: gpu.total_gib)
        return Card(best.name, best.total_gib)

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
            self._seen = message.seen or self._seen
            self.query_one(PlanPanel).foresee(message.seen, message.words)
            self._show_problems()

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

        lacks = self._lacking()
        if lacks is None:
            known = self._ready is not None
            self.notify("It should fit; a dry run (D) measures it." if known else "There is no plan yet.")
            return
        options = []
        for number, step in enumerate(lacks.steps):
            about = f"{step.total_gib:.1f} G{'  fits' if step.fits else ''}"
            options.append(Option(str(number), str(step), about))

        def take(choice: Choice | None) -> None:
            if choice is not None:
                steps = lacks.steps[: int(choice.value) + 1]
                self.take({k: v for step in steps for k, v in step.changes.items()}, "made smaller")

        title = _title(lacks)
        say = "enter makes this change and those above it    esc leaves"
        self.app.push_screen(ChooseDialog(title, options, say), take)

    # starting

    def action_start(self) -> None:
        """Start the training, or say what keeps it."""
        ready, project = self._ready, self.studio.project
        if project is None or ready is None:
            self.notify(
                "The plan is not ready yet." if project is not None else "The project is not read yet."
            )
            return
        if ready.errors:
            first = ready.errors[0]
            self.notify(f"{first.message}\n{first.advice}".strip(), title="cannot start", severity="error")
            return
        lacks = self._lacking()
        if lacks is not None:
            self._ask_first(lacks)
        else:
            self._launch(anyway=True)

    def _ask_first(self, lacks: Shortage) -> None:
        """It should not fit: change it, measure it, or start it all the same."""
        from loratui.ui.screens.choose import Choice, ChooseDialog, Option

        made = ", ".join(str(step) for step in lacks.steps)
        options = [Option("dry", "measure it", "a dry run of a few steps")]
        if lacks.fits:
            options.insert(0, Option("fit", "make it fit", f"{lacks.after_gib:.1f} G with {made}"))
        options.append(Option("anyway", "start it all the same", "it will probably run out of memory"))

        def take(choice: Choice | None) -> None:
            if choice is None:
                return
            if choice.value == "fit":
                self.take(lacks.changes, "made smaller; s starts it")
            elif choice.value == "dry":
                self.action_dry_run()
            else:
                self._launch(anyway=True)

        self.app.push_screen(ChooseDialog(_title(lacks), options, "enter does it   esc leaves"), take)

    def _launch(self, anyway: bool) -> None:
        """Start it in a thread; what was changed is kept in the project."""
        ready, project, preset = self._ready, self.studio.project, self._preset
        if project is None or ready is None:
            return
        self.notify("Starting…", timeout=2)
        edits, config = dict(self.draft.edits), ready.config
        name = preset.name if preset is not None else ""

        def work(post: Post, _gone: Gone) -> None:
            from loratui.project.start import start_training
            from loratui.ui.messages import ProjectOpened, Said, Started

            try:
                run = start_training(project, config, preset=name, anyway=anyway)
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


def _title(lacks: Shortage) -> str:
    return f"about {lacks.needed_gib:.1f} G are needed, {lacks.capacity_gib:.0f} G are there"
