"""The first minute: five questions, each with an answer to take with enter, then what they lead to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from loratui.errors import LoratuiError
from loratui.ui import text
from loratui.ui.actions import Action, bindings
from loratui.ui.asking import (
    BUNDLED,
    CardsFound,
    Told,
    TriggerFound,
    browse_from,
    card_name,
    find_cards,
    has_pictures,
    tell_base,
    tell_pictures,
    tell_trigger,
)
from loratui.ui.panels.proposal import ProposalPanel
from loratui.ui.screens.browse import BrowseDialog, Wanted
from loratui.ui.screens.room import Room
from loratui.ui.widgets.choice import Choice
from loratui.ui.widgets.key_bar import KeyBar
from loratui.ui.widgets.path_input import PathInput

if TYPE_CHECKING:
    from loratui.plan.cards import Card
    from loratui.project import Project
    from loratui.project.proposal import Answers, Proposal, Proposing
    from loratui.runs.directory import RunDir
    from loratui.ui.watching import Gone, Post

_GOALS = ("character", "style", "object", "concept", "clothing", "one image")
_FIELDS = ("base", "pictures", "goal", "card-choice", "trigger")


class Proposed(Message):
    """What the answers lead to; `number` tells which answers."""

    def __init__(self, number: int, proposal: Proposal) -> None:
        super().__init__()
        self.number, self.proposal = number, proposal


class Made(Message):
    """The project was made, and perhaps a training started; or what kept it."""

    def __init__(self, project: Project | None, problem: str = "", run: RunDir | None = None) -> None:
        super().__init__()
        self.project, self.problem, self.run = project, problem, run


class FirstRoom(Room):
    """Asks base, pictures, goal, card and trigger; shows preset and plan; makes the project and starts."""

    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("first.next", "ctrl+s", "summary", "plan", "See what the answers lead to", priority=True),
        Action("first.browse", "f2,ctrl+o", "browse", "browse", "Look for it on the disk", priority=True),
        Action("first.start", "enter", "start", "start", "Make the project and start the training"),
        Action("first.fix", "f", "fix", "mend", "Change the settings so that it fits the card and can start"),
        Action("first.preset", "c", "preset", "preset", "Take another preset of this family"),
        Action("first.make", "d", "make", "only make", "Make the project and look at its pictures first"),
        Action("first.back", "escape", "back", "back", "Back to the answers, or to the project before"),
        Action("first.up", "up", "move(-1)", "up", "The question before", show=False),
        Action("first.down", "down", "move(1)", "down", "The next question", show=False),
    )
    BINDINGS = bindings(ACTIONS)
    _ASKING = frozenset({"summary", "browse", "move"})
    _SHOWING = frozenset({"start", "fix", "preset", "make"})
    DEFAULT_CSS = """
    FirstRoom VerticalScroll { align: center middle; height: 1fr; scrollbar-size-vertical: 1; }
    FirstRoom #card { width: 100; max-width: 100%; height: auto; border: round $faint; padding: 1 2;
        border-title-color: $accent; }
    FirstRoom.-low #card { padding: 0 1; }
    FirstRoom .ask { height: 1; margin-top: 1; }
    FirstRoom .name { width: 9; text-style: bold; }
    FirstRoom .say { color: $muted; height: auto; }
    FirstRoom .told { color: $muted; height: 1; margin-left: 9; }
    FirstRoom .told.-bad { color: $warning; }
    FirstRoom Input { width: 1fr; border: none; background: $panel; padding: 0 1; height: 1;
        &:focus { border: none; } }
    FirstRoom Choice { width: 1fr; }
    FirstRoom #problem { color: $error; height: auto; display: none; margin-top: 1; }
    FirstRoom #problem.-shown { display: block; }
    FirstRoom #where { color: $muted; margin-top: 1; height: auto; }
    FirstRoom ProposalPanel { display: none; height: 1fr; }
    FirstRoom.-summary ProposalPanel { display: block; }
    FirstRoom.-summary VerticalScroll { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._busy = False
        self._own = False
        self._cards: list[Card] = []
        self._proposed_trigger = ""
        """What we put there; another text is the user's own and stays."""
        self._asked = 0
        self._preset = ""
        self._changes: dict[str, Any] = {}
        self._proposing: Proposing | None = None

    def compose(self) -> ComposeResult:
        """No header: there is no project yet."""
        yield from self.body()
        yield KeyBar()

    def body(self) -> ComposeResult:
        """The questions, and behind them what they lead to."""
        root = self.studio.root
        self._own = not (root / "loratui.toml").exists() and has_pictures(root)
        pictures = "." if self._own else BUNDLED
        with VerticalScroll(can_focus=False), Vertical(id="card") as card:
            card.border_title = "loratui · a new project"
            hello = "Five questions; enter takes the answer that stands there, f2 looks around on the disk. "
            hello += "Six times enter trains the bundled example, which needs no GPU."
            yield Static(Content(hello), id="hello", classes="say")
            placeholder = "demo, a diffusers folder, a .safetensors file, or a Hub id as in owner/name"
            yield from _ask("Base", PathInput("demo", placeholder, root, id="base"))
            placeholder = "a folder, zip or tar of pictures"
            yield from _ask("Pictures", PathInput(pictures, placeholder, root, id="pictures"))
            yield from _ask("Goal", Choice(_GOALS, id="goal"))
            yield from _ask("Card", Choice(("looking…",), id="card-choice"))
            yield from _ask("Trigger", Input("", placeholder="none", id="trigger", compact=True))
            yield Static("", id="where")
            yield Static("", id="problem")
        yield ProposalPanel(id="proposal")

    def on_mount(self) -> None:
        """Start with the first question."""
        self.query_one("#base").focus()
        self.query_one("#told-goal", Static).update(Content("what the pictures shall teach it"))
        self._say_where()
        self.studio.in_thread(find_cards, "first-cards", self)

    def on_unmount(self) -> None:
        """What was unpacked for the plan goes."""
        if self._proposing is not None:
            self._proposing.close()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Some keys belong to the questions, some to what they lead to."""
        if action in self._ASKING | self._SHOWING:
            return (action in self._SHOWING) == self.has_class("-summary")
        return True

    # the questions

    @property
    def _target(self) -> Path:
        """The folder itself when it is empty or holds pictures; else a new one in it."""
        from loratui.project.project import slug

        root = self.studio.root
        if self._own or not root.exists() or not any(root.iterdir()):
            return root
        pictures = self._answer("pictures")
        name = "my-lora"
        if pictures == BUNDLED:
            name = "demo" if self._answer("base") == "demo" else name
        elif pictures not in {"", "."}:
            name = slug(Path(pictures).name.split(".")[0]).lower()
        number = 1
        while (root / (name if number == 1 else f"{name}-{number}")).exists():
            number += 1
        return root / (name if number == 1 else f"{name}-{number}")

    def _answer(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()

    def _answers(self) -> Answers:
        from loratui.plan.cards import processor
        from loratui.project.proposal import Answers

        at = self.query_one("#card-choice", Choice).chosen
        card: Card = self._cards[at] if at < len(self._cards) else processor()
        return Answers(
            base=self._answer("base") or "demo",
            pictures=self._answer("pictures") or ("." if self._own else BUNDLED),
            goal=self.query_one("#goal", Choice).value,
            card=card,
            trigger=self._answer("trigger"),
            preset=self._preset,
            changes=dict(self._changes),
        )

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        self._say_where()
        what = event.input.id or ""
        if what != "trigger":
            self._preset, self._changes = "", {}
        self._look(what)
        if what == "pictures":
            self._propose_trigger()

    @on(Choice.Changed)
    def _chose(self) -> None:
        self._preset, self._changes = "", {}
        self._tell_card()
        self._propose_trigger()

    def _look(self, what: str) -> None:
        """Find out what an answer means, in a thread; the newest wins."""
        value, here = self._answer(what), self.studio.root
        if what == "pictures" and not value:
            value = "." if self._own else BUNDLED
        work = {"base": tell_base, "pictures": tell_pictures, "trigger": tell_trigger}[what]
        self.studio.in_thread(lambda post, gone: work(value, here, post, gone), f"first-{what}", self)

    @property
    def _trigger_is_ours(self) -> bool:
        return self.query_one("#trigger", Input).value == self._proposed_trigger

    def _propose_trigger(self) -> None:
        if not self._trigger_is_ours:
            return
        answers, here = replace(self._answers(), trigger=""), self.studio.root

        def work(post: Post, _gone: Gone) -> None:
            from loratui.dataset.tokens import ClipTokens
            from loratui.project.proposal import propose_trigger

            post(TriggerFound(propose_trigger(answers, here, ClipTokens.shipped())))

        self.studio.in_thread(work, "first-propose-trigger", self)

    def on_trigger_found(self, message: TriggerFound) -> None:
        """It stands there until another is typed."""
        if self._trigger_is_ours:
            self._proposed_trigger = message.trigger
            self.query_one("#trigger", Input).value = message.trigger

    def on_told(self, message: Told) -> None:
        """Show what an answer means."""
        line = self.query_one(f"#told-{message.what}", Static)
        line.update(text.foreign(message.words))
        line.set_class(not message.good, "-bad")

    def on_cards_found(self, message: CardsFound) -> None:
        """Offer them, the one that is here first."""
        self._cards = message.cards
        several = message.cards[0].name
        names = tuple(card_name(card, bool(several)) for card in message.cards)
        self.query_one("#card-choice", Choice).offer(names)
        self._tell_card()

    def _tell_card(self) -> None:
        if not self._cards:
            return
        card = self._cards[self.query_one("#card-choice", Choice).chosen]
        if card.cpu:
            words = f"no GPU: {card.gib:.0f} G of main memory, slow for all but the demo"
        elif card.name:
            words = f"found here: {card.name}, {card.gib:.1f} G"
        else:
            words = f"a card of {card.gib:.0f} G"
        self.post_message(Told("card-choice", words))

    def _say_where(self) -> None:
        where = text.shorten(text.plain(self._target), max(30, self.size.width - 40))
        self.query_one("#where", Static).update(
            Content.assemble("The project will be in ", (where, "$foreground"))
        )

    @on(Input.Submitted)
    @on(Choice.Submitted)
    def _next(self) -> None:
        if self.has_class("-summary"):
            return
        if self.focused is not None and self.focused.id == "trigger":
            self.action_summary()
        else:
            self.action_move(1)

    def action_move(self, by: int) -> None:
        """To another question."""
        now = self.focused.id if self.focused is not None else None
        at = _FIELDS.index(now) if now in _FIELDS else 0
        # at once: keys that came in a burst are answered one by one, and each goes on from here
        self.set_focus(self.query_one(f"#{_FIELDS[max(0, min(len(_FIELDS) - 1, at + by))]}"))

    def action_browse(self) -> None:
        """Look around on the disk, for pictures when that is the question, else for a base."""
        wanted: Wanted = "pictures" if self.focused is not None and self.focused.id == "pictures" else "base"

        def take(chosen: str | None) -> None:
            if chosen is not None:
                field = self.query_one(f"#{wanted}", Input)
                field.value = chosen
                field.focus()

        self.app.push_screen(BrowseDialog(wanted, browse_from(self.studio.root, self._answer(wanted))), take)

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


def _ask(name: str, field: Widget) -> ComposeResult:
    """A question: its name, its field, and the line under it."""
    with Horizontal(classes="ask"):
        yield Static(Content(name), classes="name")
        yield field
    yield Static("", id=f"told-{field.id}", classes="told")
