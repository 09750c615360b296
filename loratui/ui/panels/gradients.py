"""The norm of the gradients before clipping."""

from __future__ import annotations

from loratui.runs.curves import Curves
from loratui.ui.panels.curve import CurvePanel
from loratui.ui.widgets.plot import Layer


class GradientsPanel(CurvePanel):
    """Raw and smoothed."""

    NAME = "gradients"
    TITLE = "gradient norm"

    def curves(self, curves: Curves) -> list[Layer]:
        """Raw below, smoothed on top."""
        return [
            Layer("raw", self.points(curves.grad_norm), "faint", joined=False, spiky=True),
            Layer("smooth", self.smooth("norm", curves.grad_norm)),
        ]
