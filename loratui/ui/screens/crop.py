"""One picture, turned, mirrored and cut by hand, with what the trainer makes of it beside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content

from loratui.dataset.buckets import Size, buckets_of
from loratui.dataset.cropping import Crop
from loratui.dataset.framing import Box, Frame, with_box
from loratui.dataset.masks import Mask
from loratui.dataset.rows import PictureRow
from loratui.errors import LoratuiError
from loratui.ui import figures, text
from loratui.ui.actions import Action, bindings, key_name
from loratui.ui.drawing import Row
from loratui.ui.screens.room import Room
from loratui.ui.theme import Palette
from loratui.ui.widgets.facts import Facts
from loratui.ui.widgets.image_view import ImageView

if TYPE_CHECKING:
    from loratui.ui.watching import Gone, Post

STEP = 0.05
"""Share of the box's own side that a key moves it by."""
FINE = 0.005
GROW = 1.08
FINE_GROW = 1.01
Keep = Callable[[Frame, bool | None], None]
"""(frame, whether the alpha channel is the mask; None: as before)."""


class CropRoom(Room):
    """The picture with a bright box in a bucket's shape; the figures of what is trained follow each key."""

    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("crop.keep", "enter", "keep", "keep", "Keep this crop: one step of undo", display="enter"),
        Action("crop.leave", "escape,q", "leave_it", "leave", "Leave the picture as it was"),
        Action("crop.left", "left,h", f"move(-{STEP}, 0)", "move", "Move the crop left", display="hjkl"),
        Action("crop.down", "down,j", f"move(0, {STEP})", "move down", "Move the crop down", show=False),
        Action("crop.up", "up,k", f"move(0, -{STEP})", "move up", "Move the crop up", show=False),
        Action("crop.right", "right,l", f"move({STEP}, 0)", "move right", "Move the crop right", show=False),
        Action("crop.larger", "plus,equals_sign", f"grow({GROW})", "size", "A larger crop", display="+ -"),
        Action("crop.smaller", "minus", f"grow({1 / GROW:.4f})", "smaller", "A smaller crop", show=False),
        Action("crop.wider", "b", "shape(1)", "shape", "The shape of the next wider bucket", display="b B"),
        Action("crop.taller", "B", "shape(-1)", "taller", "The shape of the next taller bucket", show=False),
        Action("crop.turn", "r", "turn(True)", "turn", "Turn by a quarter clockwise", display="r R"),
        Action("crop.turn_back", "R", "turn(False)", "turn back", "Turn by a quarter back", show=False),
        Action("crop.mirror", "m", "mirror", "mirror", "Exchange left and right"),
        Action("crop.sight", "w", "sight", "as trained", "Show exactly the pixels the trainer sees, or all"),
        Action("crop.automatic", "c", "automatic", "automatic", "Let the bucket choose the crop again"),
        Action("crop.face", "f", "face", "face", "Lay the crop about the face, where one was found"),
        Action("crop.plain", "x", "plain", "reset", "Neither crop nor turn nor mirroring"),
        Action("crop.alpha", "a", "alpha", "alpha mask", "Use the alpha channel as the mask, or not"),
        Action("crop.next", "n,right_square_bracket", "go(1)", "next", "Keep this, on to the next picture",
               display="n N"),
        Action("crop.previous", "N,left_square_bracket", "go(-1)", "previous",
               "Keep this, back to the picture before", show=False),
        Action("crop.fine_left", "H,shift+left", f"move(-{FINE}, 0)", "a little left",
               "Move the crop a little to the left", show=False),
        Action("crop.fine_down", "J,shift+down", f"move(0, {FINE})", "a little down",
               "Move the crop a little down", show=False),
        Action("crop.fine_up", "K,shift+up", f"move(0, -{FINE})", "a little up",
               "Move the crop a little up", show=False),
        Action("crop.fine_right", "L,shift+right", f"move({FINE}, 0)", "a little right",
               "Move the crop a little to the right", show=False),
        Action("crop.fine_larger", "greater_than_sign", f"grow({FINE_GROW})", "a little larger",
               "A little larger", show=False),
        Action("crop.fine_smaller", "less_than_sign", f"grow({1 / FINE_GROW:.4f})", "a little smaller",
               "A little smaller", show=False),
    )  # fmt: skip
    BINDINGS = bindings(ACTIONS)
    DEFAULT_CSS = """
    CropRoom #split { height: 1fr; }
    CropRoom #crop-panel { width: 1fr; }
    CropRoom #facts-panel { width: 40; }
    CropRoom.-narrow #facts-panel { width: 29; }
    """

    def __init__(
        self, row: PictureRow, shared: dict[str, int], keep: Keep, go: Callable[[int], None]
    ) -> None:
        """Begin with the picture as it stands.

        Args:
            row: of the picture.
            shared: other pictures by bucket, as `832x1216`.
            keep: is given what was made of it.
            go: opens the next (1) or the previous (-1) picture, after this room has closed.
        """
        super().__init__()
        self._row, self._shared, self._keep, self._go = row, shared, keep, go
        self._before = row.frame
        self.crop = Crop(row.known.width, row.known.height, [(1, 1)], row.frame)
        self._alpha_before = self.alpha = row.mask is not None and row.mask.kind == "alpha"
        self._has_alpha: bool | None = None
        self._weighed = True
        """Whether the settings of the project have masks weigh the loss."""
        self.trained = False
        """Whether the pixels that are trained on are shown, and nothing else."""

    def body(self) -> ComposeResult:
        """Picture on the left, figures on the right."""
        with Horizontal(id="split"):
            with Vertical(id="crop-panel", classes="panel") as panel:
                panel.border_title = Content(text.shorten(text.plain(self._row.name), 40))
                yield ImageView(outlined=True, id="crop-picture")
            with Vertical(id="facts-panel", classes="panel") as panel:
                panel.border_title = "what is trained"
                yield Facts(self._facts, id="crop-facts")

    def on_mount(self) -> None:
        """Show it; whether it has an alpha channel is found out in a thread."""
        self.crop = replace(self.crop, buckets=tuple(buckets_of(self.studio.data_settings)))
        super().on_mount()
        self._show()

        project = self.studio.project

        def work(_post: Post, gone: Gone) -> None:
            from loratui.dataset.masks import alpha_in

            found, weighed = alpha_in(self._row.known.path), True
            if project is not None:
                with contextlib.suppress(LoratuiError):  # the Train room says what is wrong
                    weighed = project.resolve().objective.masked
            if not gone():
                self.app.call_later(self._know, found, weighed)

        self.studio.in_thread(work, "alpha")

    def follow(self, what: str) -> None:
        """The terminal can do more now."""
        if what == "graphics":
            self.query_one(ImageView).again()

    def _know(self, has_alpha: bool, weighed: bool) -> None:
        self._has_alpha, self._weighed = has_alpha, weighed
        self.query_one(Facts).redraw()

    # --- what is shown ----------------------------------------------------------------------------------

    @property
    def mask(self) -> Mask | None:
        """The mask as it would be: a file counts more than the alpha channel."""
        if self._row.mask is not None and self._row.mask.kind == "file":
            return self._row.mask
        return Mask(self._row.known.path, "alpha") if self.alpha else None

    @property
    def changed(self) -> bool:
        """Whether there is anything to keep."""
        return self.crop.frame != self._before or self.alpha != self._alpha_before

    def _show(self) -> None:
        from loratui.ui.preview import Shown

        view, path = self.query_one(ImageView), self._row.known.path
        turn, stamp = with_box(self.crop.frame, None), self._row.known.mtime_ns
        paper = self.studio.data_settings.paper
        if self.trained:
            shown = Shown(turn, self.crop.bucket, self.mask, stamp, paper)
            view.show(path, at_once=True, shown=shown)
        else:
            shown = Shown(turn, mask=self.mask, stamp=stamp, paper=paper)
            view.show(path, self.crop.box, at_once=True, shown=shown)
        panel = self.query_one("#crop-panel")
        panel.border_subtitle = "as trained" if self.trained else ""
        self.query_one("#facts-panel").border_subtitle = Content.styled(
            "not kept yet" if self.changed else "", "$warning"
        )
        self.query_one(Facts).redraw()

    def _facts(self, width: int, height: int, colours: Palette) -> list[Row]:
        crop, bucket = self.crop, self.crop.bucket
        frame, known = crop.frame, self._row.known
        turned = [f"{frame.turn}°"] if frame.turn else []
        turned += ["mirrored"] if frame.mirror else []
        who = "by hand" if frame.box is not None else "automatic"
        others = self._shared.get(_name(bucket.size), 0)
        lines: list[tuple[str, str, bool]] = [
            ("picture", _size((known.width, known.height)), False),
            ("turned", ", ".join(turned) or "no", False),
            ("cut off", f"{figures.percent(bucket.crop_share)} {who}", bucket.crop_share > 0.5),
            ("kept", f"{_size(crop.source)} px", False),
            ("scaled", _scaled(bucket.upscale), bucket.upscale >= 1.5),
            ("trained", f"{_size(bucket.size)} px", False),
            ("bucket", f"{figures.plural(others, 'other')} in it" if others else "alone in it", not others),
            ("mask", self._masked(), False),
        ]
        if self._has_alpha:
            lines.append(("behind", self.studio.data_settings.background, False))
        rows: list[Row] = []
        for name, value, odd in lines:
            value = text.crop(value, width - 9)
            rows.append([(name.ljust(9), colours.muted), (value, colours.amber if odd else colours.text)])
        if self.mask is not None and not self._weighed:
            rows.append([("objective.masked is off", colours.amber)])
        keys = [a for a in self.ACTIONS if a.show][2:]  # those the footer may have no room for
        rows += [[]] if height > len(rows) + len(keys) else []
        rows += [[(_key(a).ljust(9), colours.accent), (a.label, colours.muted)] for a in keys]
        return rows[:height]

    def _masked(self) -> str:
        if self._row.mask is not None and self._row.mask.kind == "file":
            return text.plain(self._row.mask.path.name)
        if self.alpha:
            return "alpha channel"
        if self._has_alpha is None:
            return ""
        return "none; a: alpha" if self._has_alpha else "none"

    # --- keys -------------------------------------------------------------------------------------------

    def _set(self, crop: Crop) -> None:
        if crop.frame != self.crop.frame:
            self.crop = crop
            self._show()

    def action_move(self, right: float, down: float) -> None:
        """Move the box by shares of its own sides."""
        self._set(self.crop.moved(right, down))

    def action_grow(self, by: float) -> None:
        """A larger or smaller box."""
        self._set(self.crop.resized(by))

    def action_shape(self, by: int) -> None:
        """The shape of another bucket."""
        self._set(self.crop.other_bucket(by))

    def action_turn(self, clockwise: bool) -> None:
        """A quarter of a turn."""
        self._set(self.crop.turned(clockwise))

    def action_mirror(self) -> None:
        """Left and right exchanged."""
        self._set(self.crop.mirrored())

    def action_automatic(self) -> None:
        """No box by hand."""
        self._set(self.crop.automatic())

    def action_face(self) -> None:
        """Head and shoulders, in the shape of the bucket."""
        from loratui.dataset import faces

        known, frame = self._row.known, self.crop.frame
        if known.face is None:
            face = faces.named(known.path, known.width, known.height, frame)
        else:
            face = faces.placed(cast(Box, known.face), frame) if known.face else None
        if face is not None:
            self._set(self.crop.about(face))
        elif known.face is None and not faces.can_see():
            self.notify(f"Faces are found by a package: pip install '{faces.PACKAGE}'.")
        elif known.face is None:
            self.notify("Its face is still being looked for.")
        else:
            self.notify("No face was found in this picture.")

    def action_plain(self) -> None:
        """As it lies in the file."""
        self._set(self.crop.plain())

    def action_sight(self) -> None:
        """All of the picture with the box, or only what is trained."""
        self.trained = not self.trained
        self._show()

    def action_alpha(self) -> None:
        """The alpha channel as the mask, where there is one."""
        if self._row.mask is not None and self._row.mask.kind == "file":
            self.notify(f"Its mask is the file {self._row.mask.path.name}, which counts more than alpha.")
        elif self._has_alpha is False and not self.alpha:
            self.notify("This picture has no alpha channel.")
        elif self._has_alpha is not None or self.alpha:
            self.alpha = not self.alpha
            self._show()

    def action_keep(self) -> None:
        """Keep it, where anything changed."""
        if self.changed:
            alpha = self.alpha if self.alpha != self._alpha_before else None
            self._keep(self.crop.frame, alpha)
        self.dismiss(None)

    def action_go(self, by: int) -> None:
        """Keep it, and go on to another picture."""
        self.action_keep()
        self.app.call_later(self._go, by)

    def action_leave_it(self) -> None:
        """Nothing is kept."""
        self.dismiss(None)


def _key(action: Action) -> str:
    return action.display or key_name(action.keys.split(",")[0])


def _name(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _size(size: Size) -> str:
    return f"{size[0]}×{size[1]}"


def _scaled(upscale: float) -> str:
    if upscale > 1.005:
        return f"enlarged {upscale:.2f}×"
    return f"to {figures.percent(upscale)}" if upscale < 0.995 else "not at all"
