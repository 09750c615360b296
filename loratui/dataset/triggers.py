"""Trigger words: proposing one that the text encoder has no meaning for, and judging one that was typed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from loratui.dataset.tokens import ClipTokens, split_words

_FIRST = ("br", "dr", "fl", "gr", "kl", "kr", "pl", "sk", "sn", "tr", "v", "z")
_VOWELS = "aeiou"
_LAST = ("bx", "dz", "fq", "gv", "kz", "lvq", "mzk", "qt", "rvx", "vk", "xk", "zk")


@dataclass(frozen=True, slots=True)
class Judged:
    """What CLIP makes of a trigger: its tokens, and the words of it that are in CLIP's vocabulary."""

    tokens: int
    known: tuple[str, ...]
    words: int

    @property
    def rare(self) -> bool:
        """Whether at least one word of it means nothing to CLIP."""
        return self.words > len(self.known)


def judge(trigger: str, tokens: ClipTokens) -> Judged:
    """Count the tokens of a trigger, and find the words of it that are one token whole."""
    words = [w for w in split_words(trigger.lower()) if w.isalnum()]
    known = tuple(dict.fromkeys(w for w in words if tokens.count(w) == 1))
    return Judged(tokens.count(trigger), known, len(set(words)))


def propose(seed: str, tokens: ClipTokens, ending: str = "") -> str:
    """A made-up word of two or three tokens, the same for the same seed, with an ending behind it.

    Args:
        seed: as the name of the folder of pictures.
        tokens: of the base.
        ending: an ordinary word that tells what it is, as `style`.
    """
    for number in range(1000):
        digest = hashlib.sha256(f"{number}:{seed}".encode("utf-8", "replace")).digest()
        word = _FIRST[digest[0] % len(_FIRST)] + _VOWELS[digest[1] % 5] + _LAST[digest[2] % len(_LAST)]
        if tokens.count(word) in {2, 3}:
            return f"{word} {ending}".strip()
    raise AssertionError("the syllables above give hundreds of such words")
