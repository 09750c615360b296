"""A dialog that asks how a preset shall be called, what it is for and where it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from loratui.errors import ConfigError
from loratui.ui import text
from loratui.ui.widgets.choice import Choice

_FIELDS = ("name", "about", "where")


@dataclass(frozen=True, slots=True)
class Kept:
    """The answers: the file, and what the preset is for."""

    path: Path
    about: str


class KeepPresetDialog(ModalScreen[Kept | None]):
    """Enter keeps it; a preset that is there is replaced by a second enter; esc leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "leave", priority=True),
        Binding("down,tab", "move(1)", "next", show=False, priority=True),
        Binding("up,shift+tab", "move(-1)", "before", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    KeepPresetDialog { align: center middle; background: $background 60%; }
    KeepPresetDialog Vertical { width: 84; max-width: 94%; height: auto; background: $panel;
        border: round $accent; border-title-color: $accent; padding: 1 2; }
    KeepPresetDialog Horizontal { height: 1; margin-bottom: 1; }
    KeepPresetDialog .name { width: 9; text-style: bold; }
    KeepPresetDialog Input { width: 1fr; height: 1; border: none; padding: 0 1; background: $background; }
    KeepPresetDialog Choice { width: 1fr; background: $panel; }
    KeepPresetDialog #place { color: $muted; height: auto; }
    KeepPresetDialog #place.-bad { color: $warning; }
    KeepPresetDialog .say { color: $muted; margin-top: 1; }
    """

    def __init__(self, name: str, about: str, root: Path) -> None:
        """Ask.

        Args:
            name: proposed.
            about: proposed.
            root: of the project.
        """
        super().__init__()
        self._name, self._about, self._root = name, about, root
        self._warned: Path | None = None

    def compose(self) -> ComposeResult:
        """Three questions, where it goes, the keys."""
        with Vertical() as box:
            box.border_title = "keep these settings as a preset"
            with Horizontal():
                yield Static(Content("Name"), classes="name")
                yield Input(self._name, id="name", compact=True)
            with Horizontal():
                yield Static(Content("For"), classes="name")
                yield Input(self._about, placeholder="what it is for", id="about", compact=True)
            with Horizontal():
                yield Static(Content("Where"), classes="name")
                yield Choice(("this project", "all projects"), id="where")
            yield Static("", id="place")
            yield Static(
                Content.assemble(("enter", "$accent"), " keeps it    ", ("esc", "$accent"), " leaves"),
                classes="say",
            )

    def on_mount(self) -> None:
        """Begin with the name."""
        self.query_one("#name").focus()
        self._say()

    def action_move(self, by: int) -> None:
        """To another question."""
        now = self.focused.id if self.focused is not None else None
        at = _FIELDS.index(now) if now in _FIELDS else 0
        self.set_focus(self.query_one(f"#{_FIELDS[(at + by) % len(_FIELDS)]}"))

    @on(Input.Changed, "#name")
    @on(Choice.Changed)
    def _changed(self) -> None:
        self._warned = None
        self._say()

    def _path(self) -> Path:
        """Where it would be kept.

        Raises:
            ConfigError: it cannot be called so.
        """
        from loratui.config.keep import keep_path

        here = self.query_one("#where", Choice).chosen == 0
        return keep_path(self.query_one("#name", Input).value.strip(), self._root if here else None)

    def _say(self, warning: str = "") -> None:
        place = self.query_one("#place", Static)
        try:
            words = warning or f"It will be {self._path()}"
        except ConfigError as error:
            words, warning = f"{error.message} {error.advice}", error.message
        place.update(text.foreign(words))
        place.set_class(bool(warning), "-bad")

    @on(Input.Submitted)
    @on(Choice.Submitted)
    def _keep(self) -> None:
        try:
            path = self._path()
        except ConfigError:
            self._say()
            return
        if path.exists() and self._warned != path:
            self._warned = path
            self._say(f"{path} is there already: enter again replaces it.")
            return
        self.dismiss(Kept(path, self.query_one("#about", Input).value.strip()))
