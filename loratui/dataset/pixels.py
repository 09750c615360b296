"""From a picture file to the pixels that are trained on: one path, shared by the trainer and every preview.

EXIF orientation is applied, transparency is composited on the colour of `data.background`, the first frame
of an animation is taken, 16-bit and float greys are brought to 8 bits, colour profiles are obeyed, everything
becomes sRGB.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from loratui.config.colours import WHITE, Paper
from loratui.dataset.buckets import Bucket, Size, place
from loratui.dataset.colour import to_srgb
from loratui.dataset.formats import open_image
from loratui.dataset.framing import PLAIN, Frame
from loratui.errors import DatasetError

_ENLARGED = 16
"""Beyond so many times the area, a crop is scaled alone: the whole would take gigabytes."""
ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_CLOCKWISE = {  # Pillow counts the other way round
    90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8 from what the header holds, without decoding the picture.

    `Image.getexif` would decode a whole PNG to look behind the pixels; only what stands before counts here.
    Pillow itself turns TIFFs, size and pixels; so does the decoder of JPEG XL, where the EXIF block repeats
    what was done, unless the file wraps a whole JPEG.
    """
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1
    raw = image.info.get("exif")
    value: Any = 1
    if isinstance(raw, bytes) and raw:
        exif = Image.Exif()
        try:
            exif.load(raw)
            value = exif.get(ORIENTATION_TAG, 1)
        except Exception:  # Pillow raises many kinds for a broken EXIF block; the picture is fine
            value = 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def oriented_size(image: Image.Image) -> Size:
    """(width, height) in px after the EXIF orientation."""
    width, height = image.size
    return (height, width) if orientation(image) >= 5 else (width, height)


def trained_pixels(
    path: Path, bucket: Bucket | Size, frame: Frame = PLAIN, paper: Paper = WHITE
) -> Image.Image:
    """What the trainer sees of a picture: turned and mirrored as its frame says, scaled, cropped. 8-bit RGB.

    Args:
        path: of the picture.
        bucket: from `framing.framed` with the same frame, or a plain (width, height) in px.
        frame: its turn and mirroring; the crop is the bucket's.
        paper: shows through transparent pixels.

    Raises:
        DatasetError: the file cannot be read or decoded; the message says why.
    """
    return fit(turned(open_rgb(path, paper=paper), frame), bucket)


def turned(image: Image.Image, frame: Frame) -> Image.Image:
    """An upright picture turned and mirrored as its frame says."""
    if frame.turn:
        image = image.transpose(_CLOCKWISE[frame.turn])
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if frame.mirror else image


def open_rgb(path: Path, least: int = 0, paper: Paper = WHITE) -> Image.Image:
    """Decode a picture as the trainer sees it: upright, opaque, 8-bit RGB.

    Args:
        path: of the picture.
        least: px that its longer side must keep: a JPEG may be decoded at an eighth of its size, in a
            fiftieth of the memory. 0 for all of its px.
        paper: shows through transparent pixels.

    Raises:
        DatasetError: the file cannot be read or decoded; the message says why.
    """
    with decoded(path, least) as (image, turn):
        return upright(to_rgb(image, paper), turn)


@contextmanager
def decoded(path: Path, least: int = 0) -> Iterator[tuple[Image.Image, int]]:
    """A picture file, decoded, and its EXIF orientation; whatever goes wrong is told as one kind of error.

    Args:
        path: of the picture.
        least: as `open_rgb`.

    Raises:
        DatasetError: the file cannot be read or decoded; the message says why.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # size limits are judged by the scan
            with open_image(path) as image:
                turn = orientation(image)  # before the pixels: decoding may find another, behind them
                # not CMYK: its inks are mixed by the profile, which asks for all four of them
                if least and image.format in {"JPEG", "MPO"} and image.mode in {"RGB", "L"}:
                    scale = least / max(image.size)
                    image.draft(image.mode, (int(image.width * scale), int(image.height * scale)))
                image.load()
                yield image, turn
    except DatasetError as error:
        if error.message.startswith("is a "):  # a format without a decoder here, said of the picture
            raise DatasetError(f"{path} {error.message}", error.advice, error.problems) from error
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is not there any more.", "Scan the dataset again.") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError ...
        raise DatasetError(
            f"{path} cannot be decoded: {reason(error)}.",
            "Replace the picture or move it out of the dataset.",
        ) from error


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """What was made of a picture, turned as its EXIF orientation says."""
    turn = _TURNS.get(orientation)
    return image.transpose(turn) if turn is not None else image


def reason(error: BaseException) -> str:
    """One short line for what a decoder raised."""
    text = str(error).strip().splitlines()
    first = text[0] if text else type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        first = error.strerror
    if first.startswith("cannot identify image file"):
        return "not a picture, or damaged at its start"
    return first.rstrip(".")[:160]


def to_rgb(image: Image.Image, paper: Paper = WHITE) -> Image.Image:
    """Any decoded picture as opaque 8-bit sRGB; `paper` shows through transparent pixels."""
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        if image.mode not in {"LA", "La", "L"}:  # a profile of greys says nothing of three colours
            opaque = rgba.convert("RGB")
            opaque.info = image.info
            coloured = to_srgb(opaque)
            coloured.putalpha(rgba.getchannel("A"))
            rgba = coloured
        sheet = Image.new("RGBA", rgba.size, (*paper, 255))
        return Image.alpha_composite(sheet, rgba).convert("RGB")
    if image.mode in {"I", "I;16", "I;16L", "I;16B", "I;16N"}:
        return _grey(image.convert("I"), 255.0 / 65535.0)
    if image.mode == "F":
        top = image.getextrema()[1]
        return _grey(image, 255.0 if isinstance(top, float) and top <= 1.0 else 1.0)
    if image.mode in {"L", "CMYK", "LAB"}:
        return to_srgb(image)
    colours = image.convert("RGB")
    colours.info = image.info
    return to_srgb(colours)


def _grey(image: Image.Image, factor: float) -> Image.Image:
    scaled = image.convert("F").point(lambda v: v * factor + 0.5)
    return scaled.convert("L").convert("RGB")


def fit(image: Image.Image, bucket: Bucket | Size) -> Image.Image:
    """Scale an upright picture as its bucket says and keep the bucket's part of it.

    Args:
        image: from `open_rgb`, turned; or a mask of it.
        bucket: a `Bucket` of this picture (its crop is obeyed), or a plain (width, height) in px.
    """
    if not isinstance(bucket, Bucket):
        bucket = place(image.width, image.height, bucket)
    width, height = bucket.scaled
    if width * height > _ENLARGED * image.width * image.height:
        # a small part of a picture, much enlarged: only that part is made
        left, top, right, bottom = bucket.crop
        x, y = image.width / width, image.height / height
        part = (left * x, top * y, min(right * x, image.width), min(bottom * y, image.height))
        return image.resize(bucket.size, Image.Resampling.LANCZOS, box=part)
    if image.size != bucket.scaled:
        image = image.resize(bucket.scaled, Image.Resampling.LANCZOS)
    if bucket.crop != (0, 0, *bucket.scaled):
        image = image.crop(bucket.crop)
    return image
