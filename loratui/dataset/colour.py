"""Colours of a picture as sRGB, whatever profile its file carries.

A profile that says the same as sRGB, within rounding, changes nothing: most pictures carry one of those, and
their pixels are taken as they are.
"""

from __future__ import annotations

import io
import threading
from functools import lru_cache
from typing import Any

from PIL import Image

_SPACES = {"RGB": "RGB", "RGBA": "RGB", "L": "GRAY", "LA": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}
_SAME = 2
"""Levels of 255 that a profile may differ from sRGB and still count as it."""
_lock = threading.Lock()


def to_srgb(image: Image.Image) -> Image.Image:
    """RGB in sRGB of an opaque picture in mode RGB, L, CMYK or LAB; others are only converted.

    A profile that is damaged, or of another kind of colours than the pixels, is passed over.
    """
    transform = _transform_of(image)
    if transform is None:
        return image.convert("RGB")
    from PIL import ImageCms

    with _lock:  # one transform must not be used by two threads
        made = ImageCms.applyTransform(image, transform)
    assert made is not None
    return made


def _transform_of(image: Image.Image) -> Any:
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        return _transform(b"", "LAB")
    if not isinstance(profile, bytes) or not profile or image.mode not in {"RGB", "L", "CMYK"}:
        return None
    return _transform(profile, image.mode)


@lru_cache(16)
def _transform(profile: bytes, mode: str) -> Any:
    """From a profile to sRGB; None where there is nothing to do."""
    from PIL import ImageCms  # here, so that the app's first frame does not wait for it

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile) if profile else ImageCms.createProfile("LAB"))
        if profile and source.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(
            source,
            target,
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode in {"RGB", "L"} and _is_same(transform, mode):
        return None
    return transform


def _is_same(transform: Any, mode: str) -> bool:
    """Whether a transform leaves a cube of colours as they are."""
    from PIL import ImageCms

    levels = range(0, 256, 51)
    probe = Image.new(mode, (216 if mode == "RGB" else 256, 1))
    probe.putdata(
        [(r, g, b) for r in levels for g in levels for b in levels] if mode == "RGB" else list(range(256))
    )
    made = ImageCms.applyTransform(probe, transform)
    if made is None:
        return True
    wanted, found = probe.convert("RGB").tobytes(), made.tobytes()
    return all(abs(a - b) <= _SAME for a, b in zip(wanted, found, strict=True))
