"""A process that decodes pictures for their figures, apart from the app: what a file does to it harms nobody.

One JSON object a line on stdin, `{"path": ..., "thumb": ..., "paper": ...}`, one a line back. Its memory is
limited by `RLIMIT_AS`; the parent kills it when a file takes too long.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from loratui.config.colours import WHITE, Paper, read_paper
from loratui.dataset import faces
from loratui.dataset.duplicates import perceptual_hash
from loratui.dataset.formats import open_image
from loratui.dataset.framing import PLAIN
from loratui.dataset.pixels import open_rgb, reason, to_rgb
from loratui.dataset.quality import measure
from loratui.errors import DatasetError

_DRAFT = (512, 512)
THUMB_PX = 256
"""Longest side of a thumbnail."""


def figures(path: Path, thumb: Path | None = None, paper: Paper = WHITE) -> dict[str, Any]:
    """Quality figures and hash of a picture, and its thumbnail where one is wanted.

    `paper` shows through transparent pixels.

    Raises:
        DatasetError: it cannot be decoded.
    """
    image, full = _open(path, paper)
    found: dict[str, Any] = measure(image).as_dict()
    found["aspect"] = round(min(full) / max(full), 4)
    found["phash"] = perceptual_hash(image)
    if thumb is not None:
        _thumbnail(image, thumb)
    return found


def face(path: Path, paper: Paper = WHITE) -> tuple[float, ...]:
    """The largest face of a picture as it lies in its file, in fractions of it; empty where there is none.

    Raises:
        DatasetError: it cannot be decoded.
    """
    image, (width, height) = _open(path, paper)
    if (image.width > image.height) != (width > height):
        width, height = height, width
    return faces.named(path, width, height, PLAIN) or faces.seen(image) or ()


def _open(path: Path, paper: Paper) -> tuple[Image.Image, tuple[int, int]]:
    """The upright picture, a large JPEG at a fraction of its size, and its full size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(path) as image:
                full = image.size
                if image.format in {"JPEG", "MPO"} and image.mode in {"RGB", "L"}:
                    image.draft("RGB", _DRAFT)
                    image.load()
                    return to_rgb(ImageOps.exif_transpose(image)), full
    except (MemoryError, DatasetError):
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError ...
        raise DatasetError(f"{path} cannot be decoded: {reason(error)}.") from error
    rgb = open_rgb(path, paper=paper)
    return rgb, rgb.size


def _thumbnail(image: Image.Image, thumb: Path) -> None:
    small = image.copy()
    small.thumbnail((THUMB_PX, THUMB_PX), Image.Resampling.BOX, reducing_gap=2.0)
    thumb.parent.mkdir(parents=True, exist_ok=True)
    temporary = thumb.with_name(f".{os.getpid()}.tmp")
    small.save(temporary, "JPEG", quality=85)
    temporary.replace(thumb)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    path = Path(os.fsdecode(bytes.fromhex(str(request["path"]))))
    thumb = os.fsdecode(bytes.fromhex(str(request.get("thumb", ""))))
    try:
        if request.get("face"):
            return {"face": face(path, read_paper(request.get("paper")))}
        return {"figures": figures(path, Path(thumb) if thumb else None, read_paper(request.get("paper")))}
    except MemoryError:
        return {"error": "needs too much memory to decode", "code": "too-large"}
    except DatasetError as error:
        memory = isinstance(error.__cause__, MemoryError)
        text = "needs too much memory to decode" if memory else error.message
        return {"error": text, "code": "too-large" if memory else "corrupt-image"}
    except OSError as error:
        return {"error": error.strerror or str(error), "code": "unreadable-file"}


def main() -> None:
    """Answer until stdin ends; argv: the memory limit in bytes."""
    limit = int(sys.argv[1])
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)
    Image.MAX_IMAGE_PIXELS = None  # the memory limit is the judge here
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
