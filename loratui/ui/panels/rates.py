"""The learning rate of each group of weights."""

from __future__ import annotations

from loratui.runs.curves import Curves
from loratui.ui.panels.curve import CurvePanel
from loratui.ui.widgets.plot import Layer

_TINTS = ("accent", "amber", "green", "bold", "muted")


class RatesPanel(CurvePanel):
    """A line a group."""

    NAME = "rates"
    TITLE = "learning rate"

    def curves(self, curves: Curves) -> list[Layer]:
        """The first group on top."""
        pairs = zip(curves.lr.items(), _TINTS, strict=False)
        return [Layer(name or "all", self.points(series), tint) for (name, series), tint in pairs][::-1]
