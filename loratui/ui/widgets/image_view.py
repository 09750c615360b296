"""One picture, as sharp as the terminal can draw it."""

from __future__ import annotations

from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.segment import Segment
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import get_current_worker

from loratui.errors import LoratuiError
from loratui.ui import graphics, halfblock, text
from loratui.ui.theme import palette

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[float, float, float, float]
"""left, top, right, bottom as shares of the picture."""

_PREVIEW_PX = 640
_idents = count(0x10_00_01)


@lru_cache(48)
def load(path: str, stamp: float, box: Box | None, side: int = _PREVIEW_PX) -> Image:
    """The picture as the trainer sees it, at most `side` px, what the crop cuts off darkened.

    Args:
        path: of the picture.
        stamp: its modification time, so that a changed picture is read again.
        box: the crop, None for all of it.
        side: longest side in px.
    """
    from PIL import Image as Pillow

    from loratui.dataset.pixels import open_rgb

    image = open_rgb(Path(path))
    image.thumbnail((side, side), Pillow.Resampling.LANCZOS)
    if box is None or box == (0.0, 0.0, 1.0, 1.0):
        return image
    left, top, right, bottom = box
    w, h = image.size
    edge = (round(left * w), round(top * h), round(right * w), round(bottom * h))
    dark = image.point(lambda value: value * 0.35)
    dark.paste(image.crop(edge), edge[:2])
    return dark


class ImageView(Widget):
    """Shows a picture file; decodes in a thread, and not before the cursor rests."""

    DEFAULT_CSS = "ImageView { height: 1fr; width: 1fr; }"

    class _Loaded(Message):
        def __init__(self, path: Path, image: Image | None, problem: str) -> None:
            super().__init__()
            self.path, self.image, self.problem = path, image, problem

    def __init__(self, empty: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.path: Path | None = None
        self.box: Box | None = None
        self.empty = empty
        self._image: Image | None = None
        self._strips: list[Strip] | None = None
        self._left = 0
        self._timer: Timer | None = None
        self._stored: dict[tuple[Path, float, int, int, Box | None], int] = {}

    def show(self, path: Path | None, box: Box | None = None, at_once: bool = False) -> None:
        """Show the picture at `path`, its crop `box` bright and the rest dark."""
        if (path, box) == (self.path, self.box) and self._image is not None and not at_once:
            return
        self.path, self.box = path, box
        if self._timer is not None:
            self._timer.stop()
        if path is None:
            self._image = None
            self._again()
        elif at_once:
            self._load()
        else:
            # decoding every picture a held-down key passes would leave the last one waiting
            self._timer = self.set_timer(0.04, self._load)

    def _load(self) -> None:
        if self.path is None:
            return
        path, box = self.path, self.box

        def work() -> None:
            try:
                image, problem = load(str(path), path.stat().st_mtime, box), ""
            except LoratuiError as error:
                image, problem = None, error.message
            except OSError as error:
                image, problem = None, str(error.strerror or error)
            if not get_current_worker().is_cancelled:
                self.post_message(self._Loaded(path, image, problem))

        self.run_worker(work, thread=True, exclusive=True, group="decode", exit_on_error=False)

    def on_image_view__loaded(self, message: _Loaded) -> None:
        """Paint what was decoded, if it is still wanted."""
        message.stop()
        if message.path != self.path:
            return
        self._image = message.image
        if message.image is None:
            self.empty = message.problem
        self._again()

    def on_resize(self) -> None:
        """Another size wants other cells."""
        self._again()

    def again(self) -> None:
        """Draw anew: the terminal can do more now, or a dialog has gone."""
        self._again()

    def _again(self) -> None:
        self._strips = None
        self.refresh()

    def on_unmount(self) -> None:
        """Free what the terminal stores."""
        for ident in self._stored.values():
            self._write(graphics.tgp_delete(ident))
        self._stored.clear()

    def _write(self, data: str) -> None:
        driver: Any = self.app._driver
        if driver is not None and not driver.is_headless:
            driver.write(data)

    def _make(self) -> list[Strip]:
        width, height = self.content_size
        if self._image is None or width <= 0 or height <= 0:
            return []
        ability: graphics.Graphics = getattr(self.app, "graphics", graphics.Graphics())
        hidden = self.app.screen is not self.screen  # a dialog lies over us
        kind = "halfblock" if hidden and ability.kind == "sixel" else ability.kind
        aspect = 0.5 if kind == "halfblock" else ability.aspect
        columns, rows = halfblock.fitted(*self._image.size, width, height, aspect)
        self._left = (width - columns) // 2
        top = (height - rows) // 2
        if kind == "tgp" and max(columns, rows) <= graphics.MAX_CELLS:
            made = graphics.tgp_strips(self._store(columns, rows, ability), columns, rows)
        elif kind == "sixel":
            made = self._sixel(columns, rows, top, ability)
        else:
            made = halfblock.strips(self._image, columns, rows)
        return [Strip([])] * top + made

    def _sixel(self, columns: int, rows: int, top: int, ability: graphics.Graphics) -> list[Strip]:
        assert self._image is not None
        region = self.content_region
        # sixel bands are six px high: a picture that ends inside the last cell never scrolls the screen
        height = rows * ability.cell_height // 6 * 6
        data = graphics.sixel(self._image, columns * ability.cell_width, height)
        return graphics.sixel_strips(data, region.x + self._left, region.y + top, columns, rows)

    def _store(self, columns: int, rows: int, ability: graphics.Graphics) -> int:
        """Upload the picture once per size; drawing it again costs only its placeholder cells."""
        assert self._image is not None and self.path is not None
        key = (self.path, self.path.stat().st_mtime if self.path.exists() else 0.0, columns, rows, self.box)
        if key not in self._stored:
            from PIL import Image as Pillow

            size = (columns * ability.cell_width, rows * ability.cell_height)
            sharp = self._image.resize(size, Pillow.Resampling.LANCZOS)
            if len(self._stored) >= 16:
                oldest = next(iter(self._stored))
                self._write(graphics.tgp_delete(self._stored.pop(oldest)))
            self._stored[key] = next(_idents)
            self._write(graphics.tgp_upload(self._stored[key], graphics.encode_png(sharp), columns, rows))
        return self._stored[key]

    def render_lines(self, crop: Region) -> list[Strip]:
        """Sixel data goes around the line filters: they would read it as text."""
        ability: graphics.Graphics = getattr(self.app, "graphics", graphics.Graphics())
        if ability.kind != "sixel" or self._image is None:
            return super().render_lines(crop)
        drawn = [self.render_line(y) for y in crop.line_range]
        whole = crop.x == 0 and crop.width >= self.content_size.width
        return drawn if whole else [line.crop(crop.x, crop.right) for line in drawn]

    def render_line(self, y: int) -> Strip:
        """One line of the picture, centred."""
        width, height = self.content_size
        base = self.visual_style.rich_style
        if self._strips is None:
            self._strips = self._make()
        if self._image is None:
            return self._notice(y, width, height)
        if y >= len(self._strips) or not self._strips[y].cell_length:
            return Strip.blank(width, base)
        body = self._strips[y]
        right = width - self._left - body.cell_length
        return Strip.join([Strip.blank(self._left, base), body, Strip.blank(max(0, right), base)])

    def _notice(self, y: int, width: int, height: int) -> Strip:
        wrapped = text.wrap(text.plain(self.empty), max(8, width - 4)) if self.empty else []
        first = max(0, (height - len(wrapped)) // 2)
        base = self.visual_style.rich_style
        if not first <= y < first + len(wrapped):
            return Strip.blank(width, base)
        words = wrapped[y - first]
        line = Segment(words.center(width)[:width], base + palette(self).muted)
        return Strip([line]).adjust_cell_length(width, base)
