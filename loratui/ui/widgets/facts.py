"""A few lines of facts, drawn by a function: the small change of panels."""

from __future__ import annotations

from collections.abc import Callable

from loratui.ui.drawing import Row
from loratui.ui.theme import Palette
from loratui.ui.widgets.canvas import Canvas


class Facts(Canvas):
    """Draws what a function says; `redraw` asks it again."""

    def __init__(
        self,
        tell: Callable[[int, int, Palette], list[Row]],
        *,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._tell = tell

    def draw(self, width: int, height: int, colours: Palette) -> list[Row]:
        """The lines."""
        return self._tell(width, height, colours)
