"""A dialog that draws more samples: other prompts, checkpoints, strengths, bases, LoRAs and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from loratui.errors import LoratuiError, RequestError
from loratui.ui import text

if TYPE_CHECKING:
    from loratui.project.drawing import DrawPlan
    from loratui.runs.directory import RunDir
    from loratui.ui.app import LoratuiApp
    from loratui.ui.watching import Gone, Post


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    label: str
    say: str


_LINES = (
    _Line("checkpoints", "checkpoints", "steps, last or all"),
    _Line("strengths", "strengths", "as in 0 0.5 1; 0 is the base"),
    _Line("base", "base", "another base of the same family; empty: its own"),
    _Line("loras", "LoRAs beside", "FILE:STRENGTH, separated by commas"),
    _Line("embeddings", "embeddings", "files, called by their name in prompts"),
    _Line("seed", "seed", "of the first prompt; empty: the run's"),
)


class DrawMoreDialog(ModalScreen["RunDir | None"]):
    """Asks what to draw, says what is wrong with it, starts it; gives back the run that draws."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", "draw", priority=True),
        Binding("escape", "dismiss(None)", "leave", priority=True),
    ]
    DEFAULT_CSS = """
    DrawMoreDialog { align: center middle; background: $background 60%; }
    DrawMoreDialog #draw { width: 88; max-width: 96%; height: auto; max-height: 96%; background: $panel;
        border: round $accent; border-title-color: $accent; padding: 0 2; }
    DrawMoreDialog TextArea { height: 4; background: $background; border: none; padding: 0 1; }
    DrawMoreDialog TextArea:focus { border: none; }
    DrawMoreDialog Horizontal { height: 1; }
    DrawMoreDialog .label { width: 14; color: $muted; }
    DrawMoreDialog Input { width: 1fr; height: 1; border: none; padding: 0; background: $background; }
    DrawMoreDialog .say { color: $muted; height: auto; }
    DrawMoreDialog #problems { color: $error; height: auto; }
    """

    class Refused(Message):
        """What keeps it from being drawn."""

        def __init__(self, problems: Sequence[str]) -> None:
            super().__init__()
            self.problems = problems

    class Began(Message):
        """The run that draws."""

        def __init__(self, run: RunDir, pictures: int) -> None:
            super().__init__()
            self.run, self.pictures = run, pictures

    def __init__(self, run: RunDir, prompts: Sequence[str], checkpoint: str, there: Sequence[int]) -> None:
        """Ask.

        Args:
            run: whose checkpoints are drawn with.
            prompts: to begin with; may be foreign.
            checkpoint: to begin with.
            there: steps that have a checkpoint.
        """
        super().__init__()
        self._run, self._prompts, self._checkpoint, self._there = run, prompts, checkpoint, there
        self._busy = False

    def compose(self) -> ComposeResult:
        """The lines, what is wrong, and the keys."""
        with VerticalScroll(id="draw", can_focus=False) as box:
            box.border_title = Content("draw more")
            yield Static(Content("prompts, one a line"), classes="say")
            yield TextArea("\n".join(text.plain(p) for p in self._prompts), soft_wrap=True, compact=True)
            start = {"checkpoints": self._checkpoint, "strengths": "1"}
            for line in _LINES:
                with Horizontal():
                    yield Static(Content(line.label), classes="label")
                    yield Input(start.get(line.name, ""), placeholder=line.say, compact=True, id=line.name)
            steps = ", ".join(str(step) for step in self._there[-14:])
            yield Static(Content(f"Checkpoints there: {steps or 'none'}."), classes="say")
            yield Static(Content(""), id="problems")
            keys = (("ctrl+s", " draw    "), ("tab", " next    "), ("esc", " leave"))
            parts = [piece for key, verb in keys for piece in ((key, "$accent"), verb)]
            yield Static(Content.assemble(*parts), classes="say")

    def on_mount(self) -> None:
        """Begin at the prompts."""
        self.query_one(TextArea).focus()

    @on(Input.Submitted)
    def _next(self) -> None:
        self.focus_next()

    def action_start(self) -> None:
        """Check it in a thread, then start it."""
        if self._busy:
            return
        self._busy = True
        self.query_one("#problems", Static).update(Content(""))
        values = {line.name: self.query_one(f"#{line.name}", Input).value.strip() for line in _LINES}
        prompts = [p for p in self.query_one(TextArea).text.split("\n") if p.strip()]
        run = self._run

        def work(post: Post, _gone: Gone) -> None:
            from loratui.project import drawing

            try:
                plan = _plan(run, prompts, values)
                post(self.Began(drawing.start(plan), plan.count))
            except RequestError as error:
                post(self.Refused([str(p) for p in error.problems] or [f"{error.message} {error.advice}"]))
            except LoratuiError as error:
                post(self.Refused([f"{error.message} {error.advice}"]))

        app: LoratuiApp = self.app  # type: ignore[assignment]
        app.in_thread(work, "draw-more", self)

    @on(Refused)
    def _refused(self, message: Refused) -> None:
        self._busy = False
        lines = "\n".join(text.plain(p) for p in message.problems[:6])
        self.query_one("#problems", Static).update(Content(lines))
        self.query_one("#draw").scroll_end(animate=False)

    @on(Began)
    def _began(self, message: Began) -> None:
        self.notify(f"{message.pictures} pictures are being drawn; they appear here.")
        self.dismiss(message.run)


def _plan(run: RunDir, prompts: Sequence[str], values: dict[str, str]) -> DrawPlan:
    """The lines of the dialog as a plan.

    Raises:
        RequestError: with every problem.
    """
    from loratui.project import drawing

    numbers = [part for part in values["strengths"].replace(",", " ").split() if part]
    try:
        strengths = [float(part) for part in numbers] or [1.0]
        seed = int(values["seed"]) if values["seed"] else None
    except ValueError as error:
        raise RequestError(f"That is no number: {error}.", "Strengths are such as 0 0.5 1.") from error
    root = run.path.parent.parent
    return drawing.prepare(
        run, prompts, values["checkpoints"].replace(",", " ").split(), strengths, values["base"],
        _files(values["loras"]), _files(values["embeddings"]), seed, root if root.is_dir() else Path.cwd(),
    )  # fmt: skip


def _files(words: str) -> list[str]:
    return [part.strip() for part in words.split(",") if part.strip()]
