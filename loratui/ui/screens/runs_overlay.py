"""The losses of several runs in one plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from loratui.runs.state import RunState
from loratui.ui import figures, text
from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.overlay_plot import MOST, OverlayPlot, tints
from loratui.ui.widgets.plot import Curve


class OverlayDialog(ModalScreen[None]):
    """Opens empty; `show` brings the curves as they are read."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,equals_sign", "dismiss(None)", "leave"),
        Binding("L", "log_scale", "log scale"),
    ]
    DEFAULT_CSS = """
    OverlayDialog { align: center middle; background: $background 60%; }
    OverlayDialog Vertical { width: 96%; height: 92%; background: $panel; border: round $accent;
        border-title-color: $accent; border-subtitle-color: $muted; padding: 0 1; }
    OverlayDialog #overlay-names { height: auto; max-height: 6; border-top: solid $faint; }
    """

    def __init__(self, states: Sequence[tuple[str, RunState]]) -> None:
        """Open for these runs.

        Args:
            states: id and state of each, the first on top.
        """
        super().__init__()
        self._states = states[:MOST]
        self._curves: Sequence[Curve] = ()

    def compose(self) -> ComposeResult:
        """Plot and names."""
        with Vertical() as box:
            box.border_title = "smoothed loss"
            box.border_subtitle = Content.assemble(
                ("L", "$accent"), " log scale  ", ("esc", "$accent"), " leaves"
            )
            yield OverlayPlot(id="overlay")
            yield Facts(self._names, id="overlay-names")

    def on_mount(self) -> None:
        """A line for each run."""
        self.query_one("#overlay-names").styles.height = len(self._states) + 1
        self.query_one(OverlayPlot).show(self._curves)

    def show(self, curves: Sequence[Curve]) -> None:
        """The curves, in the order of the runs."""
        self._curves = curves
        if self.is_mounted:
            self.query_one(OverlayPlot).show(curves)

    def action_log_scale(self) -> None:
        """Switch the scale."""
        plot = self.query_one(OverlayPlot)
        plot.log_scale = not plot.log_scale
        plot.redraw()

    def _names(self, width: int, height: int, colours: Palette) -> list[Row]:
        rows: list[Row] = []
        for (name, state), tint in zip(self._states, tints(colours), strict=False):
            rows.append(
                [
                    ("━━ ", tint),
                    (text.fit(text.plain(name), max(10, width - 40)), colours.text),
                    (figures.count(state.step).rjust(9), colours.muted),
                    (
                        f"  {figures.loss(state.loss_smooth)}  best {figures.loss(state.best_loss)}",
                        colours.text,
                    ),
                ]
            )
        return rows
