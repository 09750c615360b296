"""Counting CLIP tokens without torch, from the vocabulary that open_clip ships.

The byte-pair encoding of Radford et al. (2021): lower-cased words, the last letter marked `</w>`; the pair
that was merged first in training is merged first here.
"""

from __future__ import annotations

import gzip
import html
import importlib.util
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

_FILE = "bpe_simple_vocab_16e6.txt.gz"
_MERGES = 48894
_WORD = re.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", re.IGNORECASE
)


def count_tokens() -> Callable[[str], int]:
    """A function that counts the CLIP tokens of a text, without start and end.

    Where open_clip is not installed it estimates, a little on the high side.
    """
    path = _vocabulary()
    return _Counter(path) if path is not None else estimate


def estimate(text: str) -> int:
    """Tokens of a text without a vocabulary: words, long ones counted twice, and punctuation."""
    return sum(1 + len(word) // 9 for word in _WORD.findall(text))


def _vocabulary() -> Path | None:
    found = importlib.util.find_spec("open_clip")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    return None


class _Counter:
    """Counts with the merges of one vocabulary file."""

    def __init__(self, path: Path) -> None:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : _MERGES + 1]
        self._ranks: dict[tuple[str, ...], int] = {tuple(m.split()): rank for rank, m in enumerate(lines)}
        self._bytes = _byte_letters()
        self._parts = lru_cache(maxsize=20000)(self._count_word)

    def __call__(self, text: str) -> int:
        text = " ".join(html.unescape(html.unescape(text)).split()).lower()
        return sum(self._parts(word) for word in _WORD.findall(text))

    def _count_word(self, word: str) -> int:
        if word.startswith("<|"):
            return 1
        letters = [self._bytes[b] for b in word.encode("utf-8")]
        letters[-1] += "</w>"
        while len(letters) > 1:
            pairs = list(pairwise(letters))
            best = min(pairs, key=lambda p: self._ranks.get(p, _MERGES))
            if best not in self._ranks:
                break
            merged: list[str] = []
            i = 0
            while i < len(letters):
                if i + 1 < len(letters) and (letters[i], letters[i + 1]) == best:
                    merged.append(letters[i] + letters[i + 1])
                    i += 2
                else:
                    merged.append(letters[i])
                    i += 1
            letters = merged
        return len(letters)


def _byte_letters() -> dict[int, str]:
    """A printable letter for each byte, as the vocabulary writes them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {b: chr(b) for b in printable}
    others = [b for b in range(256) if b not in letters]
    return letters | {b: chr(256 + n) for n, b in enumerate(others)}
