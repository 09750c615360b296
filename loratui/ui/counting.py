"""Counts over all rows: findings, tags, tokens. Called in threads when there are many."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loratui.dataset.rows import INFO, PictureRow
from loratui.dataset.tags import fold
from loratui.errors import LoratuiError

if TYPE_CHECKING:
    from loratui.dataset.tokens import ClipTokens

_LOOKS = frozenset({"dark", "light", "odd-aspect", "low-information"})
"""What a picture may look like on purpose."""
_AT_A_TIME = 2000
"""Pictures that are counted in a millisecond."""


Counted = tuple[tuple[int, int, int], frozenset[str]]
"""Pictures with a caption, pictures to look at, unusable files; and codes that ask for nothing."""


def totals(rows: Sequence[PictureRow], rest_s: float = 0.0) -> Counted:
    """Counts, and codes that ask for nothing: what most of the pictures look like is their style.

    Args:
        rows: all pictures.
        rest_s: in a thread: seconds without the interpreter after every two thousand pictures, for the keys.
    """
    alike: Counter[tuple[tuple[str, ...], bool, bool, bool]] = Counter()
    for start in range(0, len(rows), _AT_A_TIME):
        alike.update(
            (row.problems, bool(row.dup), bool(row.known.caption), bool(row.known.code))
            for row in rows[start : start + _AT_A_TIME]
        )
        if rest_s:
            time.sleep(rest_s)
    found: Counter[str] = Counter()
    for (problems, *_), count in alike.items():
        found.update({code: count for code in problems if code in _LOOKS})
    calm = INFO | {code for code, count in found.items() if count * 2 > len(rows) > 4}
    captioned = broken = look = 0
    for (problems, double, caption, code), count in alike.items():
        captioned += count if caption and not code else 0
        broken += count if code else 0
        look += count if double or any(problem not in calm for problem in problems) else 0
    return (captioned, look - broken, broken), calm


def frequencies(rows: Iterable[PictureRow]) -> list[tuple[str, int]]:
    """Tags with the number of pictures they stand in, the commonest first."""
    counts: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    folded: dict[str, str] = {}
    for row in rows:
        seen = set()
        for tag in row.tag_list:
            key = folded.get(tag)
            if key is None:
                key = folded[tag] = fold(tag)
                spelled.setdefault(key, tag)
            seen.add(key)
        counts.update(seen)
    return sorted(((spelled[key], n) for key, n in counts.items()), key=lambda pair: (-pair[1], pair[0]))


def token_counter(base: str) -> ClipTokens | None:
    """Exact counts: by the base's own vocabulary, else by CLIP's."""
    from loratui.dataset.tokens import ClipTokens
    from loratui.demo import base_path

    folder = base_path() if base == "demo" else Path(base).expanduser()
    places: tuple[Callable[[], ClipTokens | None], ...] = (
        lambda: ClipTokens.of_base(folder),
        ClipTokens.shipped,
    )
    for place in places:
        try:
            found = place()
        except (LoratuiError, OSError):
            continue
        if found is not None:
            return found
    return None


def shared_prefix(rows: Iterable[PictureRow]) -> str:
    """The folder that all pictures lie in: it tells nothing and takes room."""
    folders: set[str] = set()
    for row in rows:
        folders.add(row.rel.rpartition("/")[0])
        if len(folders) > 1:
            return ""
    folder = folders.pop() if folders else ""
    return f"{folder}/" if folder else ""
