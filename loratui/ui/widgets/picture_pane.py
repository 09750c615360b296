"""The picture under the cursor, as the trainer will crop it, with what is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from loratui.config.colours import WHITE
from loratui.dataset.framing import kept, with_box
from loratui.dataset.rows import PictureRow
from loratui.ui import figures, text
from loratui.ui.drawing import Row, whole
from loratui.ui.signs import bucket_of, signs
from loratui.ui.theme import Palette
from loratui.ui.titles import set_title
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.image_view import ImageView

if TYPE_CHECKING:
    from loratui.ui.app import LoratuiApp


SIGHTS = ("the picture", "as trained", "as trained, masked parts tinted")


class PicturePane(Vertical):
    """Preview above, figures and findings below."""

    DEFAULT_CSS = """
    PicturePane { height: 1fr; }
    PicturePane #facts { height: 4; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.row: PictureRow | None = None
        self.sight = 0
        """Index into `SIGHTS`: what of a picture is shown."""

    def compose(self) -> ComposeResult:
        """Picture and figures."""
        yield ImageView(id="preview")
        yield Facts(self._facts, id="facts")

    def show(self, row: PictureRow | None) -> None:
        """Show a picture, or why it cannot be shown."""
        self.row = row
        view = self.query_one(ImageView)
        name = text.plain(row.name) if row is not None else "picture"
        set_title(self, text.shorten(name, max(12, self.size.width - 6)))
        if row is None or row.known.code:
            view.empty = "" if row is None else f"{row.known.message} d moves it to the trash."
            view.show(None)
        else:
            self._show(view, row)
        self._say_sight()
        self.redraw()

    def _show(self, view: ImageView, row: PictureRow) -> None:
        from loratui.ui.preview import Shown

        data = cast("LoratuiApp", self.app).data_settings
        bucket = bucket_of(row, data)
        # without the box: moving it decodes nothing
        turn, stamp = with_box(row.frame, None), row.known.mtime_ns
        if self.sight and bucket is not None:
            mask = row.mask if self.sight == 2 else None
            view.show(row.known.path, shown=Shown(turn, bucket, mask, stamp, data.paper))
        else:
            box = kept(bucket) if bucket is not None else None
            view.show(row.known.path, box, shown=Shown(turn, stamp=stamp, paper=data.paper))

    def turn_sight(self) -> None:
        """The picture, what the trainer sees of it, the same with what its mask leaves out tinted."""
        masked = self.row is not None and self.row.mask is not None
        self.sight = (self.sight + 1) % (3 if masked else 2)
        self.show(self.row)

    @on(ImageView.Zoomed)
    def _say_sight(self) -> None:
        from loratui.ui.preview import ZOOMS

        view = self.query_one(ImageView)
        parts = [SIGHTS[self.sight]] if self.sight else []
        data = cast("LoratuiApp", self.app).data_settings
        parts += [f"on {data.background}"] if self.sight and data.paper != WHITE else []
        parts += [f"{ZOOMS[view.zoom]:g}×"] if view.zoom else []
        set_title(self, " · ".join(parts), below=True)

    def redraw(self) -> None:
        """Figures or findings are others."""
        self.query_one("#facts", Facts).redraw()

    def again(self) -> None:
        """The terminal can do more now."""
        self.query_one(ImageView).again()

    def _facts(self, width: int, height: int, colours: Palette) -> list[Row]:
        row, app = self.row, cast("LoratuiApp", self.app)
        if row is None:
            return []
        known, bucket = row.known, bucket_of(row, app.data_settings)
        groups: list[Row] = [[(f"{known.width}×{known.height}", colours.text)]]

        def add(name: str, value: str, amber: bool = False) -> None:
            groups.append([(f"{name} ", colours.muted), (value, colours.amber if amber else colours.text)])

        if bucket is not None:
            add("bucket", f"{bucket.width}×{bucket.height}")
            add("crop", figures.percent(bucket.crop_share), bucket.crop_share > 0.2)
            if bucket.upscale > 1.005:
                add("enlarged", f"{bucket.upscale:.1f}×", bucket.upscale >= 1.5)
        if row.weight != 1:
            add("weight", f"{row.weight:g}")
        if row.stars:
            groups.append([("★" * row.stars, colours.accent)])
        if row.repeats not in (None, 1):
            add("repeats", str(row.repeats))
        add("", figures.size(known.size))
        if row.score is not None:
            add("score", f"{row.score:.2f}")
        if row.sharpness is not None:
            add("sharp", f"{row.sharpness:.2f}", row.blur)
        rows = [whole(groups if known.width else groups[1:], width, 2)]
        for sign in signs(row, app.data_settings, app.library.calm):
            tint = colours.muted if sign.calm else colours.red if row.known.code else colours.amber
            rows.append([(sign.sign + " ", tint), (text.crop(text.plain(sign.sentence), width - 2), tint)])
        return rows
