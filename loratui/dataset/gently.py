"""A hundred thousand objects sorted and let go without holding up other threads.

One call of `sorted`, or the end of one large list, runs to its end before another thread gets a turn: a
fifth of a second without keys.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_PIECES = 64
_FEW = 4000
"""So many take a few milliseconds."""


def sort_gently(items: Iterable[_Item], key: Callable[[_Item], str]) -> list[_Item]:
    """What `sorted` gives, made in pieces between which other threads have their turn."""
    items = list(items)
    if len(items) <= _FEW:
        return sorted(items, key=key)
    bounds = sorted(key(item) for item in items[:: len(items) // _PIECES])
    pieces: list[list[_Item]] = [[] for _ in range(len(bounds) + 1)]
    for item in items:
        pieces[bisect_right(bounds, key(item))].append(item)
    out: list[_Item] = []
    for piece in pieces:
        out += sorted(piece, key=key)
    return out


def let_go(items: list[Any] | dict[Any, Any] | set[Any]) -> None:
    """Empty a collection that nobody needs any more, a few at a time."""
    if isinstance(items, list):
        while items:
            del items[-_FEW // 4 :]
        return
    take = items.popitem if isinstance(items, dict) else items.pop
    while items:
        take()
