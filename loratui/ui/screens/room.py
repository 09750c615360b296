"""What all rooms share: header, footer, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.screen import Screen

from loratui.ui.actions import Action
from loratui.ui.sparse import SparseCompositor
from loratui.ui.widgets.header import Header
from loratui.ui.widgets.image_view import ImageView
from loratui.ui.widgets.key_bar import KeyBar

if TYPE_CHECKING:
    from loratui.ui.app import LoratuiApp


class Room(Screen[None]):
    """One of the six screens."""

    ACTIONS: ClassVar[tuple[Action, ...]] = ()
    HORIZONTAL_BREAKPOINTS = [
        (0, "-narrow"),
        (100, "-normal"),
        (160, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-tall")]

    DEFAULT_CSS = """
    Room { background: $background; }
    Room .panel { border: round $faint; border-title-color: $muted; border-subtitle-color: $muted;
                  padding: 0 1; }
    Room .panel:focus-within, Room .panel:focus { border: round $accent; border-title-color: $accent; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._compositor = SparseCompositor()
        self._following = False

    @property
    def studio(self) -> LoratuiApp:
        """The app."""
        return cast("LoratuiApp", self.app)

    def compose(self) -> ComposeResult:
        """Header, the room's own body, footer."""
        yield Header()
        yield from self.body()
        yield KeyBar()

    def body(self) -> ComposeResult:
        """The widgets between header and footer."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Follow the app's state, once: Textual calls this for each class, and rooms call it first."""
        if self._following:
            return
        self._following = True
        self.studio.state_changed.subscribe(self, self.follow, immediate=True)
        for what in ("project", "scan", "runs", "run", "machine"):
            self.follow(what)

    def follow(self, what: str) -> None:
        """Something the app knows has changed: project, scan, runs, run, or machine."""

    def on_screen_suspend(self) -> None:
        """A dialog covers the room: sixel pictures would shine through it."""
        self._redraw_pictures()

    def on_screen_resume(self) -> None:
        """The dialog has gone."""
        self._redraw_pictures()
        for what in ("scan", "runs", "run", "machine"):
            self.follow(what)

    def _redraw_pictures(self) -> None:
        for view in self.query(ImageView):
            view.again()

    def leave(self) -> None:
        """Called before the room is left or the app ends: save what is unsaved, at once."""
