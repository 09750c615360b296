"""The five questions of the first room, each with an answer and what it means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from loratui.ui import text
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
    from loratui.project.proposal import Answers
    from loratui.ui.watching import Gone, Post

_GOALS = ("character", "style", "object", "concept", "clothing", "one image")
_FIELDS = ("base", "pictures", "goal", "card-choice", "trigger")


class FirstQuestions(Room):
    """Base, pictures, goal, card and trigger; each answer is looked at in a thread while others are given."""

    def __init__(self) -> None:
        super().__init__()
        self._own = False
        self._cards: list[Card] = []
        self._proposed_trigger = ""
        """What we put there; another text is the user's own and stays."""
        self._preset = ""
        self._changes: dict[str, Any] = {}

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


def _ask(name: str, field: Widget) -> ComposeResult:
    """A question: its name, its field, and the line under it."""
    with Horizontal(classes="ask"):
        yield Static(Content(name), classes="name")
        yield field
    yield Static("", id=f"told-{field.id}", classes="told")
