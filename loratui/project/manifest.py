"""manifest.jsonl: the data set as it was when a run was launched, one JSON object a picture."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratui.config.schema import RunConfig
from loratui.dataset.buckets import assign, buckets_of
from loratui.dataset.scan import Picture, Scan
from loratui.errors import DatasetError
from loratui.project.regularisation import class_pictures

if TYPE_CHECKING:
    from loratui.project.project import Project
    from loratui.runs.directory import RunDir


MASK_ENDING = "-masklabel.png"
"""What a mask beside a picture is called after its stem (OneTrainer's name)."""


def write(run: RunDir, project: Project, config: RunConfig, scan: Scan | None = None) -> int:
    """Write a run's manifest.

    Args:
        run: the run directory.
        project: whose pictures are taken.
        config: settings of the buckets and repeats.
        scan: the project's scan, when there is one already.

    Returns:
        The count of pictures.

    Raises:
        DatasetError: a picture vanished since the scan, or the file cannot be written.
    """
    pictures = (scan or project.scan(config.data)).pictures
    found = rows(pictures, config, project.trigger)
    for row in rows(class_pictures(project, config, pictures), config):
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


def rows(pictures: tuple[Picture, ...], config: RunConfig, trigger: str = "") -> list[dict[str, Any]]:
    """The manifest's objects.

    `repeats` is the folder's own: the trainer multiplies it by data.repeats. Pictures without a caption get
    the trigger. Names that are not UTF-8 survive as lone surrogates, escaped by JSON.
    """
    buckets = buckets_of(config.data)
    found: list[dict[str, Any]] = []
    for picture in pictures:
        bucket = assign(picture.width, picture.height, buckets)
        found.append(
            {
                "path": str(picture.path),
                "rel": picture.rel,
                "hash": content_hash(picture.path),
                "width": picture.width,
                "height": picture.height,
                "caption": picture.caption or trigger,
                "repeats": picture.repeats,
                "bucket": list(bucket.size),
                "scaled": list(bucket.scaled),
                "crop": list(bucket.crop),
            }
        )
        mask = picture.path.with_name(picture.path.stem + MASK_ENDING)
        if config.objective.masked and mask.is_file():
            found[-1] |= {"mask": str(mask), "mask_hash": content_hash(mask)}
    return found


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
