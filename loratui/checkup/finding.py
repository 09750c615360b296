"""One finding of the check-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "info", "warning", "attention"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        level: `attention` makes doctor exit with 1; a `warning` is to be known and stops nothing.
        detail: what was found.
        advice: what to do, where something is to be done.
    """

    name: str
    level: Level
    detail: str
    advice: str = ""
