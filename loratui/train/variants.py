"""Which version of a picture a sample is trained on, and what that version is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from loratui.config.schema import DataConfig
from loratui.dataset.framing import Box
from loratui.dataset.variants import around, jitter, shifted
from loratui.train.samples import Picture
from loratui.train.stateless import seed_of

FaceKey = tuple[str, int, bool]


def face_key(picture: Picture) -> FaceKey:
    """What a face was found in: content, turn and mirroring."""
    return picture.hash, picture.frame.turn, picture.frame.mirror


@dataclass(frozen=True, slots=True)
class Variants:
    """The versions of pictures; see `dataset.variants`.

    Attributes:
        count: versions of each picture.
        crop, near, far, colours: as `DataConfig` has them.
        faces: `face_key` of a picture -> its face in fractions of the picture, for those that have one.
    """

    count: int = 1
    crop: str = "centre"
    near: float = 0.0
    far: float = 0.0
    colours: float = 0.0
    faces: Mapping[FaceKey, Box] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: DataConfig, faces: Mapping[FaceKey, Box] | None = None) -> Variants:
        """Those of a run."""
        return cls(
            config.versions, config.crop, config.face_near, config.face_far, config.colour_jitter, faces or {}
        )

    def of(self, picture: Picture, n: int) -> Picture:
        """Version `n` of a picture, from 0; a crop made by hand is the same in all."""
        bucket, colours = picture.bucket, jitter(picture.hash, n, self.colours)
        if not picture.placed:
            face = self.faces.get(face_key(picture))
            if self.crop == "random":
                bucket = shifted(bucket, picture.hash, n)
            elif self.crop == "face" and face is not None:
                bucket = around(bucket, picture.size, face, picture.hash, n, self.near, self.far)
        if bucket is picture.bucket and colours is None:
            return picture
        return replace(picture, bucket=bucket, jitter=colours)

    def at(self, picture: Picture, seed: int, step: int, slot: int) -> Picture:
        """The version that a sample is trained on."""
        if self.count == 1 and self.crop != "face":
            return picture
        return self.of(picture, seed_of(seed, "variant", step, slot) % self.count)
