"""`PATTERN=NUMBER` lists: ranks and rates of modules whose name a regular expression is found in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache


@lru_cache(maxsize=64)
def parse(entries: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], float], ...]:
    """The expressions and numbers of a list.

    Raises:
        ValueError: an entry has no `=`, no number or no valid expression; the message says which.
    """
    found = []
    for entry in entries:
        pattern, mark, number = entry.rpartition("=")
        if not mark or not pattern:
            raise ValueError(f"{entry!r} is not PATTERN=NUMBER")
        try:
            value = float(number)
        except ValueError:
            raise ValueError(f"{number!r} in {entry!r} is not a number") from None
        if not 0 <= value < 1e6:
            raise ValueError(f"{number} in {entry!r} is not between 0 and a million")
        try:
            found.append((re.compile(pattern), value))
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return tuple(found)


def last_match(entries: Sequence[str], name: str, default: float) -> float:
    """The number of the last entry whose expression is found in `name`."""
    found = default
    for pattern, value in parse(tuple(entries)):
        if pattern.search(name):
            found = value
    return found


def unused(entries: Sequence[str], names: Iterable[str]) -> list[str]:
    """Entries whose expression is found in no name."""
    all_names = list(names)
    pairs = zip(entries, parse(tuple(entries)), strict=True)
    return [entry for entry, (pattern, _) in pairs if not any(pattern.search(n) for n in all_names)]
