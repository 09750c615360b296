"""The demo project: the bundled base, sixteen pictures of a mascot, the `demo` preset."""

from __future__ import annotations

import os
from pathlib import Path

from loratui import demo
from loratui.errors import ProjectError
from loratui.project.project import FILE_NAME, Project

NAME = "demo"


def make_demo(folder: Path | str) -> Project:
    """Make the demo project, or open the one that is there.

    Raises:
        ProjectError: another project lies there, or the folder cannot be written.
    """
    root = Path(os.path.abspath(Path(folder).expanduser()))  # noqa: PTH100
    if (root / FILE_NAME).exists():
        project = Project.open(root)
        if project.base != "demo":
            raise ProjectError(
                f"{root} holds another project ({project.name}).",
                "Give another folder: `loratui demo FOLDER`.",
            )
        return project
    return Project.create(
        root,
        base="demo",
        trigger=demo.TRIGGER,
        images=demo.pictures_path(),
        name=NAME,
        preset="demo",
        prompts=[p.replace(demo.TRIGGER, "{trigger}") for p in demo.sample_prompts()],
    )
