"""Settings kept as a preset of the user's own: what differs from the preset they were made from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratui.config.docs import field_table, sections
from loratui.config.presets import Preset, load_preset, preset_paths
from loratui.config.toml import quote, value_text
from loratui.config.write import write_text
from loratui.errors import ConfigError
from loratui.paths import config_dir, presets_dirs

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,60}")
_OWN = frozenset({"model.base"})
"""What is a project's own and stands in no preset."""


@dataclass(frozen=True, slots=True)
class About:
    """The head of a preset.

    Attributes:
        title: for a list.
        about: what it is for.
        goal: as in `Preset`.
        family: as in `Preset`.
        memory_gib: as in `Preset`.
    """

    title: str = ""
    about: str = ""
    goal: str = ""
    family: str = ""
    memory_gib: float = 0.0


def keep_path(name: str, project_root: Path | None) -> Path:
    """Where a preset of this name is kept: in the project, or without one in the config folder.

    Raises:
        ConfigError: it is no name for a preset, or that of one that comes with loratui.
    """
    if not _NAME.fullmatch(name) or name.endswith(".toml"):
        raise ConfigError(
            f"{name!r} is no name for a preset.", "Take letters, digits, - and _, as in my-style-12gb."
        )
    if (presets_dirs()[0] / f"{name}.toml").exists():
        raise ConfigError(f"{name} comes with loratui.", "Take another name, so that both can be chosen.")
    folder = project_root if project_root is not None else config_dir()
    return folder / "presets" / f"{name}.toml"


def parent_of(preset: Preset | None, target: Path, project_root: Path | None) -> Preset | None:
    """The preset that `target` may build on: found wherever `target` is, and not `target` itself.

    A preset in the config folder serves all projects, so it builds on none of a single project; the one
    that such a preset extends is taken instead.
    """
    shipped = presets_dirs()[0]
    while preset is not None:
        near = preset.path.parent in {shipped, config_dir() / "presets", target.parent}
        if near and preset.path != target and preset_paths(project_root).get(preset.name) == preset.path:
            return preset
        preset = load_preset(preset.extends, project_root) if preset.extends else None
    return None


def keep_text(about: About, parent: Preset | None, values: Mapping[str, Any]) -> str:
    """The file of a preset: its head, and the settings that differ from its parent's, or the defaults.

    Args:
        about: the head.
        parent: what it extends.
        values: dotted path -> value, of every setting.
    """
    lines = ["[preset]"]
    if parent is not None:
        lines.append(f"extends = {quote(parent.name)}")
    lines += [
        f"{key} = {quote(value)}"
        for key, value in (
            ("title", about.title),
            ("about", about.about),
            ("goal", about.goal),
            ("family", about.family),
        )
        if value
    ]
    if about.memory_gib:
        lines.append(f"memory_gib = {about.memory_gib:g}  # derived: the class that the plan's estimate fits")
    table = field_table()
    before = parent.values if parent is not None else {}
    own = {
        path: value
        for path, value in values.items()
        if path in table and path not in _OWN and value != before.get(path, table[path].default)
    }
    for section in sections():
        keys = [path for path in table if path in own and table[path].section == section]
        if keys:
            lines += ["", f"[{section}]", *(f"{table[k].key} = {value_text(own[k])}" for k in keys)]
    return "\n".join(lines) + "\n"


def keep_preset(
    target: Path,
    about: About,
    preset: Preset | None,
    values: Mapping[str, Any],
    project_root: Path | None = None,
) -> Preset:
    """Write settings as a preset and read it back.

    Args:
        target: from `keep_path`; a file that is there is replaced.
        about: the head.
        preset: what the settings were made from.
        values: dotted path -> value, of every setting.
        project_root: whose presets count, too.

    Raises:
        ConfigError: the folder cannot be written.
    """
    text = keep_text(about, parent_of(preset, target, project_root), values)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{target.parent} cannot be made: {error.strerror}.", "Check who may write there."
        ) from None
    write_text(target, text)
    return load_preset(target.stem, project_root)
