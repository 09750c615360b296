"""One picture, as sharp as the terminal can draw it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.color import Color
from rich.segment import Segment
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import get_current_worker

from loratui.dataset.framing import PLAIN, WHOLE, Box, Frame, with_box
from loratui.errors import LoratuiError
from loratui.ui import graphics, text
from loratui.ui.painted import AsDrawn, Joined
from loratui.ui.sharp import Place, Sharp, cells, sharp
from loratui.ui.theme import palette

if TYPE_CHECKING:
    from PIL.Image import Image

    from loratui.ui.app import LoratuiApp
    from loratui.ui.preview import Shown

_idents = count(0x10_00_01)
_CENTRE = (0.5, 0.5)
_PAN = 0.25
"""Share of what is in sight that one step moves by."""
_RECENT = 3


_one_at_a_time = threading.Lock()
_Made = tuple[tuple[Any, ...], Sharp]


def _decoded(path: Path, shown: Shown | None, part: Box) -> tuple[Image | None, str, float]:
    """In a thread: the picture or why there is none, and the time of its file."""
    from loratui.ui import preview

    what = shown or preview.AS_IT_IS
    try:
        stamp = path.stat().st_mtime
        made = preview.load(path, what) if part == WHOLE else preview.load_part(path, what, part)
    except LoratuiError as error:
        return None, error.message, 0.0
    except OSError as error:
        return None, str(error.strerror or error), 0.0
    return made, "", stamp


class ImageView(Widget):
    """Shows a picture file; decodes in a thread, and not before the cursor rests."""

    DEFAULT_CSS = "ImageView { height: 1fr; width: 1fr; }"

    class Zoomed(Message):
        """Another part of the picture is in sight."""

    class _Loaded(Message):
        def __init__(
            self, asked: tuple[Any, ...], image: Image | None, problem: str, stamp: float, made: _Made | None
        ) -> None:
            super().__init__()
            self.asked, self.image, self.problem = asked, image, problem
            self.stamp, self.made = stamp, made

    def __init__(self, empty: str = "", *, outlined: bool = False, id: str | None = None) -> None:
        """Begin with nothing.

        Args:
            empty: said while there is no picture.
            outlined: whether a line runs around the box.
            id: DOM id.
        """
        super().__init__(id=id)
        self.path: Path | None = None
        self.shown: Shown | None = None
        self.box: Box | None = None
        self.empty = empty
        self.zoom = 0
        """Index into `preview.ZOOMS`."""
        self._outlined = outlined
        self._centre = _CENTRE
        self._part: Box = WHOLE
        self._shape = (1, 1)
        """Of the whole picture, in whatever px; only its shape counts."""
        self._image: Image | None = None
        self._painted: tuple[Box | None, Box] = (None, WHOLE)
        """Box and part that belong to the picture on the screen."""
        self._stamp = 0.0
        self._made: _Made | None = None
        """The picture as it is drawn, made by the thread that decoded it, and for what."""
        self._strips: list[Strip] | None = None
        self._recent: OrderedDict[tuple[Any, ...], tuple[Image, float, _Made]] = OrderedDict()
        """The last few as they were drawn, to go back and forth between them at once."""
        self._variants = False
        self._left = 0
        self._timer: Timer | None = None
        self._stored: dict[tuple[Any, ...], int] = {}
        self._styles_cache = AsDrawn()

    @property
    def image(self) -> Image | None:
        """What was decoded last; when zoomed in, the part in sight."""
        return self._image

    def show(
        self, path: Path | None, box: Box | None = None, at_once: bool = False, shown: Shown | None = None,
        keep_zoom: bool = False,
    ) -> None:  # fmt: skip
        """Show a picture.

        Args:
            path: of its file; None for none.
            box: stays bright, the rest gets dark; in fractions of what is shown.
            at_once: do not wait for the cursor to rest.
            shown: what of it; None for the picture as it lies there.
            keep_zoom: stay on the same part: the picture is a variant of the one before.
        """
        same = (path, shown) == (self.path, self.shown) and self._image is not None
        if same:
            if box != self.box:  # moving a box decodes nothing
                self.box = box
                self._painted = (box, self._painted[1])
                self._again()
            return
        if path != self.path and not keep_zoom:
            self._fit()
        self.path, self.shown, self.box, self._variants = path, shown, box, keep_zoom
        if keep_zoom and self._take_recent():
            return
        if path is None:
            self._image = None
            self._again()
        self._load_soon(at_once)

    def _take_recent(self) -> bool:
        """Show a variant that was drawn a moment ago, in this very frame; whether there is one."""
        found = self._recent.get((self._asked(), self._place(), self.box))
        if found is None:
            return False
        if self._timer is not None:
            self._timer.stop()
        self.workers.cancel_group(self, "decode")
        self._image, self._stamp, self._made = found
        self._painted = (self.box, self._part)
        self._again()
        return True

    def show_framed(self, path: Path | None, frame: Frame = PLAIN) -> None:
        """Show a picture turned and mirrored, and dark where a crop by hand cuts it off."""
        from loratui.ui.preview import Shown

        paper = cast("LoratuiApp", self.app).data_settings.paper
        self.show(path, frame.box, shown=Shown(with_box(frame, None), paper=paper))

    def _load_soon(self, at_once: bool = False) -> None:
        if self._timer is not None:
            self._timer.stop()
        if self.path is None or at_once:
            self._load()
        else:
            # decoding every picture a held-down key passes would leave the last one waiting
            self._timer = self.set_timer(0.04, self._load)

    def _asked(self) -> tuple[Any, ...]:
        return self.path, self.shown, self._part

    def _load(self) -> None:
        if self.path is None:
            return
        path, shown, asked, place = self.path, self.shown, self._asked(), self._place()
        painted = (self.box, self._part)

        def work() -> None:
            worker = get_current_worker()
            with _one_at_a_time:  # a photo takes a hundred megabytes while it is decoded
                if worker.is_cancelled:
                    return
                image, problem, stamp = _decoded(path, shown, painted[1])
                made = None
                if image is not None and place is not None and not worker.is_cancelled:
                    stored = (path, stamp, shown, *cells(image, place), *painted) in self._stored
                    made = ((place, *painted), sharp(image, *painted, place, stored))
            if not worker.is_cancelled:
                self.post_message(self._Loaded(asked, image, problem, stamp, made))

        self.run_worker(work, thread=True, exclusive=True, group="decode", exit_on_error=False)

    def on_image_view__loaded(self, message: _Loaded) -> None:
        """Paint what was decoded, if it is still wanted."""
        message.stop()
        if message.asked != self._asked():
            return
        self._image, self._stamp, self._made = message.image, message.stamp, message.made
        self._painted = (self.box, self._part)
        if self._variants and message.image is not None and message.made is not None:
            self._recent[message.asked, message.made[0][0], self.box] = (
                message.image, message.stamp, message.made,
            )  # fmt: skip
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        if message.image is None:
            self.empty = message.problem
        elif self._part == WHOLE:
            self._shape = message.image.size
        self._again()

    # --- zoom -------------------------------------------------------------------------------------------

    def zoom_by(self, by: int) -> None:
        """Nearer (1) or farther (-1)."""
        from loratui.ui.preview import ZOOMS

        if self._image is not None:
            self.zoom = max(0, min(len(ZOOMS) - 1, self.zoom + by))
            self._look()

    def pan(self, right: int, down: int) -> None:
        """Move what is in sight, while zoomed in."""
        left, top, end, bottom = self._part
        x, y = self._centre
        self._centre = (x + right * _PAN * (end - left), y + down * _PAN * (bottom - top))
        self._look()

    def fit(self) -> None:
        """The whole picture again."""
        self.zoom = 0
        self._look()

    def _fit(self) -> None:
        self.zoom, self._centre, self._part = 0, _CENTRE, WHOLE

    def _look(self) -> None:
        """Find out what is in sight, and load it when it is something else."""
        from loratui.ui.preview import ZOOMS, window

        width, height = self.content_size
        if self.path is None or width <= 0 or height <= 0:
            return
        before = self._part
        if self.zoom == 0:
            self._fit()
        else:
            place = self._place()
            assert place is not None
            room = (width * place.aspect, float(height))
            self._part, self._centre = window(self._shape, room, ZOOMS[self.zoom], self._centre)
        if self._part != before:
            self._load_soon(at_once=True)
        self.post_message(self.Zoomed())

    def on_resize(self) -> None:
        """Another size wants other cells."""
        self._again()
        if self.zoom:
            self._look()

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

    def _place(self) -> Place | None:
        """Where and how the picture is drawn now; None where there is no room."""
        width, height = self.content_size
        if width <= 0 or height <= 0:
            return None
        ability: graphics.Graphics = getattr(self.app, "graphics", graphics.Graphics())
        hidden = self.app.screen is not self.screen  # a dialog lies over us
        kind: graphics.Kind = "halfblock" if hidden and ability.kind == "sixel" else ability.kind
        outline = None
        if self._outlined:
            red, green, blue = Color.parse(str(self.app.theme_variables["accent"])).get_truecolor()
            outline = (red, green, blue)
        return Place(width, height, kind, ability, outline)

    def _make(self) -> list[Strip]:
        place, image = self._place(), self._image
        if image is None or place is None:
            return []
        made, self._made = self._made, None
        stored = self._key(cells(image, place))
        if made is None or made[0] != (place, *self._painted):
            done = sharp(image, *self._painted, place, stored in self._stored)
        else:
            done = made[1]
        self._left = (place.width - done.columns) // 2
        top = (place.height - done.rows) // 2
        return [Strip([])] * top + self._lines(done, place, stored, top)

    def _lines(self, done: Sharp, place: Place, stored: tuple[Any, ...], top: int) -> list[Strip]:
        if done.strips:
            return list(done.strips)
        if done.sixel:
            region = self.content_region
            at = region.x + self._left, region.y + top
            return graphics.sixel_strips(done.sixel, *at, done.columns, done.rows)
        if stored not in self._stored:
            if not done.png:  # it was there when this was begun, and is not any more
                assert self._image is not None
                done = sharp(self._image, *self._painted, place)
            self._store(stored, done)
        return graphics.tgp_strips(self._stored[stored], done.columns, done.rows)

    def _key(self, size: tuple[int, int]) -> tuple[Any, ...]:
        """What the terminal stores: this picture in so many cells."""
        return (self.path, self._stamp, self.shown, *size, *self._painted)

    def _store(self, key: tuple[Any, ...], done: Sharp) -> None:
        """Upload the picture once per size; drawing it again costs only its placeholder cells."""
        if len(self._stored) >= 16:
            oldest = next(iter(self._stored))
            self._write(graphics.tgp_delete(self._stored.pop(oldest)))
        self._stored[key] = next(_idents)
        self._write(graphics.tgp_upload(self._stored[key], done.png, done.columns, done.rows))

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
        return Joined([Strip.blank(self._left, base), body, Strip.blank(max(0, right), base)])

    def _notice(self, y: int, width: int, height: int) -> Strip:
        wrapped = text.wrap(text.plain(self.empty), max(8, width - 4)) if self.empty else []
        first = max(0, (height - len(wrapped)) // 2)
        base = self.visual_style.rich_style
        if not first <= y < first + len(wrapped):
            return Strip.blank(width, base)
        words = wrapped[y - first]
        line = Segment(words.center(width)[:width], base + palette(self).muted)
        return Strip([line]).adjust_cell_length(width, base)
