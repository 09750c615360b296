"""Completing tags while typing: from the project's own tags and from lists in the danbooru CSV format.

1girl,0,4225150,"sole_female,1girls"        tag, category, count, aliases
"""

from __future__ import annotations

import bisect
import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loratui.dataset.tags import fold, underscores_to_spaces
from loratui.errors import DatasetError

_LARGEST = 128 * 1024 * 1024
CATEGORIES = {0: "general", 1: "artist", 3: "copyright", 4: "character", 5: "meta", 9: "rating"}


@dataclass(frozen=True, slots=True)
class Known:
    """A tag that can be completed.

    Attributes:
        tag: as it is inserted.
        count: in how many captions or posts it stands.
        category: `project`, or that of the list.
        alias: the other name that was typed, empty when the tag itself was.
    """

    tag: str
    count: int
    category: str
    alias: str = ""


def read_tag_list(path: Path, spaces: bool = True) -> list[tuple[Known, tuple[str, ...]]]:
    """Tags of a CSV list with their aliases; also a plain list of one tag a line.

    Args:
        path: the file.
        spaces: whether underscores become spaces, faces excepted.

    Raises:
        DatasetError: it cannot be read; a wrong row is named by its line.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise DatasetError(f"{path.name} is too large for a list of tags.", "Shorten it.")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
    except UnicodeDecodeError:
        raise DatasetError(f"{path.name} is not UTF-8.", "Convert it.") from None
    out: list[tuple[Known, tuple[str, ...]]] = []
    rows = csv.reader(text.splitlines())
    try:
        for row in rows:
            if not row or not row[0].strip() or (rows.line_num == 1 and row[0].lower() in {"tag", "name"}):
                continue
            out.append(_row(row, spaces))
    except (csv.Error, ValueError) as error:
        raise DatasetError(
            f"{path.name}:{rows.line_num}: {error}.", "Write tag,category,count,aliases."
        ) from None
    return out


def _row(row: list[str], spaces: bool) -> tuple[Known, tuple[str, ...]]:
    shape = underscores_to_spaces if spaces else str
    number = int(row[1]) if len(row) > 1 and row[1].strip() else 0
    count = int(row[2]) if len(row) > 2 and row[2].strip() else 0
    aliases = tuple(shape(a.strip()) for a in row[3].split(",") if a.strip()) if len(row) > 3 else ()
    return Known(shape(row[0].strip()), count, CATEGORIES.get(number, "general")), aliases


class Completer:
    """Finds tags that begin with, or hold a word that begins with, what was typed.

    Args:
        project: tags of the project with their counts; they come first.
        lists: rows of `read_tag_list`.
    """

    def __init__(
        self, project: Mapping[str, int], lists: Iterable[tuple[Known, tuple[str, ...]]] = ()
    ) -> None:
        own = {fold(tag) for tag in project}
        entries: list[tuple[str, int, Known]] = []
        for tag, count in project.items():
            entries += self._keys(Known(tag, count, "project"), 0)
        for known, aliases in lists:
            if fold(known.tag) not in own:
                entries += self._keys(known, 1)
            for alias in aliases:
                named = Known(known.tag, known.count, known.category, alias)
                entries.append((fold(alias), 2, named))
        entries.sort(key=lambda e: e[0])
        self._entries = entries
        self._names = [e[0] for e in entries]

    @staticmethod
    def _keys(known: Known, rank: int) -> list[tuple[str, int, Known]]:
        """The tag, and each later word of it (ranked behind)."""
        words = fold(known.tag).replace("_", " ").split(" ")
        tails = [" ".join(words[i:]) for i in range(1, len(words)) if words[i]]
        return [(fold(known.tag), rank, known), *((tail, rank + 4, known) for tail in tails)]

    def complete(self, typed: str, limit: int = 10) -> list[Known]:
        """The best tags for what was typed: the project's first, then by count; none for nothing."""
        key = fold(typed.strip())
        if not key:
            return []
        start = bisect.bisect_left(self._names, key)
        stop = bisect.bisect_left(self._names, key + "\U0010ffff")
        found = sorted(self._entries[start:stop], key=lambda e: (e[1] >= 4, e[1], -e[2].count, e[2].tag))
        out: dict[str, Known] = {}
        for _, _, known in found:
            out.setdefault(fold(known.tag), known)
            if len(out) == limit:
                break
        return list(out.values())
