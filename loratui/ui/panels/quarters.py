"""The loss by quarter of the timesteps: the plain curve is mostly which timesteps were drawn."""

from __future__ import annotations

from loratui.runs.curves import Curves
from loratui.ui.panels.curve import CurvePanel
from loratui.ui.widgets.plot import Layer

_QUARTERS = (("noisy", "amber"), ("¾", "bold"), ("½", "accent"), ("clean", "green"))


class QuartersPanel(CurvePanel):
    """Four lines, from nearly clean to nearly pure noise."""

    NAME = "quarters"
    TITLE = "loss by timestep"
    EMPTY = "told every 50 steps"

    def curves(self, curves: Curves) -> list[Layer]:
        """Noisy below, clean on top."""
        pairs = zip(_QUARTERS, reversed(curves.quarters), strict=True)
        return [Layer(name, self.points(series), tint) for (name, tint), series in pairs]
