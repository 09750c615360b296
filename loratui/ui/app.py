"""The app: rooms, what is known, and the workers that find it out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.filter import LineFilter
from textual.notifications import SeverityLevel
from textual.screen import Screen

from loratui.ui import text
from loratui.ui.actions import Action, bindings
from loratui.ui.graphics import Graphics
from loratui.ui.messages import GraphicsKnown, Said
from loratui.ui.screens.room import Room
from loratui.ui.theme import DARK, LIGHT
from loratui.ui.watching import Watching

if TYPE_CHECKING:
    from loratui.runs.directory import RunDir

MARKER = "loratui.toml"


def _room(name: str, kind: str) -> Callable[[], Screen[Any]]:
    """A room that is imported when it is first entered: the first frame waits for one room alone."""

    def make() -> Screen[Any]:
        from importlib import import_module

        made: Screen[Any] = getattr(import_module(f"loratui.ui.screens.{name}"), kind)()
        return made

    return make


class LoratuiApp(Watching):
    """The full-screen studio of one project."""

    TITLE = "loratui"
    ENABLE_COMMAND_PALETTE = False  # we bring our own, made from the actions
    ROOMS: ClassVar[tuple[tuple[str, str, str], ...]] = (
        ("1", "dataset", "Dataset"),
        ("2", "captions", "Captions"),
        ("3", "train", "Train"),
        ("4", "monitor", "Monitor"),
        ("5", "samples", "Samples"),
        ("6", "runs", "Runs"),
    )
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "dataset": _room("dataset", "DatasetRoom"),
        "captions": _room("captions", "CaptionsRoom"),
        "train": _room("train", "TrainRoom"),
        "monitor": _room("monitor", "MonitorRoom"),
        "samples": _room("samples", "SamplesRoom"),
        "runs": _room("runs", "RunsRoom"),
        "first": _room("first", "FirstRoom"),
    }
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        *(
            Action(f"app.{room}", key, f"app.room('{room}')", label, f"Go to {label}", show=False)
            for key, room, label in ROOMS
        ),
        Action("app.back", "q", "app.back", "back", "Back to the room before; a run goes on"),
        Action("app.help", "question_mark", "app.help", "keys", "All keys of this screen"),
        Action(
            "app.palette",
            "ctrl+p",
            "app.palette",
            "palette",
            "Find any action by name",
            show=False,
            priority=True,
        ),
        Action("app.new", "", "app.new_project", "new project", "Make a new project, beside this one"),
        Action("app.doctor", "", "app.doctor", "doctor", "Check this machine: torch, GPU, disk, terminal"),
        Action("app.light", "", "app.light", "light", "Change between the dark and the light theme"),
        Action("app.rescan", "", "app.rescan", "rescan", "Read pictures and captions again"),
        Action(
            "app.quit", "ctrl+q", "app.quit", "quit", "Leave loratui; runs go on", show=False, priority=True
        ),
    )
    BINDINGS = bindings(ACTIONS)
    CSS = """
    Toast { background: $panel; color: $foreground; border-left: outer $accent; }
    Toast.-warning { border-left: outer $warning; }
    Toast.-error { border-left: outer $error; }
    """

    def __init__(
        self,
        project_root: Path,
        open_run: str | None = None,
        replay: Path | None = None,
        replay_share: float | None = None,
        driver_class: Any = None,
        came_from: Path | None = None,
    ) -> None:
        """Build the app; nothing is read yet.

        Args:
            project_root: the project's folder; without a loratui.toml the first-minute wizard opens.
            open_run: a run to watch at once: path, id, name or `last`.
            replay: a run directory to play as a recording.
            replay_share: freeze the recording at this share of its time, 0 to 1.
            driver_class: the terminal driver, for tests.
            came_from: the project that the wizard was called from; escape goes back to it.
        """
        watched = replay is not None or open_run is not None
        begun = (project_root / MARKER).is_file() and came_from is None
        # the first room is Textual's default screen: an empty one before it would cost a tenth of the start
        self.DEFAULT_MODE = "monitor" if watched else "dataset" if begun else "first"  # type: ignore[misc]
        self.graphics = Graphics()  # before Textual's own set-up, which may draw
        super().__init__(project_root, open_run, replay, replay_share, driver_class)
        self._trail: list[str] = []
        self._came_from = came_from
        self.onward: tuple[Path, Path | None] | None = None
        """Where to go on when this app has ended: a folder, and for the wizard the project before it."""
        self._guard = text.TerminalGuard()
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = LIGHT.name if os.environ.get("LORATUI_THEME") == "light" else DARK.name
        if "TEXTUAL_ANIMATIONS" not in os.environ:
            self.animation_level = "none"

    # life

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Ours last: whatever a filter lets through, no control character is painted."""
        return [*super().get_line_filters(), self._guard]

    def on_mount(self) -> None:
        """Reading starts behind the first frame."""
        self.call_after_refresh(self.begin)

    def save_all(self) -> None:
        """Save what is unsaved in any room. Needs no event loop: signals call it."""
        for stack in self._screen_stacks.values():
            for screen in stack:
                if isinstance(screen, Room):
                    screen.leave()

    def _fatal_error(self) -> None:
        """A defect of ours: one line and a report instead of a page of traceback."""
        from loratui.ui.report import write_report

        self.save_all()
        self._exit_renderables.append(write_report(self._exception))
        self._close_messages_no_wait()

    # handlers

    def on_graphics_known(self, message: GraphicsKnown) -> None:
        """Pictures can be sharper now."""
        self.graphics = message.graphics
        self.state_changed.publish("graphics")

    def on_said(self, message: Said) -> None:
        """Tell the user."""
        body = message.text + (f"\n{message.advice}" if message.advice else "")
        self.notify(body, severity=message.severity)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Show a notification; its text may be foreign, so there is never markup in it."""
        clean = "\n".join(text.lines(message))
        super().notify(clean, title=text.plain(title), severity=severity, timeout=timeout, markup=False)

    # actions

    async def action_room(self, room: str) -> None:
        """Go to a room."""
        if self.current_mode == room or self.current_mode == "first" or len(self.screen_stack) > 1:
            return
        if isinstance(self.screen, Room):
            self.screen.leave()
        self._trail = [*self._trail[-8:], self.current_mode]
        await self.switch_mode(room)

    async def action_back(self) -> None:
        """Back to the room before; from the first one, out."""
        if self._trail and self.current_mode != "first":
            if isinstance(self.screen, Room):
                self.screen.leave()
            await self.switch_mode(self._trail.pop())
        else:
            await self.action_quit()

    async def action_quit(self) -> None:
        """Leave; runs are detached and go on."""
        self.save_all()
        self.exit()

    def action_new_project(self) -> None:
        """The wizard, for a project beside this one, in an app of its own: nothing of this one stays."""
        if self.current_mode == "first":
            return
        self.save_all()
        self.onward = (self.root.parent, self.root)
        self.exit()

    def leave_wizard(self) -> None:
        """Back to the project that the wizard was called from; without one it stays."""
        if self._came_from is None:
            self.notify("ctrl+q leaves.")
            return
        self.onward = (self._came_from, None)
        self.exit()

    async def enter_project(self, root: Path, room: str, run: RunDir | None = None) -> None:
        """Open the project that the wizard made, in a room, and watch its run."""
        self.root, self._came_from = root, None
        self.open_project()
        if run is not None:
            self.observe(run)
        self._trail = ["dataset"] if room != "dataset" else []
        await self.switch_mode(room)

    def action_help(self) -> None:
        """Show all keys of this screen."""
        from loratui.ui.screens.help import HelpDialog

        self.push_screen(HelpDialog(self.screen.active_bindings.values(), self.current_mode))

    def action_palette(self) -> None:
        """Find any action by name."""
        from loratui.ui.palette import open_palette

        open_palette(self)

    def action_doctor(self) -> None:
        """Check this machine."""
        from loratui.ui.screens.doctor import DoctorDialog

        self.push_screen(DoctorDialog(self.root))

    def action_light(self) -> None:
        """Change between dark and light."""
        self.theme = DARK.name if self.theme == LIGHT.name else LIGHT.name
