"""A picture made ready for the eye: turned as its frame says, or exactly the pixels that are trained on.

Everything here may take a while and is called in threads, but for `dimmed` and `outlined`, which get a
picture of the size it has on the screen.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from loratui.config.colours import WHITE, Paper
from loratui.dataset.buckets import Bucket
from loratui.dataset.framing import PLAIN, WHOLE, Box, Frame
from loratui.dataset.masks import Mask, mask_pixels, open_mask
from loratui.dataset.pixels import open_rgb, trained_pixels, turned

PREVIEW_PX = 640
"""Longest side of a preview."""
_LARGEST_PX = 4096
"""Longest side of what is zoomed into: 48 MB at most."""
_KEPT_BYTES = 24 * 2**20
"""Of previews, so that going back does not decode again: about 15 of them."""
_kept: OrderedDict[tuple[str, int, int, Paper], Image.Image] = OrderedDict()
_lock = threading.Lock()
_DARK = [round(value * 0.35) for value in range(256)] * 3
_TINT = (196, 32, 88)
"""Lies over what a mask leaves out: a colour that photographs seldom have."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a picture is shown.

    Attributes:
        frame: its turn and mirroring.
        bucket: where given, the pixels that are trained on in this bucket, and nothing else.
        mask: what it leaves out is tinted.
        stamp: another one has the file read again.
        paper: shows through transparent pixels.
    """

    frame: Frame = PLAIN
    bucket: Bucket | None = None
    mask: Mask | None = None
    stamp: int = 0
    paper: Paper = WHITE


AS_IT_IS = Shown()


def load(path: Path, shown: Shown = AS_IT_IS, side: int = PREVIEW_PX) -> Image.Image:
    """A picture to look at: at most `side` px, or as large as it is trained on.

    Raises:
        DatasetError: it, or its mask, cannot be decoded.
        OSError: it is gone.
    """
    if shown.bucket is not None:
        return _large(path, shown)
    return _seen(_upright(str(path), _stamp(path), side, shown.paper), shown)


def load_part(path: Path, shown: Shown, part: Box, side: int = PREVIEW_PX) -> Image.Image:
    """A part of a picture, from all the pixels there are, at most `side` px.

    Args:
        path: of the picture.
        shown: what of it.
        part: in fractions of what is shown.
        side: longest side in px.

    Raises:
        DatasetError: it, or its mask, cannot be decoded.
        OSError: it is gone.
    """
    whole = _large(path, shown)
    left, top, right, bottom = pixels_of(part, *whole.size)
    piece = whole.crop((left, top, max(left + 1, right), max(top + 1, bottom)))
    piece.thumbnail((side, side), Image.Resampling.LANCZOS)
    return piece


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns


def _seen(upright: Image.Image, shown: Shown) -> Image.Image:
    image = turned(upright, shown.frame)
    return image if shown.mask is None else tinted(image, turned(open_mask(shown.mask), shown.frame))


def _large(path: Path, shown: Shown) -> Image.Image:
    """All pixels of what is shown."""
    if shown.bucket is None:
        return _seen(_whole(str(path), _stamp(path), shown.paper), shown)
    image = _trained(str(path), _stamp(path), shown.bucket, shown.frame, shown.paper)
    if shown.mask is None:
        return image
    return tinted(image, mask_pixels(shown.mask, shown.bucket, shown.frame))


def _upright(path: str, stamp: int, side: int, paper: Paper) -> Image.Image:
    key = (path, stamp, side, paper)
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    image = open_rgb(Path(path), least=side, paper=paper)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    with _lock:
        _kept[key] = image
        while sum(4 * kept.width * kept.height for kept in _kept.values()) > _KEPT_BYTES and len(_kept) > 1:
            _kept.popitem(last=False)
    return image


@lru_cache(1)
def _whole(path: str, _stamp: int, paper: Paper) -> Image.Image:
    image = open_rgb(Path(path), paper=paper)
    image.thumbnail((_LARGEST_PX, _LARGEST_PX), Image.Resampling.LANCZOS)
    return image


@lru_cache(4)
def _trained(path: str, _stamp: int, bucket: Bucket, frame: Frame, paper: Paper) -> Image.Image:
    return trained_pixels(Path(path), bucket, frame, paper)


def tinted(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture, coloured where its mask leaves it out; what counts stays untouched.

    Args:
        image: RGB.
        mask: greys, white where the picture counts; stretched when it has another size.
    """
    if mask.size != image.size:
        mask = mask.resize(image.size, Image.Resampling.BILINEAR)
    veil = Image.blend(image, Image.new("RGB", image.size, _TINT), 0.55)
    return Image.composite(image, veil, mask)


def dimmed(image: Image.Image, box: Box | None) -> Image.Image:
    """The picture with what lies outside a box darkened."""
    if box is None or box == WHOLE:
        return image
    edge = pixels_of(box, *image.size)
    dark = image.point(_DARK)
    if edge[0] < edge[2] and edge[1] < edge[3]:
        dark.paste(image.crop(edge), edge[:2])
    return dark


def outlined(image: Image.Image, box: Box, colour: tuple[int, int, int], thick: int = 1) -> Image.Image:
    """A copy of the picture with a line around a box, inside of it where it touches the edge.

    Args:
        image: RGB.
        box: in fractions; parts outside of the picture are not drawn.
        colour: of the line.
        thick: px.
    """
    from PIL import ImageDraw

    out = image.copy()
    width, height = out.size
    left, top, right, bottom = (round(x * side) for x, side in zip(box, (width, height) * 2, strict=True))
    pen = ImageDraw.Draw(out)
    # the line lies outside the box, where the picture is dark anyway, unless there is no outside
    left, top = (left - thick if left > 0 else left), (top - thick if top > 0 else top)
    right, bottom = (
        (right + thick if right < width else right),
        (bottom + thick if bottom < height else bottom),
    )
    pen.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=thick)
    return out


def pixels_of(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """A box in px of a picture of this size."""
    clipped = [min(1.0, max(0.0, x)) for x in box]
    return (
        round(clipped[0] * width),
        round(clipped[1] * height),
        round(clipped[2] * width),
        round(clipped[3] * height),
    )


# --- zoom ---------------------------------------------------------------------------------------------------

ZOOMS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)


def window(
    size: tuple[int, int], room: tuple[float, float], zoom: float, centre: tuple[float, float]
) -> tuple[Box, tuple[float, float]]:
    """What of a picture is in sight, and its centre, moved so that nothing outside the picture is.

    Args:
        size: (width, height) of the picture, px.
        room: (width, height) of where it is shown, in any unit in which pixels are square.
        zoom: 1 fits the picture into the room.
        centre: wanted, in fractions.
    """
    scale = min(room[0] / size[0], room[1] / size[1]) * zoom
    wide, high = min(1.0, room[0] / (size[0] * scale)), min(1.0, room[1] / (size[1] * scale))
    x = min(max(centre[0], wide / 2), 1 - wide / 2)
    y = min(max(centre[1], high / 2), 1 - high / 2)
    return (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), (x, y)


def inside(box: Box, part: Box) -> Box:
    """A box of the picture in fractions of a part of it; it may reach beyond the part."""
    wide, high = part[2] - part[0], part[3] - part[1]
    return (
        (box[0] - part[0]) / wide,
        (box[1] - part[1]) / high,
        (box[2] - part[0]) / wide,
        (box[3] - part[1]) / high,
    )
