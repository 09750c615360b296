"""The app itself, picture formats, terminal, tokens and settings."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from importlib import metadata
from pathlib import Path

from loratui.checkup.finding import Check

_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY")


def app() -> Check:
    """Versions of the app's own side."""
    import loratui

    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("textual", "Pillow"))
    return Check("app", "ok", f"loratui {loratui.__version__} on Python {sys.version.split()[0]}, {versions}")


def formats() -> Check:
    """Picture formats that can be read."""
    from loratui.dataset.formats import EXTRA, can_read

    names = {"avif": "AVIF", "heif": "HEIC", "jxl": "JPEG XL"}
    there = [name for kind, name in names.items() if can_read(kind)]
    missing = [name for name in names.values() if name not in there]
    detail = f"JPEG, PNG, WebP, BMP, TIFF, GIF{''.join(f', {name}' for name in there)}"
    if not missing:
        return Check("formats", "ok", detail)
    advice = (
        "AVIF comes with Pillow's wheels." if missing == ["AVIF"] else f"{EXTRA} brings HEIC and JPEG XL."
    )
    return Check("formats", "info", f"{detail}; not {', '.join(missing)}", advice)


def terminal(graphics: str = "") -> Check:
    """The terminal; `graphics` says how it draws pictures, empty when it was not asked."""
    term = os.environ.get("TERM", "")
    if not sys.stdout.isatty() and not graphics:
        return Check("terminal", "info", "the answer does not go to a terminal")
    size = shutil.get_terminal_size()
    detail = f"{term or 'TERM not set'}, {size.columns} x {size.lines}"
    if graphics:
        detail += f", pictures as {graphics}"
    if size.columns < 80 or size.lines < 24:
        return Check("terminal", "attention", detail, "The app needs 80 x 24.")
    if term in {"", "dumb"}:
        return Check("terminal", "attention", detail, "Set TERM, as in TERM=xterm-256color.")
    if os.environ.get("COLORTERM", "") not in {"truecolor", "24bit"}:
        advice = "Where the terminal has 24-bit colour, COLORTERM=truecolor shows it."
        return Check("terminal", "info", f"{detail}, 256 colours", advice)
    return Check("terminal", "ok", f"{detail}, 24-bit colour")


def tokens() -> Check:
    """Which tokens are there; never their value."""
    there = [f"{name} is set" for name in _TOKENS if os.environ.get(name)]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    path = Path(os.environ.get("HF_TOKEN_PATH") or home / "token").expanduser()
    advice = ""
    try:
        mode = path.stat().st_mode
        there.append(f"the Hub's token is in {path}")
        if mode & (stat.S_IRGRP | stat.S_IROTH):
            advice = f"Others on this machine can read it: `chmod 600 {path}`."
    except OSError:
        pass
    if os.environ.get("HF_HUB_OFFLINE") in {"1", "true", "TRUE", "yes", "on"}:
        there.append("HF_HUB_OFFLINE is set, so nothing is fetched")
    if advice:
        return Check("tokens", "warning", "; ".join(there), advice)
    return Check("tokens", "info", "; ".join(there) or "none, which private and gated models need")


def settings() -> Check:
    """The user's settings."""
    from loratui.config.user import load_user_config, user_config_path
    from loratui.errors import LoratuiError

    path = user_config_path()
    try:
        load_user_config()
    except LoratuiError as error:
        return Check("settings", "attention", error.message, error.advice)
    return Check("settings", "ok", f"{path}" if path.exists() else f"none in {path}")
