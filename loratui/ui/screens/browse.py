"""A dialog that walks the disk: for a base model, pictures or a config; each line says what it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from loratui.ui import figures, text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.line_list import LineList

if TYPE_CHECKING:
    from loratui.ui.watching import Gone, Post, Watching

Wanted = Literal["base", "pictures", "config"]
_TITLES = {"base": "a base model", "pictures": "pictures", "config": "another trainer's config"}
_CONFIGS = (".toml", ".json", ".yaml", ".yml", ".txt", ".sh", ".bat", ".ps1")
_MODELS = (".safetensors",)
_SLOW = 5000


@dataclass(slots=True)
class Line:
    """One line: what enter takes (empty: go into the folder), its name, and what it is."""

    name: str
    about: str = ""
    takes: str = ""
    folder: Path | None = None
    good: bool = True


class Listed(Message):
    """A folder was read."""

    def __init__(self, folder: Path, lines: list[Line], problem: str = "") -> None:
        super().__init__()
        self.folder, self.lines, self.problem = folder, lines, problem


class Told(Message):
    """What a line is was found out."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self.line = line


class BrowseDialog(ModalScreen[str | None]):
    """Enter goes into a folder or takes what stands there; typing narrows; backspace goes up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "leave", priority=True),
        Binding("down", "step(1)", show=False, priority=True),
        Binding("up", "step(-1)", show=False, priority=True),
        Binding("pagedown", "step(10)", show=False, priority=True),
        Binding("pageup", "step(-10)", show=False, priority=True),
        Binding("left", "up", show=False, priority=True),
        Binding("right", "into", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    BrowseDialog { align: center middle; background: $background 60%; }
    BrowseDialog Vertical { width: 92; max-width: 96%; height: auto; max-height: 94%; background: $panel;
        border: round $accent; border-title-color: $accent; padding: 0 2; }
    BrowseDialog Input { height: 1; border: none; padding: 0; background: $panel; margin-top: 1; }
    BrowseDialog LineList { height: 14; margin-top: 1; background: $panel; }
    BrowseDialog #place { color: $muted; height: 1; }
    BrowseDialog .say { color: $muted; margin-top: 1; }
    """

    def __init__(self, wanted: Wanted, start: Path) -> None:
        super().__init__()
        self._wanted: Wanted = wanted
        self._folder = start
        self._lines: list[Line] = []
        self._found: list[Line] = []

    @property
    def _studio(self) -> Watching:
        return cast("Watching", self.app)

    def compose(self) -> ComposeResult:
        """Place, line to narrow, list, keys."""
        with Vertical() as box:
            box.border_title = _TITLES[self._wanted]
            yield Static("", id="place")
            yield Input(placeholder="type to narrow, or a path", compact=True)
            yield LineList(self._row, empty="Reading…")
            yield Static(Content("enter takes or goes in   → goes in   ← up   esc leaves"), classes="say")

    def on_mount(self) -> None:
        """Start where the project would be."""
        view = self.query_one(LineList)
        view.can_focus, view.lit = False, True
        view.styles.height = max(4, min(16, self.app.size.height - 10))
        self.query_one(Input).focus()
        self._go(self._folder)

    def _go(self, folder: Path) -> None:
        wanted, top = self._wanted, folder == self._folder and not self._lines
        self._studio.in_thread(lambda post, gone: _read(folder, wanted, top, post, gone), "browse", self)

    def on_listed(self, message: Listed) -> None:
        """Show a folder."""
        if message.problem:
            self.notify(message.problem, severity="warning")
            if self._lines:
                return
        self._folder, self._lines = message.folder, message.lines
        wide = max(20, self.query_one("#place").size.width or 60)
        self.query_one("#place", Static).update(Content(text.shorten(text.plain(message.folder), wide)))
        field = self.query_one(Input)
        with self.prevent(Input.Changed):
            field.value = ""
        self.query_one(LineList).say("Nothing here that can be taken; ← goes up.")
        self._narrow("", 0)

    def on_told(self, message: Told) -> None:
        """Paint a line again."""
        for index, line in enumerate(self._found):
            if line is message.line:
                self.query_one(LineList).refresh_row(index)

    def _row(self, index: int, width: int, colours: Palette) -> Row:
        line = self._found[index]
        name = min(max((len(o.name) for o in self._found), default=0), width * 3 // 5)
        shown = text.fit(text.shorten(text.plain(line.name), name), name)
        about = text.crop(text.plain(line.about), max(0, width - name - 4))
        tint = colours.text if line.takes or line.folder else colours.faint
        return [(" " + shown, tint), ("  " + about, colours.muted if line.good else colours.amber)]

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._narrow(event.value)

    def _narrow(self, value: str, cursor: int = 0) -> None:
        words = value.casefold().split()
        self._found = [o for o in self._lines if all(w in o.name.casefold() for w in words)]
        self.query_one(LineList).show_rows(len(self._found), cursor)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        value = event.value.strip()
        path = Path(value).expanduser() if value.startswith(("/", "~", ".")) else None
        if path is not None and not self._found:
            path = Path(os.path.normpath(self._folder / path))
            if path.is_dir():
                self._go(path)
            elif path.exists():
                self.dismiss(str(path))
            return
        self._take()

    @on(LineList.Chosen)
    def _clicked(self) -> None:
        self._take()

    @property
    def _line(self) -> Line | None:
        cursor = self.query_one(LineList).cursor
        return self._found[cursor] if cursor < len(self._found) else None

    def _take(self) -> None:
        line = self._line
        if line is None:
            return
        if line.takes:
            self.dismiss(line.takes)
        elif line.folder is not None:
            self._go(line.folder)

    def action_into(self) -> None:
        """Go into the folder under the cursor."""
        line = self._line
        if line is not None and line.folder is not None:
            self._go(line.folder)

    def action_up(self) -> None:
        """Go to the folder above."""
        if self._folder.parent != self._folder:
            self._go(self._folder.parent)

    def action_step(self, by: int) -> None:
        """Move the cursor."""
        self.query_one(LineList).action_cursor(by)


def _read(folder: Path, wanted: Wanted, top: bool, post: Post, gone: Gone) -> None:
    """Read a folder, show it, then say line by line what each is."""
    from loratui.project import bases
    from loratui.project.importing import is_archive

    def keep(name: str) -> bool:
        if wanted == "pictures":
            return is_archive(Path(name))
        return name.endswith(_MODELS if wanted == "base" else _CONFIGS)

    try:
        folders, files = bases.inside(folder, keep)
    except OSError as error:
        post(Listed(folder, [], f"{folder} cannot be read: {error.strerror}."))
        return
    lines: list[Line] = []
    if wanted == "base" and top:
        lines.append(Line("demo", "the small bundled model, needs no GPU", "demo"))
        for base in bases.hub_bases():
            lines.append(Line(base.name, f"Hub cache · {bases.said(base.name, base.found)}", base.name))
    if wanted == "pictures":
        if top:
            lines.append(Line("bundled", "16 drawings of a small robot", "bundled"))
        lines.append(Line("take this folder", "", str(folder)))
    lines += [Line(f"{p.name}/", folder=p) for p in folders]
    lines += [Line(p.name, takes=str(p)) for p in files]
    post(Listed(folder, lines))
    for line in lines:
        if gone():
            return
        if line.about:
            continue
        if wanted == "base":
            _tell_base(line)
        elif wanted == "config":
            _tell_config(line)
        else:
            _tell_pictures(line, gone)
        post(Told(line))


def _tell_base(line: Line) -> None:
    from loratui.families.detect import detect
    from loratui.project import bases

    if line.folder is not None:
        if not bases.is_model_folder(line.folder):
            return
        line.takes = str(line.folder)
    try:
        found = detect(Path(line.takes))
    except OSError:
        return
    line.about, line.good = bases.said(line.takes, found), found.ok


def _tell_config(line: Line) -> None:
    from loratui.config.trainers.reading import import_config
    from loratui.errors import LoratuiError

    if line.folder is not None:
        return
    try:
        found = import_config(Path(line.takes))
    except LoratuiError as error:
        line.about, line.good = error.message.replace(line.takes, line.name), False
        return
    line.about = f"{found.trainer}, {figures.plural(len(found.values), 'setting')}"


def _tell_pictures(line: Line, gone: Gone) -> None:
    from loratui.project.proposal import count_pictures

    path = line.folder or Path(line.takes)
    try:
        count = count_pictures(path, _SLOW, gone)
    except OSError:
        return
    line.about = figures.plural(count, "picture") if count else "no pictures"
    line.good = bool(count) or line.folder is not None
