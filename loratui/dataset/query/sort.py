"""Sorting rows by the fields of the filter: `-width,name`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from loratui.dataset.query.evaluate import VALUES, RowT
from loratui.dataset.query.nodes import FIELDS, QueryError
from loratui.dataset.tags import fold

_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class SortKey:
    """One field to sort by."""

    field: str
    descending: bool = False


def parse_sort(text: str) -> tuple[SortKey, ...]:
    """Fields between commas, `-` before one for the largest first.

    Raises:
        QueryError: a field is not known.
    """
    keys: list[SortKey] = []
    at = 0
    for part in text.split(","):
        word = part.strip()
        name = word.lstrip("-+").lower()
        if name not in FIELDS:
            start = at + len(part) - len(part.lstrip())
            near = difflib.get_close_matches(name, list(FIELDS), n=1, cutoff=0.6)
            message = f"there is no field {name} to sort by" if name else "the name of a field is missing"
            raise QueryError(text, start, message, near[0] if near else "")
        keys.append(SortKey(name, word.startswith("-")))
        at += len(part) + 1
    return tuple(keys)


def sort_to_text(keys: Iterable[SortKey]) -> str:
    """The keys as text; parsing it gives the same keys."""
    return ",".join(f"-{k.field}" if k.descending else k.field for k in keys)


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key under which `a2` comes before `a10`."""
    parts = _DIGITS.split(fold(text))
    return tuple((0, int(p), p) if p.isdecimal() and p.isascii() else (1, 0, p) for p in parts if p)


def _key(value: Any) -> Any:
    if isinstance(value, str):
        return natural(value)
    if isinstance(value, int | float):
        return value
    return tuple(natural(str(item)) for item in value)


def sort_rows(rows: Iterable[RowT], keys: Iterable[SortKey]) -> list[RowT]:
    """The rows in order; those without a value come last whichever way; equal ones keep their order."""
    out = list(rows)
    for key in reversed(tuple(keys)):
        read = VALUES[key.field]
        known = [(value, row) for row in out if (value := read(row)) is not None]
        unknown = [row for row in out if read(row) is None]
        known.sort(key=lambda pair: _key(pair[0]), reverse=key.descending)
        out = [row for _, row in known] + unknown
    return out
