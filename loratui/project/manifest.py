"""manifest.jsonl: the data set as it was when a run was launched, one JSON object a picture."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from loratui.config.colours import WHITE
from loratui.config.schema import DataConfig, RunConfig
from loratui.dataset.framing import Grids
from loratui.dataset.masks import BESIDE as MASK_ENDING
from loratui.dataset.masks import alpha_in
from loratui.dataset.scan import Picture, Scan, buckets_of_picture
from loratui.errors import DatasetError
from loratui.plan.held import held_back
from loratui.project.regularisation import class_pictures, seeds
from loratui.project.weighing import weights

if TYPE_CHECKING:
    from loratui.project.project import Project
    from loratui.runs.directory import RunDir

__all__ = ["MASK_ENDING", "content_hash", "rows", "write"]


def write(run: RunDir, project: Project, config: RunConfig, scan: Scan | None = None) -> int:
    """Write a run's manifest.

    Args:
        run: the run directory.
        project: whose pictures are taken.
        config: settings of the buckets and repeats.
        scan: the project's scan, when there is one already.

    Returns:
        The count of rows.

    Raises:
        DatasetError: a picture vanished since the scan, or the file cannot be written.
    """
    pictures = (scan or project.scan(config.data)).pictures
    held = held_back(pictures, config.objective.validation_share, config.objective.seed)
    weighed = {str(path): value for path, value in weights(project.root).items()}
    found = [
        row
        | ({"held": True} if row["rel"] in held else {})
        | ({"weight": weighed[row["path"]]} if row["path"] in weighed else {})
        for row in rows(pictures, config, project.trigger)
    ]
    of_class = class_pictures(project, config, pictures)
    for row in rows(of_class, config, seeds=seeds(config, of_class)):
        found.append(row | {"weight": config.data.reg_weight, "reg": True})
    lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in found]
    try:
        with open(run.manifest_path, "w", encoding="ascii", newline="\n") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DatasetError(
            f"{run.manifest_path} cannot be written: {error.strerror}.",
            "Free some space, or check the folder's mode.",
        ) from error
    return len(lines)


def rows(
    pictures: tuple[Picture, ...], config: RunConfig, trigger: str = "",
    seeds: Mapping[Path, int] = MappingProxyType({}),
) -> list[dict[str, Any]]:  # fmt: skip
    """The manifest's objects: one for each picture and resolution that it is trained at.

    `repeats` is the folder's own: the trainer multiplies it by data.repeats. Pictures without a caption get
    the trigger. Names that are not UTF-8 survive as lone surrogates, escaped by JSON. Sizes are those after
    the turn; `turn`, `mirror`, `mask`, `paper` (behind transparent pixels) and `placed` (a crop made by
    hand) stand only where there is one.

    Args:
        pictures: to be trained on.
        config: settings.
        trigger: caption of pictures that have none.
        seeds: of pictures that the trainer draws first: they have a `seed` in the place of a hash.
    """
    grids = Grids(config.data)
    found: list[dict[str, Any]] = []
    for picture in pictures:
        width, height = picture.frame.size(picture.width, picture.height)
        caption, lines = _spoken(picture, config.data)
        seed, extra = seeds.get(picture.path), _extra(picture, config)
        digest = content_hash(picture.path) if seed is None else ""
        extra |= {} if seed is None else {"seed": seed}
        for bucket in buckets_of_picture(picture, grids):
            found.append(
                {
                    "path": str(picture.path),
                    "rel": picture.rel,
                    "hash": digest,
                    "width": width,
                    "height": height,
                    "caption": caption or trigger,
                    "repeats": picture.repeats,
                    "bucket": list(bucket.size),
                    "scaled": list(bucket.scaled),
                    "crop": list(bucket.crop),
                    **lines,
                    **extra,
                }
            )
    return found


def _spoken(picture: Picture, data: DataConfig) -> tuple[str, dict[str, Any]]:
    """The caption, and the lines that one is drawn of."""
    if data.caption_lines == "all" or not picture.lines:
        return picture.caption, {}
    return picture.lines[0], {"lines": list(picture.lines)} if data.caption_lines == "random" else {}


def _extra(picture: Picture, config: RunConfig) -> dict[str, Any]:
    """What only some pictures have."""
    out: dict[str, Any] = {}
    if config.data.paper != WHITE and alpha_in(picture.path):
        out["paper"] = list(config.data.paper)
    if picture.frame.turn:
        out["turn"] = picture.frame.turn
    if picture.frame.mirror:
        out["mirror"] = True
    if picture.frame.box is not None:
        out["placed"] = True
    if config.objective.masked and picture.mask is not None:
        path = picture.mask.path
        out |= {"mask": str(path), "mask_hash": content_hash(path)}
        if picture.mask.kind == "alpha":
            out["mask_alpha"] = True
    return out


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.", "Scan the data set again.") from error
