"""The pictures as a list: one line each, drawn when it is in sight."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len

from loratui.dataset.rows import PictureRow
from loratui.ui import figures, text
from loratui.ui.drawing import Row
from loratui.ui.signs import bucket_of, signs
from loratui.ui.theme import Palette
from loratui.ui.widgets.line_list import LineList

if TYPE_CHECKING:
    from loratui.ui.app import LoratuiApp

MOST_TOKENS = 75
"""What a CLIP text encoder takes without start and end."""
_WIDE = 56


class PictureList(LineList):
    """What the library shows, with marks, sizes, buckets, token counts and signs."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(self._picture, self._titles, "Reading the pictures…", id=id)
        self.prefix = ""
        """The folder that all pictures lie in: it tells nothing and takes room."""

    @property
    def _shown(self) -> list[PictureRow]:
        return cast("LoratuiApp", self.app).library.shown

    def refresh_pictures(self, paths: Container[Path]) -> None:
        """Paint some pictures again where they are in sight."""
        for index, row in enumerate(self._shown[self.in_sight], self.in_sight.start):
            if row.known.path in paths:
                self.refresh_row(index)

    def _columns(self, width: int) -> tuple[int, bool]:
        """Cells for the name, and whether bucket and crop have room."""
        wide = width >= _WIDE
        return max(8, width - (48 if wide else 22)), wide

    def _titles(self, _index: int, width: int, colours: Palette) -> Row:
        name, wide = self._columns(width)
        middle = "       size      bucket  crop" if wide else "       size"
        return [("   " + text.fit("name", name) + middle + "  tok  flags", colours.muted)]

    def _picture(self, index: int, width: int, colours: Palette) -> Row:
        shown = self._shown
        if index >= len(shown):
            return []
        picture = shown[index]
        app = cast("LoratuiApp", self.app)
        name, wide = self._columns(width)
        label = text.fit(text.plain(picture.rel.removeprefix(self.prefix)), name)
        row: Row = [("● " if picture.marked else "  ", colours.accent)]
        known = picture.known
        if known.code:
            words = text.crop(text.plain(known.message or known.code), max(0, width - name - 4))
            return [*row, (label, colours.red), ("  " + words, colours.red)]
        row += [(label, colours.text), (f"{known.width}×{known.height}".rjust(11), colours.muted)]
        bucket = bucket_of(picture, app.data_settings)
        if wide and bucket is not None:
            row.append((f"{bucket.width}×{bucket.height}".rjust(12), colours.muted))
            share = bucket.crop_share
            row.append((figures.percent(share).rjust(6), colours.amber if share > 0.2 else colours.muted))
        count = app.library.count(picture)
        over = count > MOST_TOKENS or not count
        row += [(str(count).rjust(5), colours.amber if over else colours.text), ("  ", None)]
        return row + self._flags(picture, width - sum(cell_len(piece) for piece, _ in row), wide, colours)

    def _flags(self, picture: PictureRow, room: int, wide: bool, colours: Palette) -> Row:
        row: Row = []
        if picture.stars:
            words = "★" * picture.stars if wide else f"★{picture.stars}"
            row += [(words, colours.accent), (" ", None)]
            room -= cell_len(words) + 1
        app = cast("LoratuiApp", self.app)
        for sign in signs(picture, app.data_settings, app.library.calm):
            words = text.plain(sign.words)
            words = words if wide and cell_len(words) <= room else sign.sign
            if cell_len(words) > room:
                break
            row += [(words, colours.muted if sign.calm else colours.amber), (" ", None)]
            room -= cell_len(words) + 1
        return row
