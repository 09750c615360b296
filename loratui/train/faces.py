"""The faces of a run's pictures, looked for once and kept beside the latents."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from loratui.config.colours import WHITE
from loratui.dataset import faces
from loratui.dataset.framing import Box
from loratui.dataset.pixels import open_rgb, turned
from loratui.errors import MissingPackageError
from loratui.train.cache import Progress, TensorStore, digest
from loratui.train.ranks import Ranks
from loratui.train.samples import Picture
from loratui.train.variants import face_key

_WHAT = "looking for faces"


def find(
    pictures: Sequence[Picture], folder: Path, progress: Progress, ranks: Ranks
) -> dict[tuple[str, int, bool], Box]:
    """`face_key` -> face, for the pictures that have one.

    Args:
        pictures: of the manifest.
        folder: of the cache.
        progress: told how far it is.
        ranks: the processes that share the work.

    Raises:
        DatasetError: a picture cannot be read.
        MissingPackageError: the detector is needed and not there.
    """
    store = TensorStore(folder / "latents")
    different = list({face_key(p): p for p in pictures if not p.placed}.values())
    if not faces.can_see() and any(_told(p) is None for p in different):
        raise MissingPackageError(
            "Faces are found by OpenCV, which is not installed.",
            f"Install it with `{sys.executable} -m pip install '{faces.PACKAGE}'`.",
        )
    mine = ranks.mine(different)
    for done, picture in enumerate(mine):
        progress(_WHAT, done, len(mine))
        key = _key(picture)
        if store.get(key) is None:
            box = _look(picture)
            store.put(key, {"face": torch.tensor(box or [], dtype=torch.float64)})
    progress(_WHAT, len(mine), len(mine))
    ranks.barrier()
    found = {}
    for picture in different:
        entry = store.get(_key(picture))
        numbers = entry["face"].tolist() if entry is not None else []
        if len(numbers) == 4:
            found[face_key(picture)] = (numbers[0], numbers[1], numbers[2], numbers[3])
    return found


def _key(picture: Picture) -> str:
    """Of what was found: by the detector when the name says nothing."""
    paper = (picture.paper,) if picture.paper != WHITE else ()
    return digest("face", *face_key(picture), _told(picture) or faces.DETECTOR, *paper)


def _look(picture: Picture) -> Box | None:
    told = _told(picture)
    if told is not None:
        return told
    return faces.seen(turned(open_rgb(picture.path, 640, picture.paper), picture.frame))


def _told(picture: Picture) -> Box | None:
    """What the name says."""
    width, height = picture.size
    if picture.frame.turn in (90, 270):
        width, height = height, width
    return faces.named(picture.path, width, height, picture.frame)
