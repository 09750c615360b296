"""The memory of the job over the run."""

from __future__ import annotations

from loratui.runs.curves import Curves
from loratui.ui.panels.curve import CurvePanel
from loratui.ui.widgets.plot import Layer


class MemoryPanel(CurvePanel):
    """GiB: allocated on the device, or resident for a run on the CPU."""

    NAME = "memory"
    TITLE = "memory, GiB"

    def curves(self, curves: Curves) -> list[Layer]:
        """One line."""
        return [Layer("job", self.points(curves.memory))]
