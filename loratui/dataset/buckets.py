"""Aspect-ratio buckets exactly as sd-scripts builds them, and where a picture lands in one.

Widths run from the shortest to the longest side by the step; the height is the largest multiple of the
step that keeps the area within resolution squared; the bucket of the nearest aspect ratio wins; the
picture is scaled to cover the bucket and the rest is cropped, half on each side.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loratui.config.schema import DataConfig

Size = tuple[int, int]
ENLARGED = 1.005
"""Above, a picture counts as enlarged: less is rounding."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """One picture in its bucket. All sizes in px.

    Attributes:
        width: width of the bucket.
        height: height of the bucket.
        scaled: size of the picture after scaling, at least the bucket in both directions.
        crop: (left, top, right, bottom) of the bucket inside the scaled picture.
        crop_share: share of the scaled picture's area that is cut away, 0 to 1.
        upscale: scale factor of the picture; above 1 it is enlarged.
    """

    width: int
    height: int
    scaled: Size
    crop: tuple[int, int, int, int]
    crop_share: float
    upscale: float

    @property
    def size(self) -> Size:
        """(width, height) of the bucket."""
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class Own:
    """How a picture that must not be enlarged gets a bucket of its own.

    Attributes:
        step: every side is a multiple of this, in px.
        longest: no side is longer, in px.
        area: nor is the area larger, in px.
        square: only squares.
    """

    step: int
    longest: int
    area: int
    square: bool = False

    def size(self, width: float, height: float) -> Size:
        """The largest bucket that a picture, or a part of it, fills unenlarged; a step at least."""
        if self.square:
            width = height = min(width, height)
        scale = min(1.0, math.sqrt(self.area / (width * height)), self.longest / max(width, height))
        # a hair more, as sqrt(area) * sqrt(area) may be a hair less than the area
        across, down = (int(side * scale * (1 + 1e-9)) // self.step * self.step for side in (width, height))
        return max(self.step, across), max(self.step, down)


class Buckets(list[Size]):
    """The bucket sizes of one resolution, in order.

    Attributes:
        own: buckets for pictures that would have to be enlarged; None where they are.
    """

    def __init__(self, sizes: Iterable[Size], own: Own | None = None) -> None:
        super().__init__(sizes)
        self.own = own
        self._sizes = frozenset(self)
        first: dict[float, int] = {}
        for number, (width, height) in enumerate(self):
            first.setdefault(width / height, number)
        self._aspects = sorted(first)
        self._places = [first[aspect] for aspect in self._aspects]

    def has(self, size: Size) -> bool:
        """Whether this is one of them."""
        return size in self._sizes

    def nearest(self, aspect: float) -> Size:
        """The size of the nearest aspect ratio; of two equally near, the first in the list."""
        aspects, places = self._aspects, self._places
        at = min(bisect.bisect_left(aspects, aspect), len(aspects) - 1)
        if at:
            below, above = abs(aspects[at - 1] - aspect), abs(aspects[at] - aspect)
            if below < above or (below == above and places[at - 1] < places[at]):
                at -= 1
        return self[places[at]]


def make_buckets(resolution: int, step: int, minimum: int, maximum: int) -> list[Size]:
    """All bucket sizes for a training resolution, sorted.

    Args:
        resolution: side in px of the square whose area no bucket exceeds.
        step: every side is a multiple of this.
        minimum: shortest side in px.
        maximum: longest side in px.
    """
    area = resolution * resolution
    square = max(step, resolution // step * step)
    sizes = {(square, square)}
    for width in range(minimum, maximum + 1, step):
        height = min(maximum, area // width // step * step)
        if height >= minimum:
            sizes |= {(width, height), (height, width)}
    return sorted(sizes)


def buckets_of(data: DataConfig, resolution: int = 0) -> Buckets:
    """The bucket sizes at one resolution; a single square when bucketing is off.

    Args:
        data: settings.
        resolution: in px; 0 takes `data.resolution`.
    """
    resolution, step = resolution or data.resolution, data.bucket_step
    square = max(step, resolution // step * step)
    longest = data.max_bucket if data.bucketing else square
    own = Own(step, longest, resolution**2, not data.bucketing) if data.upscale == "never" else None
    if not data.bucketing:
        return Buckets([(square, square)], own)
    return Buckets(make_buckets(resolution, step, data.min_bucket, data.max_bucket), own)


def assign(width: int, height: int, buckets: Sequence[Size]) -> Bucket:
    """The bucket of a picture of this size (after EXIF orientation), with its scale and crop.

    An exact size wins over the nearest aspect ratio; of two equally near, the first in the list wins.
    """
    grid = buckets if isinstance(buckets, Buckets) else Buckets(buckets)
    size = (width, height) if grid.has((width, height)) else grid.nearest(width / height)
    bucket = place(width, height, size)
    if grid.own is None or bucket.upscale <= ENLARGED:
        return bucket
    return place(width, height, grid.own.size(width, height))


def place(width: int, height: int, size: Size) -> Bucket:
    """Scale a picture of this size to cover `size` and crop the rest at the centre."""
    bucket_w, bucket_h = size
    if width * bucket_h > bucket_w * height:  # wider than the bucket: the heights meet
        scale = bucket_h / height
    else:
        scale = bucket_w / width
    scaled = (max(bucket_w, math.floor(width * scale + 0.5)), max(bucket_h, math.floor(height * scale + 0.5)))
    left, top = (scaled[0] - bucket_w) // 2, (scaled[1] - bucket_h) // 2
    share = 1.0 - (bucket_w * bucket_h) / (scaled[0] * scaled[1])
    return Bucket(bucket_w, bucket_h, scaled, (left, top, left + bucket_w, top + bucket_h), share, scale)
