"""Where loratui keeps what is not in a project: user config, machine state, caches."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).resolve().parent


def config_dir() -> Path:
    """User settings and presets (`LORATUI_CONFIG` overrides)."""
    return Path(os.environ.get("LORATUI_CONFIG") or platformdirs.user_config_dir("loratui"))


def state_dir() -> Path:
    """Queue, device locks, measured speeds: one per machine and user (`LORATUI_STATE` overrides)."""
    return Path(os.environ.get("LORATUI_STATE") or platformdirs.user_state_dir("loratui"))


def cache_dir() -> Path:
    """Anything that may be deleted at any time (`LORATUI_CACHE` overrides)."""
    return Path(os.environ.get("LORATUI_CACHE") or platformdirs.user_cache_dir("loratui"))


def presets_dirs(project: Path | None = None) -> list[Path]:
    """Folders searched for `*.toml` presets, the later ones winning: shipped, user's, project's."""
    shipped = PACKAGE / "presets"
    if not shipped.is_dir():  # an editable install runs from the checkout
        shipped = PACKAGE.parent / "presets"
    found = [shipped, config_dir() / "presets"]
    if project is not None:
        found.append(project / "presets")
    return found
