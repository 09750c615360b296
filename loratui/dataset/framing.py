"""How one picture is turned, mirrored and cut before it is trained on: data, the file is never touched.

A frame is kept by the project's history (its note `crop`), so it has undo and survives the cache. The box is
in fractions of the turned picture and means the same at any training resolution: the bucket of the nearest
aspect ratio is laid into it, the largest that fits, at its centre.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from loratui.dataset.buckets import ENLARGED, Bucket, Buckets, Size, assign, buckets_of

if TYPE_CHECKING:
    from loratui.config.schema import DataConfig

Box = tuple[float, float, float, float]
"""left, top, right, bottom as fractions of the picture."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
NOTE = "crop"
"""Under this name the history keeps the frame of a picture."""
SMALLEST = 0.02
"""The shorter side of a box, as a fraction: below, nothing is left to train on."""
_DIGITS = 6
"""Fractions are rounded to so many digits: a hundredth of a px, and turning back gives the very same box."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Turn, mirroring and crop of one picture.

    Attributes:
        turn: 0, 90, 180 or 270 degrees clockwise, after the EXIF orientation.
        mirror: whether left and right are exchanged, after the turn.
        box: what is kept of the turned and mirrored picture; None leaves the choice to the bucket.
    """

    turn: int = 0
    mirror: bool = False
    box: Box | None = None

    @property
    def plain(self) -> bool:
        """Whether nothing is done to the picture."""
        return self is PLAIN or self == PLAIN

    def size(self, width: int, height: int) -> Size:
        """(width, height) in px of a picture after the turn."""
        return (height, width) if self.turn in (90, 270) else (width, height)

    def turned(self, clockwise: bool = True) -> Frame:
        """What is seen, turned by a quarter; the box turns along."""
        # behind the mirror a turn goes the other way round
        by = 90 if clockwise != self.mirror else 270
        return Frame((self.turn + by) % 360, self.mirror, _quarter(self.box, clockwise))

    def mirrored(self) -> Frame:
        """What is seen, left and right exchanged; the box goes along."""
        box = self.box
        return Frame(self.turn, not self.mirror, box and _rounded((1 - box[2], box[1], 1 - box[0], box[3])))

    def flipped(self) -> Frame:
        """What is seen, top and bottom exchanged; the box goes along."""
        return self.turned().turned().mirrored()

    def as_json(self) -> dict[str, Any] | None:
        """As the history keeps it; None when nothing is done to the picture."""
        if self.plain:
            return None
        return {"turn": self.turn, "mirror": self.mirror, "box": None if self.box is None else [*self.box]}


PLAIN = Frame()


def read_frame(value: Any) -> Frame:
    """A frame as the history keeps it; anything else counts as none."""
    if not isinstance(value, dict):
        return PLAIN
    turn, box = value.get("turn", 0), value.get("box")
    if turn not in (0, 90, 180, 270):
        return PLAIN
    if box is not None:
        if not isinstance(box, list | tuple) or len(box) != 4:
            return PLAIN
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in box):
            return PLAIN
        left, top, right, bottom = (float(x) for x in box)
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            return PLAIN
        box = (left, top, right, bottom)
    return Frame(int(turn), bool(value.get("mirror", False)), box)


def framed(width: int, height: int, frame: Frame, buckets: Sequence[Size]) -> Bucket:
    """The bucket of a picture, with its scale and crop.

    Args:
        width: of the picture in px, after the EXIF orientation and before the turn.
        height: of the picture in px.
        frame: what is done to it.
        buckets: all sizes there are.
    """
    width, height = frame.size(width, height)
    if frame.box is None:
        return assign(width, height, buckets)
    left, top, right, bottom = frame.box
    grid = buckets if isinstance(buckets, Buckets) else Buckets(buckets)
    size = grid.nearest((right - left) * width / ((bottom - top) * height))
    bucket = lay(width, height, frame.box, size)
    if grid.own is None or bucket.upscale <= ENLARGED:
        return bucket
    return lay(width, height, frame.box, grid.own.size((right - left) * width, (bottom - top) * height))


_REMEMBERED = 50_000


class Grids:
    """The buckets of every resolution of a run's settings, and at which of them a picture is trained."""

    def __init__(self, data: DataConfig) -> None:
        self._lowest, *self._higher = [buckets_of(data, side) for side in data.resolutions]
        self._always = data.upscale == "always"
        for grid in self._higher:
            grid.own = None  # a picture too small for it would be the same again
        self._known: dict[tuple[int, int, Frame], tuple[Bucket, ...]] = {}

    def buckets(self, width: int, height: int, frame: Frame = PLAIN) -> tuple[Bucket, ...]:
        """Where a picture is trained, the lowest resolution first: there always, higher up when large enough.

        Args:
            width: of the picture in px, before the turn.
            height: of the picture in px.
            frame: what is done to it.
        """
        key = (width, height, frame)
        known = self._known.get(key)
        if known is None:
            known = self._find(*key)
            if len(self._known) < _REMEMBERED:
                self._known[key] = known
        return known

    def _find(self, width: int, height: int, frame: Frame) -> tuple[Bucket, ...]:
        found = [framed(width, height, frame, self._lowest)]
        for grid in self._higher:
            bucket = framed(width, height, frame, grid)
            if (self._always or bucket.upscale <= ENLARGED) and bucket.size not in {b.size for b in found}:
                found.append(bucket)
        return tuple(found)


def grids(data: DataConfig) -> Grids:
    """The buckets of these settings, with what was found with them before: a plan asks again and again."""
    return _grids(grid_key(data), data)


def grid_key(data: DataConfig) -> _Key:
    """What of the settings decides where pictures land; of two that share it, one scan serves both."""
    size = data.bucketing, data.bucket_step, data.min_bucket, data.max_bucket
    return (data.resolution, data.resolutions, data.upscale, *size)


_Key = tuple[int, tuple[int, ...], str, bool, int, int, int]
_kept: OrderedDict[_Key, Grids] = OrderedDict()
_lock = threading.Lock()


def _grids(key: _Key, data: DataConfig) -> Grids:
    with _lock:
        if key not in _kept:
            _kept[key] = Grids(data)
            while len(_kept) > 2:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        return _kept[key]


def lay(width: int, height: int, box: Box, size: Size) -> Bucket:
    """The largest part of `size`'s shape at the centre of a box, of a picture of `width` x `height` px."""
    bucket_w, bucket_h = size
    left, top, right, bottom = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    scale = max(bucket_w / (right - left), bucket_h / (bottom - top))
    scaled_w = max(bucket_w, math.floor(width * scale + 0.5))
    scaled_h = max(bucket_h, math.floor(height * scale + 0.5))
    x = _between(round((left + right) / 2 / width * scaled_w - bucket_w / 2), scaled_w - bucket_w)
    y = _between(round((top + bottom) / 2 / height * scaled_h - bucket_h / 2), scaled_h - bucket_h)
    share = 1.0 - (bucket_w * bucket_h) / (scaled_w * scaled_h)
    return Bucket(bucket_w, bucket_h, (scaled_w, scaled_h), (x, y, x + bucket_w, y + bucket_h), share, scale)


# --- moving a box -------------------------------------------------------------------------------------------


def largest(width: int, height: int, size: Size, centre: tuple[float, float] = (0.5, 0.5)) -> Box:
    """The largest box of a bucket's shape in a turned picture, as near to a centre as it goes."""
    aspect = size[0] * height / (size[1] * width)  # of the box in fractions
    wide, high = (1.0, 1.0 / aspect) if aspect >= 1 else (aspect, 1.0)
    return _put(centre[0] - wide / 2, centre[1] - high / 2, wide, high)


def moved(box: Box, right: float, down: float) -> Box:
    """The box moved by fractions of the picture, as far as its edges allow."""
    return _put(box[0] + right, box[1] + down, box[2] - box[0], box[3] - box[1])


def resized(box: Box, by: float) -> Box:
    """The box larger or smaller about its centre: at most the picture, at least `SMALLEST`."""
    wide, high = box[2] - box[0], box[3] - box[1]
    by = min(by, 1 / wide, 1 / high)
    by = max(by, min(1.0, SMALLEST / min(wide, high)))
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return _put(x - wide * by / 2, y - high * by / 2, wide * by, high * by)


def kept(bucket: Bucket) -> Box:
    """What of the turned picture is trained on, as fractions."""
    (width, height), (left, top, right, bottom) = bucket.scaled, bucket.crop
    return left / width, top / height, right / width, bottom / height


def with_box(frame: Frame, box: Box | None) -> Frame:
    """The frame with another box."""
    return replace(frame, box=box)


def _put(left: float, top: float, wide: float, high: float) -> Box:
    wide, high = min(1.0, wide), min(1.0, high)
    left, top = min(max(0.0, left), 1.0 - wide), min(max(0.0, top), 1.0 - high)
    return _rounded((left, top, left + wide, top + high))


def _rounded(box: Box) -> Box:
    left, top, right, bottom = (min(1.0, max(0.0, round(x, _DIGITS))) for x in box)
    return left, top, right, bottom


def _quarter(box: Box | None, clockwise: bool) -> Box | None:
    if box is None:
        return None
    left, top, right, bottom = box
    return _rounded((1 - bottom, left, 1 - top, right) if clockwise else (top, 1 - right, bottom, 1 - left))


def _between(value: int, most: int) -> int:
    return max(0, min(value, most))
