"""How much single pictures count: a note in the undo history, the weight of their loss in the manifest."""

from __future__ import annotations

import math
from pathlib import Path

from loratui.project.history import History

WEIGHT = "weight"
"""Under this name the history keeps it; a picture without counts 1."""
MOST = 100.0


def read_weight(text: str) -> float | None:
    """A weight as it is typed; None for anything that is none."""
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if math.isfinite(weight) and 0 <= weight <= MOST else None


def weights(root: Path) -> dict[Path, float]:
    """Weights given by hand, by picture.

    Args:
        root: the project folder.
    """
    if not (root / ".loratui" / "history").is_dir():
        return {}
    return {
        path: float(value)
        for path, value in History(root).notes(WEIGHT).items()
        if isinstance(value, int | float) and 0 <= value <= MOST
    }
