"""Where the face is: in a file's name as sd-scripts reads it, else found by OpenCV where that is installed.

NAME_cx_cy_w_h.png         centre and size in px of the file
the picture                OpenCV's frontal cascade (Viola and Jones 2001); the largest face that it sees
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from loratui.dataset.framing import Box, Frame

PACKAGE = "opencv-python-headless<5"
"""What `pip install` calls the detector; the wheels of OpenCV 5 come without cascades."""
DETECTOR = "haarcascade_frontalface_default/1"
"""Part of the key of what was found: raise the number when it is looked for otherwise."""
_NAMED = re.compile(r"_(\d+)_(\d+)_(\d+)_(\d+)$")
_LONGEST_PX = 640
_SMALLEST = 0.06
"""Faces of less than this share of the shorter side are not looked for."""


def can_see() -> bool:
    """Whether the detector is installed."""
    return importlib.util.find_spec("cv2") is not None


def named(path: Path, width: int, height: int, frame: Frame) -> Box | None:
    """The face that a file's name tells of, in fractions of the turned and mirrored picture.

    Args:
        path: of the picture.
        width: in px, after the EXIF orientation and before the turn.
        height: in px.
        frame: its turn and mirroring.
    """
    match = _NAMED.search(path.stem)
    if match is None:
        return None
    x, y, wide, high = (int(n) for n in match.groups())
    if not wide or not high or x > width or y > height:
        return None
    left, top = max(0.0, (x - wide / 2) / width), max(0.0, (y - high / 2) / height)
    right, bottom = min(1.0, (x + wide / 2) / width), min(1.0, (y + high / 2) / height)
    return placed((left, top, right, bottom), frame)


def placed(face: Box, frame: Frame) -> Box:
    """Where a face of the file lies in the turned and mirrored picture."""
    turned = Frame(box=face)
    for _ in range(frame.turn // 90):
        turned = turned.turned()
    return (turned.mirrored().box if frame.mirror else turned.box) or face


def seen(image: Image.Image) -> Box | None:
    """The largest face in a picture, in fractions of it; None when there is none, or no detector."""
    if not can_see():
        return None
    grey = image.convert("L")
    grey.thumbnail((_LONGEST_PX, _LONGEST_PX))
    least = max(20, int(_SMALLEST * min(grey.size)))
    found = _cascade().detectMultiScale(np.asarray(grey), 1.1, 6, minSize=(least, least))
    if not len(found):
        return None
    left, top, wide, high = (int(n) for n in max(found, key=lambda f: (f[2] * f[3], *map(int, f))))
    return left / grey.width, top / grey.height, (left + wide) / grey.width, (top + high) / grey.height


@cache
def _cascade() -> Any:
    import cv2

    return cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
