"""The first minute: five questions, each with an answer to take with enter, then what they lead to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual import on
from textual.widgets import Input, Static

from loratui.errors import LoratuiError
from loratui.ui import text
from loratui.ui.actions import bindings
from loratui.ui.asking import Made, Proposed, TriggerFound
from loratui.ui.panels.proposal import ProposalPanel
from loratui.ui.screens.first_keys import ACTIONS, ASKING, LAYOUT, SHOWING
from loratui.ui.screens.first_questions import FirstQuestions
from loratui.ui.widgets.choice import Choice

if TYPE_CHECKING:
    from loratui.project.proposal import Proposal, Proposing
    from loratui.ui.watching import Gone, Post


class FirstRoom(FirstQuestions):
    """Asks base, pictures, goal, card and trigger; shows preset and plan; makes the project and starts."""

    ACTIONS = ACTIONS
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = LAYOUT

    def __init__(self) -> None:
        super().__init__()
        self._busy = False
        self._asked = 0
        self._proposing: Proposing | None = None

    def on_unmount(self) -> None:
        """What was unpacked for the plan goes."""
        if self._proposing is not None:
            self._proposing.close()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Some keys belong to the questions, some to what they lead to."""
        if action in ASKING | SHOWING:
            return (action in SHOWING) == self.has_class("-summary")
        return True

    @on(Input.Submitted)
    @on(Choice.Submitted)
    def _next(self) -> None:
        if self.has_class("-summary"):
            return
        if self.focused is not None and self.focused.id == "trigger":
            self.action_summary()
        else:
            self.action_move(1)

    # what they lead to

    def action_summary(self) -> None:
        """Preset and plan of these answers."""
        self._say_problem("")
        self.add_class("-summary")
        self.set_focus(self.query_one(ProposalPanel))
        self._propose("Making the plan…")
        self.refresh_bindings()

    def _propose(self, waiting: str) -> None:
        from loratui.dataset.tokens import ClipTokens
        from loratui.project.proposal import Proposing, propose_trigger

        panel = self.query_one(ProposalPanel)
        panel.show(panel.proposal if self._changes or self._preset else None, waiting)
        self._asked += 1
        number, answers, target = self._asked, self._answers(), self._target
        proposing = self._proposing = self._proposing or Proposing(self.studio.root)

        unasked = not answers.trigger and self._trigger_is_ours
        here = self.studio.root

        def work(post: Post, _gone: Gone) -> None:
            if unasked:  # the keys were quicker than the proposal
                words = propose_trigger(answers, here, ClipTokens.shipped())
                post(TriggerFound(words))
                post(Proposed(number, proposing.propose(replace(answers, trigger=words), target)))
                return
            post(Proposed(number, proposing.propose(answers, target)))

        self.studio.in_thread(work, "first-plan", self)

    def on_proposed(self, message: Proposed) -> None:
        """Show it."""
        if message.number == self._asked:
            self.query_one(ProposalPanel).show(message.proposal)

    def action_back(self) -> None:
        """From the summary to the questions; from those to the project this one was left for."""
        if self._busy:
            return
        if self.has_class("-summary"):
            self.remove_class("-summary")
            self.query_one("#trigger").focus()
            self.refresh_bindings()
        else:
            self.studio.leave_wizard()

    def action_fix(self) -> None:
        """Take the changes that make it fit."""
        made = self.query_one(ProposalPanel).proposal
        if made is None or self._busy:
            return
        if not made.fix:
            self.notify("No setting mends that." if made.problems else "Nothing is to mend.")
            return
        self._changes |= made.fix
        self._propose("Mending…")

    def action_preset(self) -> None:
        """Choose another preset."""
        made, root = self.query_one(ProposalPanel).proposal, self.studio.root
        if made is None or made.found is None or self._busy:
            return
        family = made.found.family

        def work(post: Post, _gone: Gone) -> None:
            from loratui.config.presets import list_presets

            presets = [p for p in list_presets(root)[0] if p.family in {family, ""}]
            self.app.call_from_thread(self._choose_preset, presets)

        self.studio.in_thread(work, "first-presets", self)

    def _choose_preset(self, presets: list[Any]) -> None:
        from loratui.ui.screens import choose

        options = [
            choose.Option(p.name, p.name, f"{p.memory_gib:.0f} G  {p.about}" if p.memory_gib else p.about)
            for p in presets
        ]

        def take(chosen: choose.Choice | None) -> None:
            if chosen is not None:
                self._preset, self._changes = chosen.value, {}
                self._propose("Making the plan…")

        self.app.push_screen(choose.ChooseDialog("another preset", options, "enter takes   esc leaves"), take)

    # making it

    def action_start(self) -> None:
        """Make the project and start its training."""
        made = self.query_one(ProposalPanel).proposal
        if made is None or self._busy:
            return
        if made.errors:
            first = made.errors[0]
            fix = "\nf mends it." if first.fix else f"\n{first.advice}"
            self.notify(first.message + fix, title="cannot start", severity="error")
            return
        self._make(made, start=True)

    def action_make(self) -> None:
        """Make the project and look at its pictures."""
        made = self.query_one(ProposalPanel).proposal
        if made is not None and not self._busy:
            self._make(made, start=False)

    def _make(self, proposal: Proposal, start: bool) -> None:
        self._busy = True
        here, panel = self.studio.root, self.query_one(ProposalPanel)
        panel.show(proposal, "Making the project…")

        def work(post: Post, _gone: Gone) -> None:
            from loratui.project.proposal import make
            from loratui.project.start import start_training

            def tell(done: int, of: int) -> None:
                words = f"Copying pictures… {done:,}" + (f" of {of:,}" if of else "")
                self.app.call_from_thread(panel.show, proposal, words)

            try:
                project = make(proposal, here, tell)
            except LoratuiError as error:
                post(Made(None, f"{error.message} {error.advice}".strip()))
                return
            if not start:
                post(Made(project))
                return
            self.app.call_from_thread(panel.show, proposal, "Starting…")
            try:
                run = start_training(project, project.resolve(), preset=project.preset)
            except LoratuiError as error:
                first = error.problems[0] if error.problems else None
                said = f"{first.message} {first.advice}" if first else f"{error.message} {error.advice}"
                post(Made(project, said.strip()))
                return
            post(Made(project, run=run))

        self.studio.in_thread(work, "first", self)

    async def on_made(self, message: Made) -> None:
        """On to the monitor or the pictures, or say what is wrong."""
        self._busy = False
        if message.project is None:
            self.action_back()
            self._say_problem(message.problem)
            return
        if message.problem:
            self.notify(message.problem, title="the project is made, and cannot train yet", severity="error")
        room = "monitor" if message.run is not None else "train" if message.problem else "dataset"
        await self.studio.enter_project(message.project.root, room, message.run)

    def _say_problem(self, problem: str) -> None:
        shown = self.query_one("#problem", Static)
        shown.update(text.foreign_lines(problem))
        shown.set_class(bool(problem), "-shown")
