"""Keys that mean the same in another trainer: a table for each, read in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loratui.config.docs import field_table
from loratui.config.trainers.report import Ledger


@dataclass(frozen=True, slots=True)
class Row:
    """One key with one setting.

    Attributes:
        key: as that trainer spells it.
        ours: dotted path.
        words: their value -> ours, for choices; compared in lower case.
        off: their value that stands for ours being off (0, false, empty), such as None.
        share: their value below 1 is a share of all steps; the reader multiplies.
        spare: their value goes here only when nothing better does (not written on export).
    """

    key: str
    ours: str
    words: Mapping[str, str] = field(default_factory=dict)
    off: Any = None
    spare: bool = False


def read_rows(ledger: Ledger, rows: Iterable[Row]) -> None:
    """Enter every key of the table that the file sets."""
    for row in rows:
        if ledger.done(row.key):
            continue
        if row.key not in ledger:
            continue
        if row.words:
            word = ledger.text(row.key).strip().lower()
            if word in row.words:
                ledger.take(row.key, row.ours, row.words[word])
            else:
                ledger.wrong(row.key, f"is none of {', '.join(row.words)}")
            continue
        ledger.take(row.key, row.ours)


def write_rows(values: Mapping[str, Any], rows: Iterable[Row]) -> dict[str, Any]:
    """Their key -> their value of every setting of ours that the table holds and that is not off."""
    found: dict[str, Any] = {}
    table = field_table()
    for row in rows:
        if row.spare or row.ours not in values:
            continue
        value = values[row.ours]
        if row.words:
            back = {ours: theirs for theirs, ours in reversed(list(row.words.items()))}
            if value in back:
                found[row.key] = back[value]
            continue
        if value in ("", ()) or (row.off is None and value == table[row.ours].default and not value):
            continue
        found[row.key] = list(value) if isinstance(value, tuple) else value
    return found
