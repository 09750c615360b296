"""Small drawings out of characters: rows of styled text, bars, sparklines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

Row = list[tuple[str, Style | None]]
"""One line: pieces of text with their styles."""

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_PARTS = " ▏▎▍▌▋▊▉"


def strip(row: Iterable[tuple[str, Style | None]], width: int, base: Style) -> Strip:
    """`row` as a strip of exactly `width` cells over `base`."""
    made = Strip([Segment(text, base + style if style else base) for text, style in row if text])
    return made.adjust_cell_length(width, base)


@lru_cache(256)
def blank(width: int, style: Style) -> Strip:
    """`width` empty cells; one strip for all places, so that it is filtered and written out once."""
    return Strip.blank(width, style) if width else Strip([], 0)


def bar(share: float, width: int, fill: Style, track: Style) -> Row:
    """A thin progress bar of `width` cells: `━━━━╸────`."""
    halves = round(max(0.0, min(1.0, share)) * width * 2)
    full, half = divmod(halves, 2)
    rest = width - full - half
    return [("━" * full + "╸" * half, fill), ("─" * rest, track)]


def meter(share: float, width: int, fill: Style, track: Style) -> Row:
    """A solid meter of `width` cells with eighths at its end."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, part = divmod(eighths, 8)
    head = "█" * full + (_PARTS[part] if part else "")
    return [(head, fill), ("░" * (width - len(head)), track)]


def spark(values: Sequence[float], width: int, top: float = 1.0) -> str:
    """The newest `width` values as `▁▂▇█`, 0..`top`."""
    shown = values[-width:]
    marks = (_EIGHTHS[max(1, min(8, round(8 * value / top)))] if top else _EIGHTHS[1] for value in shown)
    return "".join(marks).rjust(width)


def whole(groups: Iterable[Row], width: int, gap: int = 3) -> Row:
    """The groups that fit into `width` cells, with gaps between; none is cut in half."""
    out: Row = []
    used = 0
    for group in groups:
        cost = sum(cell_len(piece) for piece, _ in group) + (gap if out else 0)
        if group and used + cost <= width:
            out += [(" " * gap, None), *group] if out else group
            used += cost
    return out


def changed_cells(old: Strip, new: Strip) -> tuple[int, int] | None:
    """First and one past the last cell in which two strips differ; None when they are equal.

    Strips with wide or zero-width characters are compared as a whole line.
    """
    if old == new:
        return None
    before, after = _cells(old), _cells(new)
    if before is None or after is None or len(before) != len(after):
        return 0, max(old.cell_length, new.cell_length)
    first = next((i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b), None)
    if first is None:
        return None
    last = len(before) - 1
    while before[last] == after[last]:
        last -= 1
    return first, last + 1


def _cells(made: Strip) -> list[tuple[str, Style | None]] | None:
    cells = [(char, style) for text, style, control in made if control is None for char in text]
    return cells if len(cells) == made.cell_length else None
