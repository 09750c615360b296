"""Prior preservation: pictures of the class in general, trained beside those of the one thing.

Ruiz et al. 2022, arXiv:2208.12242 (DreamBooth), section 3.2. The pictures are seen as often as the project's
own, as sd-scripts does it; their loss has a weight of its own (`data.reg_weight`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loratui.config.schema import RunConfig
from loratui.dataset.scan import Picture, Source, scan
from loratui.errors import DatasetError

if TYPE_CHECKING:
    from loratui.project.project import Project


def class_folder(project: Project, config: RunConfig) -> Path | None:
    """The folder of class pictures, absolute; None when there is none."""
    if not config.data.reg_dir:
        return None
    return Path(os.path.abspath(project.root / Path(config.data.reg_dir).expanduser()))  # noqa: PTH100


def class_pictures(project: Project, config: RunConfig, own: Sequence[Picture]) -> tuple[Picture, ...]:
    """The class pictures with their repeats raised until they are seen as often as the project's own.

    Raises:
        DatasetError: the folder is missing, holds no picture, or is one of the project's own sources.
    """
    folder = class_folder(project, config)
    if folder is None:
        return ()
    if not folder.is_dir():
        raise DatasetError(
            f"The folder of class pictures {folder} does not exist.",
            "Set data.reg_dir to a folder of pictures of the class, or empty to train without.",
        )
    found = list(scan([Source(folder)], data=config.data).pictures)
    if not found:
        raise DatasetError(f"{folder} holds no usable picture.", "Put pictures of the class there.")
    shared = {p.path for p in own} & {p.path for p in found}
    if shared:
        raise DatasetError(
            f"{len(shared)} pictures are both the project's own and of the class, such as {min(shared)}.",
            "Keep class pictures in a folder that is no source of the project.",
        )
    repeats = [p.repeats for p in found]
    wanted = sum(p.repeats for p in own)
    for n in range(max(0, wanted - sum(repeats))):
        repeats[n % len(repeats)] += 1
    return tuple(replace(p, repeats=r) for p, r in zip(found, repeats, strict=True))
