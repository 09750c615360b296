"""The first minute: four questions, each with an answer to take with enter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from loratui.errors import LoratuiError
from loratui.ui import text
from loratui.ui.actions import Action, bindings
from loratui.ui.screens.room import Room
from loratui.ui.widgets.choice import Choice
from loratui.ui.widgets.key_bar import KeyBar
from loratui.ui.widgets.path_input import PathInput

if TYPE_CHECKING:
    from loratui.project import Project
    from loratui.ui.watching import Gone, Post

_BUNDLED = "bundled"
_KINDS = ("character", "style", "object")
_PICTURES = {".png", ".jpg", ".jpeg", ".webp"}


class Made(Message):
    """The project was made, or could not be."""

    def __init__(self, project: Project | None, problem: str = "") -> None:
        super().__init__()
        self.project, self.problem = project, problem


class FirstRoom(Room):
    """Asks base, pictures, kind and trigger; makes the project."""

    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action(
            "first.make",
            "ctrl+s",
            "make",
            "make the project",
            "Make the project with these answers",
            priority=True,
        ),
    )
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = """
    FirstRoom VerticalScroll { align: center middle; height: 1fr; scrollbar-size-vertical: 1; }
    FirstRoom #card { width: 84; max-width: 96%; height: auto; border: round $faint; padding: 1 3;
        border-title-color: $accent; }
    FirstRoom.-low #card { padding: 0 2; }
    FirstRoom .ask { margin-top: 1; text-style: bold; height: 1; }
    FirstRoom .say { color: $muted; height: auto; }
    FirstRoom.-low .ask { margin-top: 1; }
    FirstRoom.-low #hello { display: none; }
    FirstRoom Input { border: none; background: $panel; padding: 0 1; height: 1; &:focus { border: none; } }
    FirstRoom Choice { padding: 0 1; }
    FirstRoom #problem { color: $error; height: auto; display: none; margin-top: 1; }
    FirstRoom #problem.-shown { display: block; }
    FirstRoom #where { color: $muted; margin-top: 1; height: auto; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._making = False
        self._own = False

    def compose(self) -> ComposeResult:
        """No header: there is no project yet."""
        yield from self.body()
        yield KeyBar()

    def body(self) -> ComposeResult:
        """The card."""
        root = self.studio.root
        self._own = _has_pictures(root)
        pictures = "." if self._own else _BUNDLED
        with VerticalScroll(), Vertical(id="card") as card:
            card.border_title = "loratui · a new project"
            yield Static(
                Content(
                    "Four questions; enter takes the answer that stands there. "
                    "Enter four times trains the bundled example, which needs no GPU."
                ),
                id="hello",
                classes="say",
            )
            yield Static(Content("Base model"), classes="ask")
            yield PathInput("demo", "demo, a folder, a .safetensors file, or a Hub id", root, id="base")
            yield Static(
                Content(
                    "demo is the small bundled model; else a diffusers folder, a .safetensors file, a Hub id"
                ),
                classes="say",
            )
            yield Static(Content("Pictures"), classes="ask")
            yield PathInput(pictures, "a folder or an archive of pictures", root, id="pictures")
            found = (
                "the pictures in this folder, where they are" if self._own else "16 drawings of a small robot"
            )
            yield Static(
                Content(f"{pictures} means {found}; another folder, zip or tar is copied into the project"),
                classes="say",
            )
            yield Static(Content("What do they show?"), classes="ask")
            yield Choice(_KINDS, id="kind")
            yield Static(Content("Trigger"), classes="ask")
            yield Input(
                "sks robot" if not self._own else "", placeholder="sks robot", id="trigger", compact=True
            )
            yield Static(
                Content("the words that will call what is learned; rare ones work best"), classes="say"
            )
            yield Static("", id="problem")
            yield Static("", id="where")

    def on_mount(self) -> None:
        """Start with the first question."""
        self.query_one("#base").focus()
        self._say_where()

    @property
    def _target(self) -> Path:
        """The folder itself when it is empty or holds pictures; else a new one in it."""
        root = self.studio.root
        if self._own or not root.exists() or not any(root.iterdir()):
            return root
        name = "demo" if self._answer("base") == "demo" else "my-lora"
        number = 1
        while (root / (name if number == 1 else f"{name}-{number}")).exists():
            number += 1
        return root / (name if number == 1 else f"{name}-{number}")

    def _answer(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()

    @on(Input.Changed)
    def _say_where(self) -> None:
        where = text.shorten(text.plain(self._target), max(30, self.size.width - 40))
        self.query_one("#where", Static).update(
            Content.assemble("The project will be in ", (where, "$foreground"))
        )

    @on(Input.Submitted)
    @on(Choice.Submitted)
    def _next(self, event: Message) -> None:
        last = isinstance(event, Input.Submitted) and event.input.id == "trigger"
        if last:
            self.action_make()
        else:
            self.focus_next()

    def action_make(self) -> None:
        """Make the project in a thread."""
        if self._making:
            return
        self._making = True
        base, pictures = self._answer("base") or "demo", self._answer("pictures")
        kind, trigger = self.query_one(Choice).value, self._answer("trigger")
        target, root = self._target, self.studio.root
        self._say_problem("")

        def work(post: Post, _gone: Gone) -> None:
            try:
                post(Made(_make(target, root, base, pictures, kind, trigger)))
            except LoratuiError as error:
                post(Made(None, f"{error.message} {error.advice}".strip()))

        self.studio.in_thread(work, "first", self)

    async def on_made(self, message: Made) -> None:
        """On to the pictures, or say what is wrong."""
        self._making = False
        if message.project is None:
            self._say_problem(message.problem)
            return
        self.studio.root = message.project.root
        self.studio.open_project()
        await self.studio.switch_mode("dataset")

    def _say_problem(self, problem: str) -> None:
        shown = self.query_one("#problem", Static)
        shown.update(text.foreign_lines(problem))
        shown.set_class(bool(problem), "-shown")


def _has_pictures(root: Path) -> bool:
    try:
        return any(entry.suffix.lower() in _PICTURES for entry in root.iterdir())
    except OSError:
        return False


def _make(target: Path, root: Path, base: str, pictures: str, kind: str, trigger: str) -> Project:
    """Make the project on disk.

    Raises:
        LoratuiError: it cannot be made; says why.
    """
    from loratui.config.presets import preset_paths
    from loratui.project import Project

    if base == "demo" and pictures in {"", _BUNDLED}:
        from loratui.project.demo import make_demo

        return make_demo(target)
    here = pictures in {".", ""}
    images = None if here else (root / Path(pictures).expanduser())
    if pictures == _BUNDLED:
        from loratui import demo

        images = demo.pictures_path()
    preset = "demo" if base == "demo" else f"sd15-{kind}"
    if preset not in preset_paths(target):
        preset = ""
    if base != "demo" and (root / Path(base).expanduser()).exists():
        base = str((root / Path(base).expanduser()).resolve())
    return Project.create(target, base, trigger, images, preset=preset)
