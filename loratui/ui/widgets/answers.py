"""What captioners said about one picture, side by side where there is room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from rich.cells import cell_len

from loratui.captioners.protocol import Said
from loratui.dataset.tags import fold
from loratui.ui import text
from loratui.ui.drawing import Row
from loratui.ui.drawing import bar as drawn_bar
from loratui.ui.theme import Palette, palette
from loratui.ui.widgets.line_list import LineList

_COLUMN = 18
"""Cells a column needs at least."""
_BAR = 6


class Answers(LineList):
    """Prose wrapped, tags one a line with how sure the model is; scrolls when there is more.

    With several captioners, what only one of them says stands out.
    """

    def __init__(self, empty: str = "", *, id: str | None = None) -> None:
        super().__init__(self._draw_line, None, empty, id=id)
        self._said: Mapping[str, Said] = {}
        self._seconds: Mapping[str, float] = {}
        self._caption: str | None = None
        self._rows: list[Row] = []

    def show(
        self, said: Mapping[str, Said], seconds: Mapping[str, float] | None = None, caption: str | None = None
    ) -> None:
        """Show answers.

        Args:
            said: captioner -> its answer.
            seconds: captioner -> how long it took.
            caption: what would be written, shown above them; None leaves it out.
        """
        self._said, self._seconds, self._caption = said, seconds or {}, caption
        self._lay_out()
        self.show_rows(len(self._rows), 0)

    def on_resize(self) -> None:
        """Another width wraps otherwise."""
        self._lay_out()
        self.show_rows(len(self._rows))

    def _draw_line(self, index: int, width: int, colours: Palette) -> Row:
        return self._rows[index] if index < len(self._rows) else []

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width - 2
        colours = palette(self)
        self._rows = []
        if width < 8:
            return
        if self._caption is not None:
            self._rows.append([("would be written", colours.muted)])
            shown = text.lines(self._caption) if self._caption else ["nothing"]
            self._rows += [[(part, colours.bold)] for line in shown for part in text.wrap(line, width)]
            self._rows.append([])
        if not self._said:
            return
        words = [_words(answer) for answer in self._said.values()]
        common = set.intersection(*words) if len(words) > 1 else set[str]()
        across = max(1, min(len(self._said), (width + 2) // (_COLUMN + 2)))
        each = (width - 2 * (across - 1)) // across
        named = list(self._said.items())
        for first in range(0, len(named), across):
            columns = [
                self._column(name, answer, each, common, len(named) > 1, colours)
                for name, answer in named[first : first + across]
            ]
            for cells in zip_longest(*columns, fillvalue=None):
                self._rows.append(_beside(cells, each))
            self._rows.append([])
        self._rows.pop()

    def _column(
        self, name: str, answer: Said, width: int, common: set[str], several: bool, colours: Palette
    ) -> list[Row]:
        seconds = self._seconds.get(name)
        took = f"{seconds:.2f} s" if seconds is not None else ""
        head = text.fit(text.plain(name), max(4, width - len(took) - 1))
        rows: list[Row] = [[(head, colours.accent), (" " + took, colours.muted)]]
        if answer.error:
            rows += [[(part, colours.red)] for part in text.wrap(text.plain(answer.error), width)]
        if answer.text:
            for part in text.wrap(text.plain(answer.text), width):
                rows.append(_marked(part, common, colours) if several else [(part, colours.text)])
        for tag in answer.tags:
            alike = fold(tag.text) in common
            tint = colours.muted if several and alike else colours.text
            rows.append(_tag(tag.text, tag.confidence, width, tint, colours))
        if len(rows) == 1:
            rows.append([("said nothing", colours.muted)])
        return rows


def _tag(name: str, sure: float, width: int, tint: object, colours: Palette) -> Row:
    """The tag, and how sure the model is of it."""
    label = text.plain(name)
    if sure < 0:
        return [(text.crop(label, width), tint)]  # type: ignore[list-item]
    number = f" {sure:.2f}"
    bar = _BAR if width >= 26 else 0  # the tag itself comes first
    room = width - len(number) - (bar + 1 if bar else 0)
    row: Row = [(text.pad(text.crop(label, room), room), tint)]  # type: ignore[list-item]
    if bar:
        level = colours.green if sure >= 0.5 else colours.amber
        row += [(" ", None), *drawn_bar(sure, bar, level, colours.track)]
    return [*row, (number, colours.muted)]


def _words(answer: Said) -> set[str]:
    """Words of the prose and whole tags, folded."""
    found = {word.strip(".,;:!?") for word in fold(answer.text).split()}
    return (found | {fold(tag.text) for tag in answer.tags}) - {""}


def _marked(line: str, common: set[str], colours: Palette) -> Row:
    """A line whose words that all captioners say are quiet."""
    row: Row = []
    for number, word in enumerate(line.split(" ")):
        alike = fold(word).strip(".,;:!?") in common
        row.append(((" " if number else "") + word, colours.muted if alike else colours.text))
    return row


def _beside(cells: Sequence[Row | None], each: int) -> Row:
    """Several rows next to each other, each as wide as its column."""
    out: Row = []
    for number, cell in enumerate(cells):
        if number:
            out.append(("  ", None))
        row = cell or []
        used = sum(cell_len(piece) for piece, _ in row)
        out += [*row, (" " * max(0, each - used), None)]
    return out
