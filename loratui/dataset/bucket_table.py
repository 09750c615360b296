"""What the buckets of a training do to its pictures: how many fall into each, what is cut off, enlarged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loratui.config.schema import DataConfig
from loratui.dataset.buckets import ENLARGED, Bucket, Size
from loratui.dataset.framing import Frame, Grids

Framed = tuple[int, int, Frame, int]
"""(width, height, frame, repeats) of a picture; width and height in px before the turn."""


@dataclass(frozen=True, slots=True)
class BucketLine:
    """One bucket in an epoch; sizes in px.

    Attributes:
        width: of the bucket.
        height: of the bucket.
        images: different pictures.
        repeated: each counted as often as it repeats.
        batches: forward passes.
        leftover: pictures in the last, smaller batch; 0 when all are full.
        crop: mean share of a picture's area that is cut off, 0 to 1.
        crop_most: the largest one.
        enlarged: pictures that are scaled up.
        upscale_most: the largest scale factor.
    """

    width: int
    height: int
    images: int
    repeated: int
    batches: int
    leftover: int
    crop: float
    crop_most: float
    enlarged: int
    upscale_most: float

    @property
    def name(self) -> str:
        """As the filter writes it: `832x1216`."""
        return f"{self.width}x{self.height}"


def bucket_table(pictures: Iterable[Framed], data: DataConfig) -> tuple[BucketLine, ...]:
    """The buckets that hold pictures, of all resolutions, the fullest first."""
    grids = Grids(data)
    known: dict[tuple[int, int, Frame], tuple[Bucket, ...]] = {}
    found: dict[Size, list[tuple[Bucket, int]]] = {}
    for width, height, frame, repeats in pictures:
        key = (width, height, frame)
        for bucket in known.get(key) or known.setdefault(key, grids.buckets(width, height, frame)):
            found.setdefault(bucket.size, []).append((bucket, repeats))
    lines = [_line(size, members, data) for size, members in found.items()]
    return tuple(sorted(lines, key=lambda line: (-line.repeated, line.width, line.height)))


def _line(size: Size, members: list[tuple[Bucket, int]], data: DataConfig) -> BucketLine:
    repeated = sum(repeats for _, repeats in members) * data.repeats
    crops, scales = [b.crop_share for b, _ in members], [b.upscale for b, _ in members]
    return BucketLine(
        *size,
        images=len(members),
        repeated=repeated,
        batches=-(-repeated // data.batch_size),
        leftover=repeated % data.batch_size,
        crop=sum(crops) / len(crops),
        crop_most=max(crops),
        enlarged=sum(scale > ENLARGED for scale in scales),
        upscale_most=max(scales),
    )
