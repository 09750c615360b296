"""Captions as lists of tags: splitting, joining, matching, and telling tags from prose.

A caption may have several lines; trainers use them as alternatives, so each line is a list of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

Kind = Literal["tags", "prose"]
SEPARATOR = ", "

KAOMOJI: frozenset[str] = frozenset(
    {
        *(
            "0_0",
            "(o)_(o)",
            "+_+",
            "+_-",
            "._.",
            "<o>_<o>",
            "<|>_<|>",
            "=_=",
            ">_<",
            "3_3",
            "6_9",
            ">_o",
            "@_@",
        ),
        *(
            "^_^",
            "o_o",
            "u_u",
            "x_x",
            "|_|",
            "||_||",
            "d_d",
            "n_n",
            "t_t",
            "v_v",
            ";_;",
            "-_-",
            "*_*",
            "._.;",
        ),
    }
)
"""Faces whose underscore is a mouth: never turned into a space."""

_FUNCTION_WORDS = frozenset(
    {
        *(
            "a",
            "an",
            "the",
            "is",
            "are",
            "was",
            "were",
            "be",
            "being",
            "has",
            "have",
            "of",
            "with",
            "and",
            "or",
            "in",
        ),
        *(
            "on",
            "at",
            "to",
            "from",
            "by",
            "for",
            "while",
            "who",
            "which",
            "that",
            "this",
            "these",
            "those",
            "there",
        ),
        *(
            "his",
            "her",
            "their",
            "its",
            "it",
            "he",
            "she",
            "they",
            "as",
            "into",
            "over",
            "under",
            "against",
            "behind",
        ),
    }
)
_SENTENCE_END = re.compile(r"[^\W\d_]{2,}[.!?][\"')\]]?(\s+[A-Z\"(]|\s*$)")


def fold(text: str) -> str:
    """The form two texts are compared in: case-folded NFC, so that names from macOS and Linux agree."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def split(line: str) -> list[str]:
    """Tags of one line: parts between commas, stripped, the empty ones dropped."""
    return [tag for part in line.split(",") if (tag := part.strip())]


def split_caption(caption: str) -> list[str]:
    """Tags of all lines of a caption, in order, repeats kept."""
    return [tag for line in caption.split("\n") for tag in split(line)]


def join(tags: Iterable[str]) -> str:
    """One line of tags, as every trainer reads it."""
    return SEPARATOR.join(tags)


def detect_kind(caption: str) -> Kind:
    """Tags or prose: prose has sentences, or long parts held together by function words.

    An empty caption counts as tags: there is nothing in it to protect.
    """
    prose = tagged = 0
    for line in caption.split("\n"):
        if not line.strip():
            continue
        if _is_prose(line):
            prose += 1
        else:
            tagged += 1
    return "prose" if prose > tagged else "tags"


def _is_prose(line: str) -> bool:
    parts = [p.split() for p in split(line)]
    if not parts:
        return False
    words = sum(len(p) for p in parts)
    mean = words / len(parts)
    glue = sum(w.lower() in _FUNCTION_WORDS for p in parts for w in p)
    if _SENTENCE_END.search(line) and words >= 4 and (glue or mean >= 4):
        return True
    if mean >= 6:
        return True
    return glue >= 2 and mean >= 3.5 and glue / words >= 0.15


@lru_cache(maxsize=1024)
def glob_pattern(pattern: str) -> re.Pattern[str]:
    r"""A wildcard pattern as an expression over folded text: `*`, `?`, and a backslash before a literal one.

    Parts between stars are atomic groups: the leftmost place is always the best one, so a pattern of many
    stars takes no more than one pass.
    """
    parts: list[list[str]] = [[]]
    chars = iter(fold(pattern))
    for char in chars:
        if char == "*":
            if parts[-1] or len(parts) == 1:
                parts.append([])
        elif char == "?":
            parts[-1].append(".")
        elif char == "\\":
            following = next(chars, "")
            literal = following if following and following in "*?\\" else "\\" + following
            parts[-1].append(re.escape(literal))
        else:
            parts[-1].append(re.escape(char))
    first, *rest = ("".join(p) for p in parts)
    middle = "".join(f"(?>.*?{p})" for p in rest[:-1])
    last = f".*{rest[-1]}" if rest else ""
    return re.compile(first + middle + last, re.DOTALL)


def matches(pattern: str, tag: str) -> bool:
    """Whether the whole tag matches the wildcard pattern, whatever the case."""
    return glob_pattern(pattern).fullmatch(fold(tag)) is not None


def underscores_to_spaces(tag: str) -> str:
    """`long_hair` as `long hair`; faces such as `>_<` and score tags such as `score_9_up` stay."""
    bare = tag.replace("\\", "").strip("() ").lower()
    if tag.lower() in KAOMOJI or bare in KAOMOJI or re.fullmatch(r"score_\d(_up)?", bare):
        return tag
    return tag.replace("_", " ")


def frequencies(captions: Iterable[str]) -> Counter[str]:
    """In how many captions each tag stands (spelling as first seen, compared without case)."""
    counts: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    for caption in captions:
        seen: set[str] = set()
        for tag in split_caption(caption):
            key = fold(tag)
            if key not in seen:
                seen.add(key)
                counts[spelled.setdefault(key, tag)] += 1
    return counts
