"""What the panels of curves share: axis, window, smoothing, legend, the values under the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.content import Content

from loratui.runs.curves import Curves
from loratui.runs.series import Series, Smoothed
from loratui.ui import figures, text
from loratui.ui.charts import ChartView
from loratui.ui.model import Watched
from loratui.ui.widgets.plot import Axis, Curve, Layer, Plot
from loratui.ui.widgets.plot_axis import round_up

WINDOW_S = 600.0


class CurvePanel(Plot, can_focus=True):
    """One plot of the monitor; subclasses say which curves it has."""

    NAME: ClassVar[str] = ""
    TITLE: ClassVar[str] = ""
    EMPTY: ClassVar[str] = "nothing was measured yet"

    def __init__(self) -> None:
        super().__init__(id=self.NAME)
        self.add_class("panel")
        self.border_title = self.TITLE
        self._smoothed: dict[tuple[str, bool], Smoothed] = {}
        self._window = False
        self._by_time = False
        self._smoothing = 0.0

    def curves(self, curves: Curves) -> list[Layer]:
        """The layers, the lowest first."""
        raise NotImplementedError

    def marks_of(self, curves: Curves) -> Series | None:
        """Points to be drawn as rings."""
        return None

    def update(self, watched: Watched | None, view: ChartView) -> None:
        """Draw what is known of this run."""
        self.log_scale = self.NAME in view.log
        if watched is None or watched.curves is None:
            self.empty = "reading the curve…" if watched is not None else "no run yet"
            self.show((), (), Axis())
            self.entitle(Content(self.TITLE), Content(""))
            return
        curves = watched.curves
        self.empty = self.EMPTY
        self._window = view.window or curves.partial
        self._by_time = self._window or view.axis == "time"
        self._smoothing = view.smoothing
        layers = self.curves(curves)
        marks = self.marks_of(curves)
        rings: list[tuple[float, float]] = []
        if marks is not None and len(marks):
            seen = marks.recent if self._window else marks
            rings = list(zip(seen.ts if self._by_time else seen.xs, seen.ys, strict=True))
        self.show(layers, rings, self._axis(watched, curves, view))
        title = self.TITLE
        if self._window:
            title += f" · last {WINDOW_S / 60:.0f} min"
        if curves.partial:
            title += f" · reading all, {figures.percent(watched.read_share)}"
        self.entitle(Content(title))
        self._rings = bool(rings)
        self.after_cursor()

    def points(self, series: Series) -> Curve:
        """The points of a series as they are to be shown."""
        return Curve.of(series.recent if self._window else series, self._by_time)

    def smooth(self, name: str, series: Series) -> Curve:
        """The smoothed points of a series."""
        key = (name, self._window)
        kept = self._smoothed.get(key)
        if kept is None or kept.factor != self._smoothing:
            kept = self._smoothed[key] = Smoothed(self._smoothing)
        return Curve.line(kept.follow(series.recent if self._window else series), self._by_time)

    def _axis(self, watched: Watched, curves: Curves, view: ChartView) -> Axis:
        state = watched.state
        newest = curves.loss if len(curves.loss) else curves.memory
        last_t = newest.ts[-1] if len(newest) else curves.started_at
        if self._window:  # moves on in eighths, so that not every point repaints the plot
            part = WINDOW_S / 8
            edge = (last_t // part + 1) * part
            return Axis("clock", edge - WINDOW_S - part, WINDOW_S + part)
        if view.axis == "time":
            return Axis("time", curves.started_at, round_up(max(60.0, last_t - curves.started_at)))
        span = max(float(state.steps), newest.xs[-1] if len(newest) else 1.0, 1.0)
        if view.axis == "epoch" and state.epochs and state.steps:
            return Axis("epoch", 0.0, span, state.steps / state.epochs)
        return Axis("step", 0.0, span)

    def after_cursor(self) -> None:
        """Below the plot: the values under the cursor, else what the curves are."""
        told = self.under_cursor()
        if told:
            parts: list[str | tuple[str, str]] = [(told[0][1], "$warning")]
            for name, value in told[1:]:
                parts.append(f"  {text.plain(name)} {value}")
            self.entitle(subtitle=Content.assemble(*parts))
            return
        self.entitle(subtitle=Content.assemble(*self.legend(self.drawn_layers)))

    def legend(self, layers: Sequence[Layer]) -> list[str | tuple[str, str]]:
        """Names in the colours of the curves."""
        parts: list[str | tuple[str, str]] = []
        for layer in reversed(layers):
            if len(layer.curve.xs):
                parts += [("⠶ ", _COLOURS[layer.tint]), f"{text.crop(text.plain(layer.name), 14)}  "]
        if getattr(self, "_rings", False):
            parts.append("○ validation  ")
        if self.axis.kind in {"epoch", "time"}:
            parts.append(f"by {self.axis.kind}  ")
        if self.log_scale:
            parts.append(("log", "$accent"))
        if parts and isinstance(parts[-1], str):
            parts[-1] = parts[-1].rstrip()
        return parts


_COLOURS = {
    "accent": "$accent",
    "faint": "$faint",
    "amber": "$warning",
    "green": "$success",
    "red": "$error",
    "bold": "$foreground",
    "muted": "$muted",
}
