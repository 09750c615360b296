"""Findings of the rules about settings, with the change that mends each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratui.errors import Problem

Fix = Mapping[str, Any]


def error(path: str, code: str, message: str, advice: str = "", fix: Fix | None = None) -> Problem:
    """What stops a training."""
    return Problem(path, code, "error", message, advice=advice, fix=fix or {})


def warning(path: str, code: str, message: str, advice: str = "", fix: Fix | None = None) -> Problem:
    """What is known to disappoint."""
    return Problem(path, code, "warning", message, advice=advice, fix=fix or {})


def info(path: str, code: str, message: str, advice: str = "", fix: Fix | None = None) -> Problem:
    """What should be known."""
    return Problem(path, code, "info", message, advice=advice, fix=fix or {})
