"""One picture made ready for a room of cells, in whatever way the terminal draws; called in threads.

Scaling, palettes and sixels take up to a twentieth of a second: time in which no key is answered, if the
event loop did it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loratui.dataset.framing import WHOLE, Box
from loratui.ui import graphics, halfblock

if TYPE_CHECKING:
    from PIL.Image import Image
    from textual.strip import Strip


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how a picture is drawn.

    Attributes:
        width: cells.
        height: cells.
        kind: half blocks, kitty's protocol, or sixel.
        ability: of the terminal; px of a cell count where real pixels are drawn.
        outline: colour of a line around the box; None for no line.
    """

    width: int
    height: int
    kind: graphics.Kind
    ability: graphics.Graphics
    outline: tuple[int, int, int] | None = None

    @property
    def aspect(self) -> float:
        """Width of a cell over its height."""
        return 0.5 if self.kind == "halfblock" else self.ability.aspect


@dataclass(frozen=True, slots=True)
class Sharp:
    """A picture as it goes to the terminal; one of strips, png and sixel is filled.

    Attributes:
        columns: cells it takes.
        rows: cells it takes.
        strips: half blocks.
        png: for kitty; empty when the terminal has it already.
        sixel: the sequence.
    """

    columns: int
    rows: int
    strips: tuple[Strip, ...] = ()
    png: bytes = b""
    sixel: str = ""


def cells(image: Image, place: Place) -> tuple[int, int]:
    """Columns and rows that a picture takes there."""
    return halfblock.fitted(*image.size, place.width, place.height, place.aspect)


def sharp(image: Image, box: Box | None, part: Box, place: Place, stored: bool = False) -> Sharp:
    """The picture for a place.

    Args:
        image: what was decoded; when zoomed in, the part in sight.
        box: stays bright, the rest gets dark; in fractions of the whole picture.
        part: what `image` is of the whole, in fractions.
        place: where it goes.
        stored: whether the terminal has these very pixels already.
    """
    columns, rows = cells(image, place)
    ability = place.ability
    if place.kind == "tgp" and max(columns, rows) <= graphics.MAX_CELLS:
        if stored:
            return Sharp(columns, rows)
        width, height = columns * ability.cell_width, rows * ability.cell_height
        # the terminal enlarges it itself: px that the picture does not have would only cost time
        share = min(1.0, max(image.size) / max(width, height))
        size = max(1, round(width * share)), max(1, round(height * share))
        return Sharp(columns, rows, png=graphics.encode_png(_pixels(image, box, part, place, *size)))
    if place.kind == "sixel":
        # sixel bands are six px high: a picture that ends inside the last cell never scrolls the screen
        width, height = columns * ability.cell_width, rows * ability.cell_height // 6 * 6
        return Sharp(
            columns,
            rows,
            sixel=graphics.sixel(_pixels(image, box, part, place, width, height), width, height),
        )
    drawn = _pixels(image, box, part, place, columns, rows * 2)
    return Sharp(columns, rows, tuple(halfblock.strips(drawn, columns, rows)))


def _pixels(image: Image, box: Box | None, part: Box, place: Place, width: int, height: int) -> Image:
    """The picture in the px it takes on the screen, what lies outside the box dark."""
    from PIL import Image as Pillow

    from loratui.ui import preview

    image = image.convert("RGB").resize((width, height), Pillow.Resampling.LANCZOS)
    if box is None or (box == WHOLE and place.outline is None):
        return image
    box = preview.inside(box, part)
    image = preview.dimmed(image, box)
    if place.outline is not None:
        image = preview.outlined(image, box, place.outline, 1 if height <= 2 * place.height else 2)
    return image
