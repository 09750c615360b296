"""Makes the collection that `benchmarks/studio.py` measures: real JPEG and PNG files with captions.

500 pictures have the size of photos (12 to 24 megapixels); the rest are small. Every twentieth caption is a
sentence, every fiftieth is missing, the others are 8 to 20 tags of 400, the common ones common.
"""

from __future__ import annotations

import os
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = 500
_PHOTO_SIZES = ((4000, 3000), (4608, 3456), (3264, 4912), (5184, 3456), (4000, 6000))
_SMALL_SIZES = ((256, 256), (320, 256), (256, 384), (384, 256), (240, 320), (448, 256))
_CHUNK = 250
_WORDS = (
    "long short red blue green dark pale small large open wooden old bright wet plain striped",
    (
        "hair eyes dress hat sky door street tree grass shirt gloves background light shadow water wall "
        "flower chair book window boots coat bird cat dog"
    ),
)
TAGS = [f"{a} {b}" for a in _WORDS[0].split() for b in _WORDS[1].split()]


def name_of(number: int) -> str:
    """File name of a picture; long enough not to fit below a thumbnail."""
    suffix = "png" if number % 20 and number % 7 == 3 else "jpg"
    return f"{number:06}-a-picture-with-a-long-name.{suffix}"


def _is_photo(number: int, count: int) -> bool:
    every = max(20, count // PHOTOS)
    return number % every == 0 and number // every < PHOTOS


def _picture(number: int, size: tuple[int, int], coarse: int) -> Image.Image:
    """Soft blobs of colour: decoded and encoded like a photo, never twice the same."""
    noise = np.random.default_rng(number).integers(0, 256, (coarse, coarse, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR)


def _caption(rng: random.Random) -> str:
    chosen = dict.fromkeys(TAGS[min(int(rng.expovariate(0.01)), 399)] for _ in range(rng.randint(8, 20)))
    return ", ".join(["sks", *chosen])


def _make(folder: str, start: int, stop: int, count: int) -> int:
    """A run of pictures with their captions."""
    for number in range(start, stop):
        path = Path(folder) / name_of(number)
        if path.exists():
            continue
        rng = random.Random(number)
        part = path.with_name(f".{path.name}.part")
        if _is_photo(number, count):
            image = _picture(number, _PHOTO_SIZES[number % len(_PHOTO_SIZES)], 96)
            image.save(part, "JPEG", quality=88)
        elif path.suffix == ".png":
            _picture(number, rng.choice(_SMALL_SIZES), 12).save(part, "PNG", compress_level=1)
        else:
            _picture(number, rng.choice(_SMALL_SIZES), 16).save(part, "JPEG", quality=85)
        if number % 50 != 7:
            sentence = "A photo of sks in a street with trees, taken in the morning. The light is soft."
            text = f"{sentence} It is number {number}." if number % 20 == 11 else _caption(rng)
            path.with_suffix(".txt").write_text(text + "\n")
        part.replace(path)  # last: a picture that is there is finished
    return stop - start


def make(root: Path, count: int) -> Path:
    """A project with `count` pictures; what is there already is kept.

    Returns:
        The folder of the project.
    """
    folder = root / "dataset"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "loratui.toml").write_text('[project]\nname = "studio"\nbase = "demo"\ntrigger = "sks"\n')
    done = root / f".made-{count}"
    if done.exists():
        return root
    ready = 0
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        starts = range(0, count, _CHUNK)
        jobs = [pool.submit(_make, str(folder), a, min(count, a + _CHUNK), count) for a in starts]
        for job in jobs:
            ready += job.result()
            print(f"\rmaking {ready:,} of {count:,}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    done.touch()
    return root
