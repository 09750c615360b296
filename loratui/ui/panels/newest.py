"""The newest samples of the watched run, side by side."""

from __future__ import annotations

from textual.strip import Strip
from textual.widget import Widget

from loratui.runs.state import Sample
from loratui.ui import figures, text
from loratui.ui.drawing import strip
from loratui.ui.model import Watched
from loratui.ui.theme import palette
from loratui.ui.titles import set_title
from loratui.ui.widgets.thumbnails import Thumbnails

_GAP = 2


class NewestPanel(Widget, can_focus=True):
    """Half-block pictures with their prompts; the old ones stay until the new ones are decoded."""

    def __init__(self) -> None:
        super().__init__(id="newest", classes="panel")
        self.border_title = "newest samples"
        self._thumbnails = Thumbnails(self)
        self._samples: list[Sample] = []
        self._watched: Watched | None = None

    def update(self, watched: Watched | None) -> None:
        """Show the samples of the newest step that has any."""
        self._watched = watched
        samples = watched.state.samples if watched is not None else []
        step = max((s.step for s in samples), default=-1)
        newest = sorted((s for s in samples if s.step == step), key=lambda s: s.index)
        if newest != self._samples:
            self._samples = newest
            set_title(self, f"newest samples · step {figures.count(step)}" if newest else "newest samples")
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line across all pictures."""
        width, height = self.content_size
        base, colours = self.visual_style.rich_style, palette(self)
        if not self._samples:
            words = "No samples yet." if self._watched is not None else "Samples of a run appear here."
            return strip([(words, colours.muted)] if y == 0 else [], width, base)
        shown = max(1, min(len(self._samples), (width + _GAP) // (10 + _GAP)))
        each = (width - _GAP * (shown - 1)) // shown
        parts: list[Strip] = []
        for place, sample in enumerate(self._samples[:shown]):
            if place:
                parts.append(Strip.blank(_GAP, base))
            if y >= height - 1:
                label = f"{sample.index + 1} {text.plain(sample.prompt)}"
                parts.append(strip([(text.crop(label, each), colours.muted)], each, base))
            else:
                parts.append(self._picture_line(sample, each, height - 1, y))
        return Strip.join(parts).adjust_cell_length(width, base)

    def _picture_line(self, sample: Sample, columns: int, rows: int, y: int) -> Strip:
        base = self.visual_style.rich_style
        assert self._watched is not None
        made = self._thumbnails.get(self._watched.run.path / sample.path, columns, rows)
        if not made:
            words = "" if made is None else "cannot be read"
            return strip([(words if y == 0 else "", palette(self).muted)], columns, base)
        line = y - (rows - len(made)) // 2
        if not 0 <= line < len(made):
            return Strip.blank(columns, base)
        left = (columns - made[line].cell_length) // 2
        return Strip.join([Strip.blank(left, base), made[line]]).adjust_cell_length(columns, base)
