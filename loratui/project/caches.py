"""The caches of a project: how large they are, and removing what has not been used for a while.

Everything below `.loratui/cache` may be deleted at any time: an entry that is missed is made again, also by a
run that is under way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PARTS = ("latents", "text")
"""What the trainer keeps there, each in a folder of its own."""
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class CacheSize:
    """One part of the cache.

    Attributes:
        name: `latents` or `text`.
        entries: files.
        bytes: their sizes.
    """

    name: str
    entries: int
    bytes: int


def sizes(root: Path) -> list[CacheSize]:
    """What lies in each part of a project's cache."""
    found = []
    for name in PARTS:
        held = [status.st_size for _, status in _entries(root, name)]
        found.append(CacheSize(name, len(held), sum(held)))
    return found


def prune(root: Path, days: float) -> list[CacheSize]:
    """Remove entries that were neither written nor read for so many days; returns what went.

    Args:
        root: the project's folder.
        days: 0 removes all.
    """
    before = time.time() - days * _DAY_S
    gone = []
    for name in PARTS:
        removed = []
        for path, status in _entries(root, name):
            if max(status.st_mtime, status.st_atime) <= before:
                try:
                    path.unlink()
                except FileNotFoundError:  # somebody else was faster
                    continue
                removed.append(status.st_size)
        gone.append(CacheSize(name, len(removed), sum(removed)))
    return gone


def _entries(root: Path, name: str) -> Iterator[tuple[Path, os.stat_result]]:
    for path in (root / ".loratui" / "cache" / name).glob("*/*.safetensors"):
        try:
            yield path, path.stat()
        except FileNotFoundError:
            continue
