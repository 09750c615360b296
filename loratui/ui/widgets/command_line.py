"""The `:` line: edits as on the command line, and the few words for everything else."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, Static

from loratui.ui import text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette, palette
from loratui.ui.widgets.facts import Facts

WORDS: dict[str, tuple[str, str]] = {
    "order": ("FIELDS", "order the pictures, as in: order -width,name"),
    "filter": ("FILTER", "show what a filter selects"),
    "keep": ("NAME", "keep the filter under a name; f uses it again"),
    "mark": ("FILTER", "mark what a filter selects"),
    "unmark": ("[FILTER]", "take marks away"),
    "stars": ("0..5", "give stars"),
    "weight": ("0..100", "weigh the loss of these pictures"),
    "frame": ("reset|turn 90|mirror|crop X,Y,W,H|alpha on", "turn, mirror, crop, mask"),
    "import": ("PATH", "copy a folder, zip or tar into the project"),
    "export": ("FORMAT TARGET [bake]", "for kohya, imagefolder, ai-toolkit, zip; bake: with crops"),
    "trash": ("", "move to the trash"),
    "undo": ("", "take the last change back"),
    "redo": ("", "do it again"),
    "rescan": ("", "read pictures and captions again"),
}
"""Commands beside the edits: (arguments, help)."""


class _Words(Suggester):
    async def get_suggestion(self, value: str) -> str | None:
        """The first word finished."""
        from loratui.dataset.edit_parse import OPERATIONS

        typed = value.lstrip("%.")
        if typed and " " not in typed:
            head = value[: len(value) - len(typed)]
            return next((f"{head}{w} " for w in (*OPERATIONS, *WORDS) if w.startswith(typed)), None)
        return None


class CommandLine(Vertical):
    """One line to type a command in, with what it will act on and what it takes."""

    DEFAULT_CSS = """
    CommandLine { height: auto; display: none; background: $panel; }
    CommandLine.-open { display: block; }
    CommandLine Horizontal { height: 1; }
    CommandLine .sign { width: 3; color: $accent; }
    CommandLine Input { width: 1fr; height: 1; border: none; background: $panel; }
    CommandLine #command-help { height: 1; padding: 0 3; }
    CommandLine.-long #command-help { height: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "leave", id="command.cancel"),
        Binding("up", "recall(-1)", "command before", show=False),
        Binding("down", "recall(1)", "next command", show=False),
    ]

    class Given(Message):
        """A command was typed."""

        def __init__(self, line: str) -> None:
            super().__init__()
            self.line = line

    class Left(Message):
        """The focus wants to go back to the list."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._scope = ""
        self._error = ""
        self._past: list[str] = []
        self._at = 0

    def compose(self) -> ComposeResult:
        """The line, and what it takes."""
        hint = "add TAGS, remove TAG, rename OLD NEW, trigger-first, order FIELDS, import PATH…"
        with Horizontal():
            yield Static(" : ", classes="sign")
            yield Input(
                placeholder=hint,
                id="command",
                compact=True,
                suggester=_Words(use_cache=False),
                select_on_focus=False,
            )
        yield Facts(self._help, id="command-help")

    def open(self, scope: str, value: str = "") -> None:
        """Begin to type; `scope` says which pictures an edit will work on."""
        self._scope, self._error, self._at = scope, "", len(self._past)
        line = self.query_one(Input)
        line.value = value
        line.cursor_position = len(value)
        self.add_class("-open")
        line.focus()
        self._say()

    def wrong(self, message: str) -> None:
        """Say what is wrong with the command, which stays to be mended."""
        self._error = message
        self.add_class("-open")
        self.query_one(Input).focus()
        self._say()

    def close(self) -> None:
        """Put the line away."""
        self.remove_class("-open")

    def _help(self, width: int, height: int, colours: Palette) -> list[Row]:
        from loratui.dataset.edit_parse import OPERATIONS  # here: the first frame does not wait for it

        if self._error:
            return [[(text.crop(text.plain(self._error), width), colours.red)]]
        value = self.query_one(Input).value
        word = value.strip().lstrip("%.").split(" ")[0]
        if word in OPERATIONS:
            spec = OPERATIONS[word]
            usage, words = spec.usage, spec.help
        elif word in WORDS:
            usage, words = WORDS[word]
        else:
            usage, words = "", ""
        row: Row = [(self._scope_words(value), colours.accent)]
        if not words:
            return [[*row, ("   % in front: all   . in front: this picture", colours.muted)]]
        row.append((f"   {word} {usage}".rstrip(), colours.text))
        if sum(len(piece) for piece, _ in row) + 3 + len(words) > width:
            return [row, [(text.crop(words, width), colours.muted)]]
        return [[*row, (f"   {words}", colours.muted)]]

    def _say(self) -> None:
        """Tell what the command takes, on as many lines as that needs."""
        facts = self.query_one("#command-help", Facts)
        width = self.size.width - 6
        self.set_class(width > 0 and len(self._help(width, 2, palette(self))) > 1, "-long")
        facts.redraw()

    def _scope_words(self, value: str) -> str:
        if value.startswith("%"):
            return "on all pictures"
        return "on this picture" if value.startswith(".") else self._scope

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._error = ""
        self._say()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        line = event.value.strip().removeprefix(":").strip()
        if not line:
            self.action_cancel()
            return
        if not self._past or self._past[-1] != line:
            self._past.append(line)
        self.post_message(self.Given(line))

    def action_recall(self, by: int) -> None:
        """Commands typed before."""
        if self._past:
            self._at = max(0, min(len(self._past), self._at + by))
            line = self.query_one(Input)
            line.value = self._past[self._at] if self._at < len(self._past) else ""
            line.cursor_position = len(line.value)

    def action_cancel(self) -> None:
        """Leave."""
        self.close()
        self.post_message(self.Left())
