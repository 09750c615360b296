"""Versions of a picture: another part of it, closer to its face, in slightly other colours.

There is a fixed number of them, so that each can be encoded once and cached. What the n-th version is follows
from the picture's content and n alone, not from a run's seed: runs share what they have encoded. Version 0
has the colours that are there, and the middle, or the widest cut about the face.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from loratui.dataset.buckets import Bucket
from loratui.dataset.framing import Box, largest, lay, moved

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow has it
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=np.float32)
_DIGITS = 4
"""Factors are rounded to so many digits: they stand in the keys of the cache."""


@dataclass(frozen=True, slots=True)
class Jitter:
    """Other colours.

    Attributes:
        brightness: factor.
        contrast: factor about the mean grey.
        saturation: factor about each pixel's grey.
        hue: turn of the colour circle, 0 to 1.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def apply(self, image: Image.Image) -> Image.Image:
        """An 8-bit RGB picture in these colours."""
        pixels = np.asarray(image, dtype=np.float32) * np.float32(self.brightness)
        mean = np.float32((pixels @ _GREY).mean())
        pixels = mean + (pixels - mean) * np.float32(self.contrast)
        grey = (pixels @ _GREY)[..., None]
        pixels = grey + (pixels - grey) * np.float32(self.saturation)
        if self.hue:
            angle = np.float32(2 * np.pi * self.hue)
            turn = np.array(
                [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]],
                dtype=np.float32,
            )
            pixels = pixels @ (np.linalg.inv(_YIQ) @ turn @ _YIQ).astype(np.float32).T
        return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), "RGB")


def jitter(content: str, n: int, strength: float) -> Jitter | None:
    """The colours of a version; None leaves them alone.

    Args:
        content: hash of the picture.
        n: which version.
        strength: 0 to 1.
    """
    if strength <= 0 or n == 0:
        return None
    dice = _dice(content, "colour", n)
    brightness, contrast, saturation = (
        round(dice.uniform(1 - strength, 1 + strength), _DIGITS) for _ in range(3)
    )
    return Jitter(brightness, contrast, saturation, round(dice.uniform(-strength / 4, strength / 4), _DIGITS))


def shifted(bucket: Bucket, content: str, n: int) -> Bucket:
    """The bucket somewhere in the scaled picture; version 0 where it was."""
    if n == 0:
        return bucket
    dice = _dice(content, "crop", n)
    left = dice.randint(0, bucket.scaled[0] - bucket.width)
    top = dice.randint(0, bucket.scaled[1] - bucket.height)
    return replace(bucket, crop=(left, top, left + bucket.width, top + bucket.height))


def around(
    bucket: Bucket, size: tuple[int, int], face: Box, content: str, n: int, near: float, far: float
) -> Bucket:
    """The bucket about a face, as large a part of the picture as it allows, or as close as asked for.

    Args:
        bucket: of the picture, whose shape is kept.
        size: of the picture in px, after the turn.
        face: in fractions of the picture.
        content: hash of the picture.
        n: which version; 0 is the widest cut.
        near: the closest cut: its shorter side in face sizes, 0 for none; nothing is enlarged for it.
        far: the widest cut.
    """
    width, height = size
    centre = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2
    box = largest(width, height, bucket.size, centre)
    if near > 0:
        wanted = max(near, far) if n == 0 else _dice(content, "face", n).uniform(near, max(near, far))
        wide, high = box[2] - box[0], box[3] - box[1]
        shorter = min(wide * width, high * height)
        unenlarged = min(bucket.size) / shorter
        longest = max((face[2] - face[0]) * width, (face[3] - face[1]) * height)
        by = min(1.0, max(unenlarged, wanted * longest / shorter))
        half_w, half_h = wide * by / 2, high * by / 2
        box = moved(
            (0.5 - half_w, 0.5 - half_h, 0.5 + half_w, 0.5 + half_h), centre[0] - 0.5, centre[1] - 0.5
        )
    return lay(width, height, box, bucket.size)


def _dice(content: str, purpose: str, n: int) -> random.Random:
    text = f"{content.removeprefix('sha256:')}/{purpose}/{n}"
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
