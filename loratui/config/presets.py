"""Presets: commented TOML recipes, shipped, of the user and of the project; one may extend another."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratui.config.docs import field_table
from loratui.config.load import Setting, build, collect, config_error, full_key, settings_of
from loratui.config.schema import RunConfig
from loratui.config.toml import Document, flatten, read_toml
from loratui.errors import ConfigError, LoratuiError, Problem
from loratui.paths import presets_dirs

_KEYS: dict[str, type | tuple[type, ...]] = {
    "title": str,
    "about": str,
    "goal": str,
    "family": str,
    "memory_gib": (int, float),
    "extends": str,
}
_MOST_PARENTS = 8


@dataclass(frozen=True, slots=True)
class Preset:
    """One recipe.

    Attributes:
        name: the stem of its file.
        title: for a list.
        about: what it is for, a sentence or two.
        goal: character, style, object, concept, clothing, one image, embedding or demo; the wizard asks for
            one of the first six.
        family: family name it is made for, empty for any.
        memory_gib: GPU memory it is meant to fit in, in GiB; 0 when it says nothing.
        extends: the preset it builds on, empty for none.
        path: its file.
        values: dotted path -> value, those of the presets it extends included.
        places: dotted path -> `file:line`.
        text: the file as it stands, comments and sources included.
    """

    name: str
    title: str = ""
    about: str = ""
    goal: str = ""
    family: str = ""
    memory_gib: float = 0.0
    extends: str = ""
    path: Path = Path()
    values: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def settings(self) -> list[Setting]:
        """The values as settings, for `build`."""
        return [
            Setting(key, value, self.places.get(key, str(self.path))) for key, value in self.values.items()
        ]

    def as_json(self) -> dict[str, Any]:
        """What `loratui presets --json` prints of it."""
        return {
            "name": self.name,
            "title": self.title,
            "about": self.about,
            "goal": self.goal,
            "family": self.family,
            "memory_gib": self.memory_gib,
            "extends": self.extends,
            "path": str(self.path),
            "values": {k: list(v) if isinstance(v, tuple) else v for k, v in self.values.items()},
        }


def preset_paths(project_root: Path | None = None) -> dict[str, Path]:
    """Name -> file of every preset there is; the project's hide the user's, which hide the shipped ones."""
    found: dict[str, Path] = {}
    for folder in presets_dirs(project_root):
        if folder.is_dir():
            found |= {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return dict(sorted(found.items()))


def list_presets(project_root: Path | None = None) -> tuple[list[Preset], list[Problem]]:
    """All presets that load, and what is wrong with those that do not."""
    presets: list[Preset] = []
    problems: list[Problem] = []
    for name in preset_paths(project_root):
        try:
            presets.append(load_preset(name, project_root))
        except LoratuiError as error:
            problems += error.problems or (Problem(name, "bad-preset", "error", error.message),)
    return presets, problems


def load_preset(name: str, project_root: Path | None = None) -> Preset:
    """A preset by name, or by path when the name ends in `.toml`.

    Raises:
        ConfigError: no such preset (with the nearest names), or something wrong in its file (all of it).
    """
    return _load(name, project_root, ())


def _load(name: str, project_root: Path | None, below: tuple[str, ...]) -> Preset:
    path = _find(name, project_root)
    document = read_toml(path)
    head = document.data.get("preset", {})
    if not isinstance(head, dict):
        raise config_error(
            [Problem("preset", "bad-value", "error", "wants a table.", document.where("preset"))]
        )
    problems = _head_problems(document, head)
    values, places, parent = {}, {}, str(head.get("extends", "") or "")
    if parent and not problems:
        chain = (*below, path.stem)
        if parent in chain or len(chain) > _MOST_PARENTS:
            message = f"extends itself: {' > '.join((*chain, parent))}."
            raise config_error(
                [
                    Problem(
                        "preset.extends",
                        "circular-preset",
                        "error",
                        message,
                        document.where("preset.extends"),
                    )
                ]
            )
        base = _load(parent, project_root, chain)
        values, places = dict(base.values), dict(base.places)
    rest = {key: value for key, value in document.data.items() if key != "preset"}
    lines = {key: document.where(key) for key in flatten(rest)}
    own, own_places, found = collect(settings_of(rest, str(path), lines))
    problems += found
    if problems:
        raise config_error(problems)
    info = {key: value for key, value in head.items() if key in _KEYS}
    return Preset(
        name=path.stem, path=path, values=values | own, places=places | own_places, text=document.text, **info
    )


def _head_problems(document: Document, head: Mapping[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    for key, value in head.items():
        where = document.where(f"preset.{key}")
        kind = _KEYS.get(key)
        if kind is None:
            near = difflib.get_close_matches(key, _KEYS, 1)
            advice = f"Did you mean `{near[0]}`?" if near else f"[preset] has: {', '.join(_KEYS)}."
            problems.append(Problem(f"preset.{key}", "unknown-key", "error", "no such key.", where, advice))
        elif not isinstance(value, kind) or isinstance(value, bool):
            wanted = "text" if kind is str else "a number"
            problems.append(Problem(f"preset.{key}", "bad-value", "error", f"wants {wanted}.", where))
    return problems


def _find(name: str, project_root: Path | None) -> Path:
    if name.endswith(".toml"):
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise ConfigError(f"There is no preset file {name}.", "Give a path that exists, or a preset's name.")
    known = preset_paths(project_root)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, 3, 0.5)
    advice = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(known)}."
    problem = Problem("preset", "unknown-preset", "error", f"there is no preset {name!r}.", advice=advice)
    raise ConfigError(f"There is no preset {name!r}.", advice, (problem,))


def resolve(
    preset: Preset | None, overrides: Mapping[str, Any], where: Mapping[str, str] | str = "--set"
) -> RunConfig:
    """A preset with overrides applied, checked whole.

    Args:
        preset: the recipe; None starts from the defaults.
        overrides: dotted path or short name -> value; texts are parsed as `--set` gives them.
        where: `file:line` per override, or one place for all.

    Raises:
        ConfigError: with all problems of preset and overrides.
    """
    places = dict.fromkeys(overrides, where) if isinstance(where, str) else where
    given = {full_key(key) for key in overrides}
    if "optimizer.epochs" in given and "optimizer.steps" not in given:
        overrides = {
            **overrides,
            "optimizer.steps": 0,
        }  # who asks for epochs does not want the preset's steps
    own = [Setting(key, value, places.get(key, "")) for key, value in overrides.items()]
    return build([*(preset.settings if preset else []), *own])


def differences(one: Preset, other: Preset) -> list[tuple[str, Any, Any]]:
    """(dotted path, value of one, of the other) for each setting in which two presets differ."""
    table = field_table()
    found = []
    for key, info in table.items():
        left, right = one.values.get(key, info.default), other.values.get(key, info.default)
        if left != right:
            found.append((key, left, right))
    return found


def parse_set(pairs: list[str]) -> dict[str, str]:
    """`--set key=value` arguments as overrides.

    Raises:
        ConfigError: an argument without `=` or without a key.
    """
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            problems.append(Problem(pair, "bad-set", "error", "wants key=value, as in lr=1e-4.", "--set"))
        else:
            found[key.strip()] = value.strip()
    if problems:
        raise config_error(problems)
    return found
