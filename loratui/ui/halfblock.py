"""Pictures as half blocks: two pixels a cell, in every terminal that has colours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

if TYPE_CHECKING:
    from PIL.Image import Image

RGB = tuple[int, int, int]


@lru_cache(16384)
def _style(upper: RGB, lower: RGB) -> Style:
    return Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))


def fitted(width: int, height: int, columns: int, rows: int, aspect: float = 0.5) -> tuple[int, int]:
    """Cells (columns, rows) that a picture of `width` x `height` px takes within a room of cells.

    Args:
        width: of the picture, px.
        height: of the picture, px.
        columns: of the room.
        rows: of the room.
        aspect: width of a cell over its height.
    """
    if width <= 0 or height <= 0 or columns <= 0 or rows <= 0:
        return 0, 0
    scale = min(columns * aspect / width, rows / height)
    return max(1, min(columns, round(width * scale / aspect))), max(1, min(rows, round(height * scale)))


def strips(image: Image, columns: int, rows: int) -> list[Strip]:
    """`image` scaled to `columns` x `rows` cells."""
    from PIL import Image as Pillow

    if columns <= 0 or rows <= 0:
        return []
    small = image.convert("RGB").resize((columns, rows * 2), Pillow.Resampling.LANCZOS)
    data = small.tobytes()
    stride = columns * 3
    return [_strip(data[2 * y * stride :], data[(2 * y + 1) * stride :], columns) for y in range(rows)]


def _strip(upper: Sequence[int], lower: Sequence[int], columns: int) -> Strip:
    segments: list[Segment] = []
    run, previous = 0, None
    for x in range(0, columns * 3, 3):
        pair = (
            (upper[x] & 0xFC, upper[x + 1] & 0xFC, upper[x + 2] & 0xFC),
            (
                lower[x] & 0xFC,
                lower[x + 1] & 0xFC,
                lower[x + 2] & 0xFC,
            ),
        )
        if pair == previous:
            run += 1
            continue
        if previous is not None:
            segments.append(Segment("▀" * run, _style(*previous)))
        run, previous = 1, pair
    if previous is not None:
        segments.append(Segment("▀" * run, _style(*previous)))
    return Strip(segments, columns)
