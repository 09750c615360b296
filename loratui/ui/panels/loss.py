"""The loss of the watched run as a plot."""

from __future__ import annotations

from collections.abc import Sequence

from loratui.runs.curves import Curves
from loratui.runs.series import Series
from loratui.ui.panels.curve import CurvePanel
from loratui.ui.widgets.plot import Layer


class LossPanel(CurvePanel):
    """Raw and smoothed loss, validation as rings."""

    NAME = "loss"
    TITLE = "loss"
    EMPTY = "the curve begins with the first step"

    def curves(self, curves: Curves) -> list[Layer]:
        """Raw below, smoothed on top."""
        return [
            Layer("raw", self.points(curves.loss), "faint", joined=False, spiky=True),
            Layer("smooth", self.smooth("loss", curves.loss)),
        ]

    def marks_of(self, curves: Curves) -> Series | None:
        """Validation."""
        return curves.validation

    def legend(self, layers: Sequence[Layer]) -> list[str | tuple[str, str]]:
        """With the factor."""
        parts = super().legend(layers)
        named = f"smooth {self._smoothing:g}  "
        return [named if part == "smooth  " else part for part in parts]
