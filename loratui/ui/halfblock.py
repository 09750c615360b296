"""Pictures as half blocks: two pixels a cell, in every terminal that has colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.strip import Strip

from loratui.ui.painted import Blocks

if TYPE_CHECKING:
    from PIL.Image import Image

_COARSE = bytes(value & 0xFC for value in range(256))
"""Colours in steps of four: nobody sees it, and more cells are equal to their neighbours."""


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
    data = small.tobytes().translate(_COARSE)
    lines = [data[at : at + columns * 3] for at in range(0, len(data), columns * 3)]
    return [Blocks(lines[2 * y], lines[2 * y + 1]) for y in range(rows)]
