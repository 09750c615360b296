"""Copies of pictures and masks with turn, mirroring and crop carried out, for trainers that know no notes.

The pixels are those the trainer is given before they are scaled; nothing is resized. Always PNG: a JPEG would
lose a little with every export.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image

from loratui.config.colours import WHITE, Paper
from loratui.dataset.formats import open_image
from loratui.dataset.framing import Box, Frame
from loratui.dataset.masks import Mask, open_mask
from loratui.dataset.pixels import open_rgb, turned


def baked_picture(path: Path, frame: Frame, box: Box | None = None, paper: Paper = WHITE) -> bytes:
    """A picture as PNG: upright, opaque, turned, mirrored, cut.

    Args:
        path: of the picture.
        frame: its turn and mirroring.
        box: what is kept of the turned picture, in fractions; None keeps all.
        paper: shows through transparent pixels.

    Raises:
        DatasetError: it cannot be decoded.
    """
    return _png(_cut(turned(open_rgb(path, paper=paper), frame), box))


def framed_picture(path: Path, frame: Frame, paper: Paper = WHITE) -> Image.Image:
    """What there is to see of a picture: upright, opaque, turned, mirrored, cut by hand. 8-bit RGB.

    `paper` shows through transparent pixels.

    Raises:
        DatasetError: it cannot be decoded.
    """
    return _cut(turned(open_rgb(path, paper=paper), frame), frame.box)


def baked_mask(mask: Mask, picture: Path, frame: Frame, box: Box | None = None) -> bytes:
    """A mask as grey PNG, of the size of its baked picture.

    Raises:
        DatasetError: mask or picture cannot be decoded.
    """
    grey = open_mask(mask)
    if mask.kind == "file" and (size := open_rgb(picture).size) != grey.size:
        grey = grey.resize(size, Image.Resampling.LANCZOS)
    return _png(_cut(turned(grey, frame), box))


def fitted_mask(mask: bytes | None, picture: Path) -> bytes:
    """A mask as grey PNG of the very size of its picture's file, as sd-scripts asks for.

    Without a mask it is white: all of the picture counts. A mask or a picture that cannot be decoded gives
    the mask as it is, or a white pixel.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(picture) as image:
                size = image.size
            if mask is None:
                return _png(Image.new("L", size, 255))
            with Image.open(io.BytesIO(mask)) as found:
                if found.size == size and found.format == "PNG":
                    return mask
                return _png(found.convert("L").resize(size, Image.Resampling.LANCZOS))
    except Exception:  # decoders raise many kinds
        return mask if mask is not None else _png(Image.new("L", (1, 1), 255))


def _cut(image: Image.Image, box: Box | None) -> Image.Image:
    if box is None:
        return image
    width, height = image.size
    left, top = min(width - 1, round(box[0] * width)), min(height - 1, round(box[1] * height))
    return image.crop((left, top, max(left + 1, round(box[2] * width)), max(top + 1, round(box[3] * height))))


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.info.clear()  # no profile and no EXIF: the pixels are as they are trained on
    image.save(out, "PNG", compress_level=4)
    return out.getvalue()
