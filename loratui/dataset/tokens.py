"""Counting CLIP tokens without torch: the byte pair encoding of Radford et al. 2021, from its merges file.

The merges come from `tokenizer/merges.txt` of a base model, or from the copy of CLIP's own that is shipped.
Start and end tokens do not count, so that 75 is what fits. Broken encodings are not repaired before counting.
"""

from __future__ import annotations

import gzip
import html
import itertools
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from loratui.errors import DatasetError

_MERGES = 49_152 - 256 - 2
_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_SPECIAL = ("<|startoftext|>", "<|endoftext|>", "<start_of_text>", "<end_of_text>")


def _byte_letters() -> dict[int, str]:
    """Each byte as a printable letter, as GPT-2 does it."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {b: chr(b) for b in kept}
    others = [b for b in range(256) if b not in letters]
    return letters | {b: chr(256 + i) for i, b in enumerate(others)}


_LETTERS = _byte_letters()


class ClipTokens:
    """Counts tokens as CLIP's tokenizer makes them.

    Args:
        merges: pairs in order of rank.
    """

    def __init__(self, merges: list[tuple[str, str]]) -> None:
        self._rank = {pair: i for i, pair in enumerate(merges)}
        self._pieces = lru_cache(maxsize=65_536)(self._count_word)

    @classmethod
    def read(cls, path: Path) -> ClipTokens:
        """From `merges.txt` or `bpe_simple_vocab_16e6.txt.gz`.

        Raises:
            DatasetError: it cannot be read, or holds no merges.
        """
        try:
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            lines = raw.decode("utf-8").split("\n")[1 : _MERGES + 1]
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise DatasetError(
                f"The merges {path} cannot be read: {error}.", "Check the base model's files."
            ) from error
        pairs = [(p[0], p[1]) for line in lines if len(p := line.split()) == 2]
        if not pairs:
            raise DatasetError(f"{path} holds no merges.", "Check the base model's files.")
        return cls(pairs)

    @classmethod
    def of_base(cls, base: Path) -> ClipTokens | None:
        """From a base model's folder, None where it has no merges."""
        for folder in ("tokenizer", "tokenizer_2", "."):
            path = base / folder / "merges.txt"
            if path.is_file():
                return cls.read(path)
        return None

    @classmethod
    def shipped(cls) -> ClipTokens:
        """CLIP's own, as nearly all bases use it."""
        import loratui

        return cls.read(
            Path(loratui.__file__).parent / "families" / "configs" / "clip_tokenizer" / "merges.txt"
        )

    def count(self, text: str) -> int:
        """Tokens of a text, without start and end."""
        clean = unicodedata.normalize("NFC", html.unescape(html.unescape(text))).lower()
        return sum(1 if w in _SPECIAL else self._pieces(w) for w in split_words(" ".join(clean.split())))

    def _count_word(self, word: str) -> int:
        letters = [_LETTERS[b] for b in word.encode("utf-8", "replace")]
        if not letters:
            return 0
        parts = [*letters[:-1], letters[-1] + "</w>"]
        while len(parts) > 1:
            ranked = [(self._rank.get(p, 1 << 30), p) for p in itertools.pairwise(parts)]
            rank, best = min(ranked)
            if rank == 1 << 30:
                break
            merged: list[str] = []
            i = 0
            while i < len(parts):
                if i + 1 < len(parts) and (parts[i], parts[i + 1]) == best:
                    merged.append(parts[i] + parts[i + 1])
                    i += 2
                else:
                    merged.append(parts[i])
                    i += 1
            parts = merged
        return len(parts)


def count_tokens() -> Callable[[str], int]:
    """A function that counts CLIP tokens of a text, without start and end; it reads the merges at need."""
    return lambda text: _shipped().count(text)


@lru_cache(maxsize=1)
def _shipped() -> ClipTokens:
    return ClipTokens.shipped()


def split_words(text: str) -> list[str]:
    """What CLIP's pattern finds: special tokens, contractions, letters, single digits, runs of the rest."""
    out: list[str] = []
    at = 0
    while at < len(text):
        special = next((s for s in (*_SPECIAL, *_CONTRACTIONS) if text.startswith(s, at)), None)
        if special:
            out.append(special)
            at += len(special)
            continue
        kind = _kind(text[at])
        end = at + 1
        if kind in "LO":
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        if kind != " ":
            out.append(text[at:end])
        at = end
    return out


@lru_cache(maxsize=4096)
def _kind(char: str) -> str:
    """`L` letter, `N` number, space, or `O` other."""
    if char.isspace():
        return " "
    category = unicodedata.category(char)[0]
    return category if category in "LN" else "O"
