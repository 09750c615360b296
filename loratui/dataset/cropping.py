"""A crop while it is made by hand: a box of a bucket's shape, moved, grown and turned within a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loratui.dataset.buckets import Bucket, Size
from loratui.dataset.framing import PLAIN, WHOLE, Box, Frame, framed, largest, moved, resized, with_box


@dataclass(frozen=True, slots=True)
class Crop:
    """One picture, its frame, and the buckets there are; every step gives another one.

    Attributes:
        width: of the picture in px, after the EXIF orientation and before the turn.
        height: of the picture in px.
        buckets: all sizes there are.
        frame: as it stands.
    """

    width: int
    height: int
    buckets: Sequence[Size]
    frame: Frame = PLAIN

    @property
    def size(self) -> Size:
        """(width, height) in px of the turned picture."""
        return self.frame.size(self.width, self.height)

    @property
    def bucket(self) -> Bucket:
        """What the trainer makes of it."""
        return framed(self.width, self.height, self.frame, self.buckets)

    @property
    def box(self) -> Box:
        """What is kept of the turned picture, exactly of the bucket's shape."""
        return snug(*self.size, self.frame.box or WHOLE, self.bucket.size)

    @property
    def source(self) -> Size:
        """(width, height) in px of what is kept, before it is scaled."""
        (width, height), (left, top, right, bottom) = self.size, self.box
        return max(1, round((right - left) * width)), max(1, round((bottom - top) * height))

    def moved(self, right: float, down: float) -> Crop:
        """The box moved by fractions of its own sides, as far as the picture goes."""
        left, top, end, bottom = self.box
        return self._with(moved(self.box, right * (end - left), down * (bottom - top)))

    def resized(self, by: float) -> Crop:
        """The box larger or smaller, of the same shape."""
        return self._with(resized(self.box, by))

    def other_bucket(self, by: int) -> Crop:
        """The next wider (1) or taller (-1) shape, around the ends, as large and as central as before."""
        order = sorted(self.buckets, key=lambda b: b[0] / b[1])
        return self.shaped(order[(order.index(self.bucket.size) + by) % len(order)])

    def shaped(self, size: Size) -> Crop:
        """The box in another bucket's shape, about its centre, and as much of the largest as before."""
        before, size_px = self.box, self.size
        centre = ((before[0] + before[2]) / 2, (before[1] + before[3]) / 2)
        full = largest(*size_px, self.bucket.size)
        share = (before[2] - before[0]) / (full[2] - full[0])
        box = resized(largest(*size_px, size), share)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        return self._with(moved(box, centre[0] - x, centre[1] - y))

    def turned(self, clockwise: bool = True) -> Crop:
        """A quarter of a turn of what is seen; the box turns along."""
        return replace(self, frame=self.frame.turned(clockwise))

    def mirrored(self) -> Crop:
        """Left and right exchanged; the box goes along."""
        return replace(self, frame=self.frame.mirrored())

    def about(self, face: Box, heights: float = 3.0) -> Crop:
        """The box about a face, so many faces high, in the shape of the bucket and not beyond the picture.

        Args:
            face: in fractions of the turned picture.
            heights: height of the box in heights of the face.
        """
        full = largest(*self.size, self.bucket.size)
        by = min(1.0, heights * (face[3] - face[1]) / (full[3] - full[1]))
        box = resized(full, by)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        # a little below its middle: shoulders belong to it more than what is above the hair
        down = (face[1] + face[3]) / 2 + 0.25 * (face[3] - face[1])
        return self._with(moved(box, (face[0] + face[2]) / 2 - x, down - y))

    def automatic(self) -> Crop:
        """The bucket chooses what is kept, as without a crop by hand."""
        return self._with(None)

    def plain(self) -> Crop:
        """The picture as it lies in its file."""
        return replace(self, frame=PLAIN)

    def _with(self, box: Box | None) -> Crop:
        return replace(self, frame=with_box(self.frame, box))


def snug(width: int, height: int, box: Box, size: Size) -> Box:
    """The largest box of a bucket's shape inside another one, at its centre.

    Args:
        width: of the turned picture, px.
        height: of the turned picture, px.
        box: in fractions.
        size: of the bucket, px.
    """
    left, top, right, bottom = box
    wide, high = (right - left) * width, (bottom - top) * height
    scale = min(wide / size[0], high / size[1])
    half_w, half_h = size[0] * scale / width / 2, size[1] * scale / height / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return max(0.0, x - half_w), max(0.0, y - half_h), min(1.0, x + half_w), min(1.0, y + half_h)
