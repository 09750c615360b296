"""Masks: which part of a picture counts. Found as other trainers leave them, or taken from the alpha channel.

    robot-masklabel.png        beside robot.jpg (OneTrainer)
    masks/robot.png            in a folder `masks` or `mask` beside the pictures (diffusion-pipe)
    masks/3_robot/robot.png    beside a kohya folder `3_robot` (as sd-scripts is told of them)
    the alpha channel          where the project says so for a picture (its note `mask` is `alpha`)

Where a mask is white the picture counts fully, where it is black not at all. A folder `masks` of which most
files have no picture of the same stem beside the folder is no mask folder: somebody trains on masks.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from loratui.dataset.buckets import Bucket
from loratui.dataset.formats import open_image
from loratui.dataset.framing import PLAIN, Frame
from loratui.dataset.pixels import decoded, fit, turned, upright
from loratui.errors import DatasetError

BESIDE = "-masklabel.png"
FOLDERS = ("masks", "mask")
KOHYA = re.compile(r"^[0-9]+_")
NOTE = "mask"
"""Under this name the history keeps that the alpha channel of a picture is its mask (`alpha`)."""


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask and where it comes from.

    Attributes:
        path: the file that holds it: of the mask, or of the picture when `kind` is alpha.
        kind: file or alpha.
    """

    path: Path
    kind: Literal["file", "alpha"] = "file"


class MaskFinder:
    """Finds masks; each folder is listed once.

    Args:
        suffixes: of pictures, lower case.
    """

    def __init__(self, suffixes: Iterable[str]) -> None:
        self._suffixes = frozenset(suffixes)
        self._known: dict[str, dict[str, Path]] = {}

    def of(self, picture: Path | str, alpha: bool = False) -> Mask | None:
        """The mask of a picture: its file, else its alpha channel where that is wanted."""
        folder = os.path.dirname(picture)  # noqa: PTH120 -- asked ten thousand times; Path.parent is slow
        found = self._known.get(folder)
        if found is None:
            found = self._known[folder] = self._look(folder)
        if found and (path := found.get(Path(picture).stem)) is not None:
            return Mask(path)
        return Mask(Path(picture), "alpha") if alpha else None

    def _look(self, folder: str) -> dict[str, Path]:
        names = _names(folder)
        above, own = os.path.split(folder)
        out: dict[str, Path] = {}
        for place in (Path(above) / name / own for name in FOLDERS if KOHYA.match(own)):
            out |= {os.path.splitext(n)[0]: place / n for n in _names(str(place)) if self._is_picture(n)}  # noqa: PTH122
        for name in FOLDERS:
            place = Path(folder) / name
            if name in names and is_mask_folder(place, names, self._suffixes):
                inner = sorted(n for n in _names(str(place)) if self._is_picture(n))
                out |= {os.path.splitext(n)[0]: place / n for n in reversed(inner)}  # noqa: PTH122
        out |= {n[: -len(BESIDE)]: Path(folder) / n for n in names if n.lower().endswith(BESIDE)}
        return out

    def _is_picture(self, name: str) -> bool:
        return _suffix(name) in self._suffixes


def holds_masks_of_folders(folder: Path) -> bool:
    """Whether a folder holds one of masks for each of some kohya folders beside it."""
    if folder.name.lower() not in FOLDERS or folder.is_symlink():
        return False
    inner = [n for n in _names(str(folder)) if KOHYA.match(n)]
    return bool(inner) and all((folder.parent / n).is_dir() for n in inner)


def is_mask_folder(folder: Path, beside: Iterable[str], suffixes: Iterable[str]) -> bool:
    """Whether a folder holds masks of the pictures beside it.

    Args:
        folder: to judge; only `masks` and `mask` can be one.
        beside: names of the files beside it.
        suffixes: of pictures, lower case.
    """
    if folder.name.lower() not in FOLDERS or folder.is_symlink():
        return False
    wanted = frozenset(suffixes)
    stems = {os.path.splitext(n)[0] for n in beside if _suffix(n) in wanted}  # noqa: PTH122
    inner = [n for n in _names(str(folder)) if _suffix(n) in wanted and not n.startswith(".")]
    known = sum(os.path.splitext(n)[0] in stems for n in inner)  # noqa: PTH122
    return bool(inner) and 2 * known >= len(inner)  # masks of pictures that went away make no pictures of it


def open_mask(mask: Mask) -> Image.Image:
    """A mask as 8-bit greys, upright.

    Raises:
        DatasetError: it cannot be read, or the picture has no alpha channel.
    """
    with decoded(mask.path) as (image, turn):
        if mask.kind == "file":
            return upright(image.convert("L"), turn)
        if not has_alpha(image):
            raise DatasetError(f"{mask.path} has no alpha channel.", "Give it a mask file instead.")
        return upright(image.convert("RGBA").getchannel("A"), turn)


def mask_pixels(mask: Mask, bucket: Bucket, frame: Frame = PLAIN) -> Image.Image:
    """The mask as it lies over the pixels that are trained on: the same turn, scale and crop.

    A mask of another size than its picture is stretched over it.
    """
    return fit(turned(open_mask(mask), frame), bucket)


def has_alpha(image: Image.Image) -> bool:
    """Whether a picture has an alpha channel or a transparent colour."""
    return image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info


def alpha_in(path: Path) -> bool:
    """Whether a picture file has an alpha channel, from its header; one that cannot be read has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(path) as image:
                return has_alpha(image)
    except Exception:  # decoders raise many kinds
        return False


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []
