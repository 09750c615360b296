"""The demo project: the bundled base, sixteen pictures of a mascot, the `demo` preset; and in a folder of it
the same pictures once more as a project without captions, to try the bundled captioners on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from loratui import demo
from loratui.errors import ProjectError
from loratui.project.project import FILE_NAME, Project

NAME = "demo"
UNCAPTIONED = "uncaptioned"
"""The folder of the copy without captions."""


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
    project = Project.create(
        root,
        base="demo",
        trigger=demo.TRIGGER,
        images=demo.pictures_path(),
        name=NAME,
        preset="demo",
        prompts=[p.replace(demo.TRIGGER, "{trigger}") for p in demo.sample_prompts()],
    )
    with contextlib.suppress(ProjectError):  # it is an extra: the demo goes without
        _uncaptioned(root / UNCAPTIONED)
    return project


def _uncaptioned(root: Path) -> None:
    """Make the project without captions, unless something lies there."""
    if root.exists():
        return
    project = Project.create(
        root, base="demo", trigger=demo.TRIGGER, name=f"{NAME}-{UNCAPTIONED}", preset=NAME
    )
    try:
        for picture in sorted(demo.pictures_path().glob("*.png")):
            shutil.copyfile(picture, project.root / "dataset" / picture.name)
    except OSError as error:
        raise ProjectError(f"{root} cannot be filled: {error.strerror}.") from error
