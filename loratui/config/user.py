"""The user's own settings: `config.toml` in the config folder."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratui.config.load import config_error
from loratui.config.toml import flatten, read_toml
from loratui.errors import Problem
from loratui.paths import config_dir

_CHOICES: dict[str, tuple[str, ...]] = {
    "color": ("auto", "truecolor", "256", "none"),
    "pictures": ("auto", "kitty", "sixel", "blocks", "none"),
    "notify": ("auto", "bell", "none"),
}


@dataclass(frozen=True, slots=True)
class UserConfig:
    """What holds for every project of this user.

    Attributes:
        jobs_python: the interpreter that has torch; empty looks for one.
        color: auto, truecolor, 256 or none.
        pictures: how pictures are drawn: auto, kitty, sixel, blocks or none.
        theme: name of the app's theme, empty for its own.
        notify: how the end, the failure and the first sample of a run are told: auto (the bell, and a
            notification where the terminal has them), bell or none.
    """

    jobs_python: str = ""
    color: str = "auto"
    pictures: str = "auto"
    theme: str = ""
    notify: str = "auto"


_KEYS = {
    "jobs.python": "jobs_python", "color": "color", "pictures": "pictures", "theme": "theme",
    "notify": "notify",
}  # fmt: skip


def user_config_path() -> Path:
    """Where the user's settings are read from."""
    return config_dir() / "config.toml"


def load_user_config() -> UserConfig:
    """The user's settings; defaults when there is no file.

    Raises:
        ConfigError: with all problems of the file.
    """
    path = user_config_path()
    if not path.exists():
        return UserConfig()
    document = read_toml(path)
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in flatten(document.data).items():
        where = document.where(key)
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            advice = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(_KEYS)}."
            problems.append(Problem(key, "unknown-key", "error", "no such setting.", where, advice))
        elif not isinstance(value, str):
            problems.append(Problem(key, "bad-value", "error", "wants text in quotes.", where))
        elif key in _CHOICES and value not in _CHOICES[key]:
            message = f"{value!r} is not one of {', '.join(_CHOICES[key])}."
            problems.append(Problem(key, "bad-value", "error", message, where))
        else:
            values[_KEYS[key]] = value
    if problems:
        raise config_error(problems)
    return UserConfig(**values)
