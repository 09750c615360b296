"""Room 5: the samples of the watched run, step by prompt."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content

from loratui.ui import figures, text
from loratui.ui.actions import Action, bindings
from loratui.ui.drawing import Row
from loratui.ui.screens.room import Room
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.image_view import ImageView
from loratui.ui.widgets.sample_grid import SampleGrid


class SamplesRoom(Room):
    """The grid on the left, the picture under the cursor large on the right."""

    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action(
            "samples.zoom",
            "z,enter",
            "zoom",
            "zoom",
            "The picture under the cursor on the whole page, or back",
        ),
        Action(
            "samples.now",
            "i",
            "sample_now",
            "sample now",
            "Draw the prompts of the running job after this step",
        ),
    )
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = """
    SamplesRoom #split { height: 1fr; }
    SamplesRoom #grid-panel { width: 13fr; }
    SamplesRoom #large-panel { width: 11fr; }
    SamplesRoom #words { height: 4; }
    SamplesRoom.-narrow #large-panel { display: none; }
    SamplesRoom.-zoom #grid-panel { display: none; }
    SamplesRoom.-zoom #large-panel { display: block; width: 1fr; }
    """

    def body(self) -> ComposeResult:
        """Grid and large picture."""
        with Horizontal(id="split"):
            with Vertical(id="grid-panel", classes="panel"):
                yield SampleGrid(id="grid")
            with Vertical(id="large-panel", classes="panel"):
                yield ImageView(id="large")
                yield Facts(self._words, id="words")

    def on_mount(self) -> None:
        """Start in the grid."""
        super().on_mount()
        self.query_one(SampleGrid).focus()

    def follow(self, what: str) -> None:
        """New samples."""
        if what == "graphics":
            self.query_one(ImageView).again()
        if what != "run" or not self.is_current:
            return
        grid, watched = self.query_one(SampleGrid), self.studio.watched
        if watched is None:
            grid.empty = (
                "No run yet. 3 chooses a preset; a training draws samples at its start and as it goes."
            )
            grid.show(self.studio.root, ())
            return
        grid.empty = "No samples yet: the first are drawn before the first step. i asks for some now."
        grid.show(watched.run.path, watched.state.samples)
        name = text.shorten(text.plain(watched.state.name or watched.run.id), 40)
        self.query_one("#grid-panel").border_title = Content(f"samples of {name}")
        self.refresh_bindings()

    @on(SampleGrid.Moved)
    def _moved(self) -> None:
        sample, watched = self.query_one(SampleGrid).current, self.studio.watched
        view, panel = self.query_one(ImageView), self.query_one("#large-panel")
        if sample is None or watched is None:
            view.show(None)
            panel.border_title = Content("picture")
        else:
            view.show(watched.run.path / sample.path)
            step = "base, before training" if sample.step == 0 else f"step {figures.count(sample.step)}"
            panel.border_title = Content(step)
        self.query_one("#words", Facts).redraw()

    def _words(self, width: int, height: int, colours: Palette) -> list[Row]:
        sample = self.query_one(SampleGrid).current
        if sample is None:
            return []
        rows: list[Row] = [
            [(part, colours.text)] for part in text.wrap(text.plain(sample.prompt), width, most=height - 1)
        ]
        seconds = f"   drawn in {sample.seconds:.1f} s" if sample.seconds else ""
        rows.append([("seed ", colours.muted), (str(sample.seed), colours.text), (seconds, colours.muted)])
        return rows

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Samples can be asked of a live run only."""
        if action == "sample_now":
            watched = self.studio.watched
            live = watched is not None and watched.live and not self.studio.replaying
            return True if live else None
        return super().check_action(action, parameters)

    def action_zoom(self) -> None:
        """The large picture alone, or the grid again."""
        self.toggle_class("-zoom")

    def action_sample_now(self) -> None:
        """Ask the job for samples."""
        self.studio.request("sample")
        self.notify("Asked for samples; they come after this step.")
