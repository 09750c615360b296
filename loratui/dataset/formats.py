"""Opening pictures of all formats: HEIC and JPEG XL through plugins that are loaded when such a file is met.

The plugins are the extra `formats`. A file is known by its first bytes, whatever its name says.
"""

from __future__ import annotations

import importlib
import os
import threading
from pathlib import Path
from typing import IO

from PIL import Image, features

from loratui.dataset.jxl import SIGNATURES
from loratui.errors import DatasetError, Problem

EXTRA = "pip install 'loratui[formats]'"
_HEIF = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_AVIF = frozenset({b"avif", b"avis"})
_NAMES = {"heif": "HEIC", "jxl": "JPEG XL", "avif": "AVIF"}
_MODULES = {"heif": "pillow_heif", "jxl": "pillow_jxl"}

_lock = threading.Lock()
_loaded: dict[str, bool] = {}


def open_image(path: Path) -> Image.Image:
    """`Image.open`, with the plugin that the file needs.

    Raises:
        DatasetError: there is no decoder for this format here; it says how to get one.
        OSError: and all else that Pillow raises for what it cannot read.
    """
    with open(path, "rb") as file:
        kind = kind_of(file)
    if kind:
        need(path, kind)
    return Image.open(path)


def kind_of(file: IO[bytes]) -> str:
    """`heif`, `avif` or `jxl` by the first bytes of a file, else empty."""
    head = file.read(64)
    if head.startswith(SIGNATURES):
        return "jxl"
    if head[4:8] != b"ftyp":
        return ""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    if any(brand in _AVIF for brand in brands):
        return "avif"
    return "heif" if any(brand in _HEIF for brand in brands) else ""


def need(path: Path, kind: str) -> None:
    """See that a format can be read.

    Raises:
        DatasetError: it cannot; the problem's code is `no-decoder`.
    """
    if can_read(kind):
        return
    message = f"is a {_NAMES[kind]} picture, which cannot be read here."
    advice = "Install Pillow 11.3 or newer from its wheel." if kind == "avif" else f"Install it: {EXTRA}"
    problem = Problem(os.fspath(path), "no-decoder", "error", message, advice=advice)
    raise DatasetError(message, advice, (problem,))


def can_read(kind: str) -> bool:
    """Whether `heif`, `avif` or `jxl` can be decoded by this interpreter."""
    return bool(features.check("avif")) if kind == "avif" else _plugin(kind)


def _plugin(kind: str) -> bool:
    """Load a plugin once; whether it is there."""
    with _lock:
        if kind not in _loaded:
            try:
                module = importlib.import_module(_MODULES[kind])
                if kind == "heif":  # the other one registers itself
                    module.register_heif_opener(thumbnails=False)
                _loaded[kind] = True
            except Exception:  # missing, or built for another Pillow: either way it cannot be used
                _loaded[kind] = False
        return _loaded[kind]
