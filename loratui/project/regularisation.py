"""Prior preservation: pictures of the class in general, trained beside those of the one thing.

Ruiz et al. 2022, arXiv:2208.12242 (DreamBooth), section 3.2. The pictures are seen as often as the project's
own, as sd-scripts does it; their loss has a weight of its own (`data.reg_weight`). They come from a folder
(`data.reg_dir`), or the base draws them before the training (`data.reg_generate`): then the manifest of a run
names those that are not there yet, with the seed to draw each with, and the trainer makes them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loratui.config.schema import RunConfig
from loratui.dataset.scan import Picture, Source, scan
from loratui.errors import DatasetError
from loratui.families.emphasis import plain

if TYPE_CHECKING:
    from loratui.project.project import Project

DRAWN = "class"
"""Folder of the project for pictures that the base draws."""
SEED_BITS = 32


def class_folder(project: Project, config: RunConfig) -> Path | None:
    """The folder of class pictures, absolute; None when there is none.

    Drawn ones have a folder for each prompt and all else that decides how they look.
    """
    data = config.data
    if data.reg_generate:
        return project.root / DRAWN / f"{_words(plain(data.reg_prompt))}-{_recipe(project, config)}"
    if not data.reg_dir:
        return None
    return Path(os.path.abspath(project.root / Path(data.reg_dir).expanduser()))  # noqa: PTH100


def class_pictures(project: Project, config: RunConfig, own: Sequence[Picture]) -> tuple[Picture, ...]:
    """The class pictures, as many and as often as the project's own are seen.

    Those that are to be drawn are among them: `seeds` tells which. Repeats are raised where there are too
    few; where there are more than are seen in an epoch, the first ones are taken.

    Raises:
        DatasetError: the folder is missing, holds no picture, or is one of the project's own sources.
    """
    folder = class_folder(project, config)
    if folder is None:
        return ()
    wanted = sum(p.repeats for p in own)
    if config.data.reg_generate:
        return _raised(_drawn(project, config, folder, wanted), wanted)
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
    return _raised(found, wanted)


def seeds(config: RunConfig, pictures: Sequence[Picture]) -> dict[Path, int]:
    """The seed of each picture that the base is still to draw."""
    if not config.data.reg_generate:
        return {}
    return {p.path: _seed(config, int(p.path.stem)) for p in pictures if not p.path.exists()}


def _raised(found: Sequence[Picture], wanted: int) -> tuple[Picture, ...]:
    taken: list[Picture] = []
    for picture in found:
        if sum(p.repeats for p in taken) >= wanted:
            break
        taken.append(picture)
    repeats = [p.repeats for p in taken]
    for n in range(max(0, wanted - sum(repeats))):
        repeats[n % len(repeats)] += 1
    return tuple(replace(p, repeats=r) for p, r in zip(taken, repeats, strict=True))


def _drawn(project: Project, config: RunConfig, folder: Path, wanted: int) -> list[Picture]:
    """What is there of them, and what will be: squares of the training resolution."""
    there = {p.path: p for p in scan([Source(folder)], data=config.data).pictures} if folder.is_dir() else {}
    side, caption = config.data.resolution // 8 * 8, plain(config.data.reg_prompt)
    pictures = []
    for n in range(min(config.data.reg_generate, wanted)):
        path = folder / f"{n:05d}.png"
        rel = path.relative_to(project.root).as_posix()
        pictures.append(
            replace(there[path], rel=rel)
            if path in there
            else Picture(path, rel, side, side, caption, None, 1, folder)
        )
    return pictures


def _recipe(project: Project, config: RunConfig) -> str:
    """A short hash of all that decides what is drawn."""
    data, samples, model = config.data, config.samples, config.model
    parts = (
        model.base or project.base, model.vae, model.clip_skip, config.objective.prediction,
        config.objective.seed, data.reg_prompt, data.resolution, data.max_tokens, samples.negative,
        samples.steps, samples.guidance, samples.sampler, samples.weights,
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _seed(config: RunConfig, n: int) -> int:
    digest = hashlib.sha256(f"{config.objective.seed}/class/{n}".encode()).digest()
    return int.from_bytes(digest[:8], "little") % (1 << SEED_BITS)


def _words(prompt: str) -> str:
    """A prompt as part of a folder's name."""
    kept = "".join(c if c.isalnum() else "-" for c in prompt.casefold())
    return "-".join(word for word in kept.split("-") if word)[:40].rstrip("-") or "class"
