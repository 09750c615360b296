"""A project's settings for another trainer: its base, folders, prompts and trigger put in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loratui.config.load import as_dict
from loratui.config.trainers.preset import export_files
from loratui.config.trainers.report import Folder
from loratui.errors import LoratuiError
from loratui.project.regularisation import class_folder

if TYPE_CHECKING:
    from loratui.config.schema import RunConfig
    from loratui.project.project import Project

TRAINERS = ("sd-scripts", "ai-toolkit")


def for_trainer(
    project: Project, config: RunConfig, trainer: str, family: str = ""
) -> tuple[dict[str, str], list[str]]:
    """The files of another trainer, by name, and the settings it has no key for.

    Args:
        project: whose pictures and prompts they shall name.
        config: resolved settings.
        trainer: one of `TRAINERS`.
        family: of the base; empty asks the base.
    """
    values = as_dict(config)
    if not values["model.base"]:
        values["model.base"] = project.base
    if not values["samples.prompts"]:
        values["samples.prompts"] = tuple(project.prompts)
    name = values["saving.name"] or project.name
    folders = picture_folders(project, config)
    return export_files(
        trainer, values, folders, name, project.trigger, family or base_family(project, config)
    )


def base_family(project: Project, config: RunConfig) -> str:
    """The family of the base, empty when the base is not there to be asked."""
    from loratui.project.start import find_base

    try:
        return find_base(project, config)[1]
    except LoratuiError:
        return "" if config.model.family == "auto" else config.model.family


def picture_folders(project: Project, config: RunConfig) -> list[Folder]:
    """Every folder that holds pictures: other trainers do not look into folders below."""
    found: dict[tuple[Path, int], str] = {}
    captions = {source.path: source.caption for source in project.scan_sources()}
    for picture in project.scan(config.data).pictures:
        parent = picture.path.parent
        caption = next((text for top, text in captions.items() if parent.is_relative_to(top)), "")
        found.setdefault((parent, picture.repeats * config.data.repeats), caption)
    folders = [Folder(str(path), repeats, caption) for (path, repeats), caption in found.items()]
    of_class = class_folder(project, config)
    if of_class is not None:
        folders.append(Folder(str(of_class), 1, "", True))
    return folders
