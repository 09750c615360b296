"""What `doctor` looks at: the app, the interpreter of the jobs, GPU, memory, disk, terminal, settings."""

from __future__ import annotations

from pathlib import Path

from loratui.checkup.finding import Check, Level
from loratui.checkup.interpreter import training
from loratui.checkup.machine import disk, gpu, memory
from loratui.checkup.surroundings import app, formats, settings, terminal, tokens

__all__ = ["Check", "Level", "all_checks", "training"]


def all_checks(folder: Path, graphics: str = "") -> list[Check]:
    """Everything that doctor looks at.

    Args:
        folder: where runs would go.
        graphics: how the terminal draws pictures, empty when it was not asked.
    """
    here = [app(), *training(), gpu(), memory(), *disk(folder)]
    return [*here, formats(), terminal(graphics), tokens(), settings()]
