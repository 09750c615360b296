"""The loss of the watched run as a plot."""

from __future__ import annotations

from textual.content import Content

from loratui.ui.model import Watched
from loratui.ui.widgets.plot import Curve, Plot


class LossPanel(Plot, can_focus=True):
    """Raw and smoothed loss over the whole run, validation as rings."""

    def __init__(self) -> None:
        super().__init__(id="loss")
        self.add_class("panel")
        self.border_title = "loss"

    def update(self, watched: Watched | None) -> None:
        """Draw what is known of this run."""
        if watched is None or watched.curves is None:
            self.empty = "reading the curve…" if watched is not None else "no run yet"
            self.show(Curve(), Curve(), (), 1.0)
            return
        curves, state = watched.curves, watched.state
        self.empty = "the curve begins with the first step" if watched.live else "no step was trained"
        marks = list(zip(curves.validation.xs, curves.validation.ys, strict=True))
        span = max(float(state.steps), curves.loss.xs[-1] if len(curves.loss) else 1.0)
        raw, smooth = (Curve(series.xs, series.ys) for series in (curves.loss, curves.smooth))
        self.show(raw, smooth, marks, span)
        legend: list[str | tuple[str, str]] = [("⠶ ", "$accent"), "smooth  ", ("⠶ ", "$faint"), "raw"]
        if marks:
            legend += ["  ○ validation"]
        if self.log_scale:
            legend += [("  log", "$accent")]
        self.border_subtitle = Content.assemble(*legend)
