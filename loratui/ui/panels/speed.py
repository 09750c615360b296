"""Seconds a step, and how many of them the data and the optimizer took."""

from __future__ import annotations

from loratui.runs.curves import Curves
from loratui.ui.panels.curve import CurvePanel
from loratui.ui.widgets.plot import Layer


class SpeedPanel(CurvePanel):
    """Raw and smoothed seconds a step over the smoothed parts."""

    NAME = "speed"
    TITLE = "seconds a step"

    def curves(self, curves: Curves) -> list[Layer]:
        """Parts below, the whole on top."""
        layers = [Layer("raw", self.points(curves.speed), "faint", joined=False, spiky=True)]
        for part, name, tint in (("optimizer", "optimizer", "muted"), ("data", "data", "amber")):
            if part in curves.parts:
                layers.append(Layer(name, self.smooth(part, curves.parts[part]), tint, spiky=True))
        return [*layers, Layer("step", self.smooth("speed", curves.speed), spiky=True)]
