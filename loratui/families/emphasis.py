"""Weights inside sample prompts, written as A1111 and its users write them.

    (word)        times 1.1            ((word))   times 1.21
    [word]        divided by 1.1       (word:1.3) times 1.3
    \\( \\) \\[ \\]   brackets, not weights

Torch-free; `clip_text` scales the embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

ROUND, SQUARE = 1.1, 1 / 1.1
_PART = re.compile(r"\\[()\[\]\\]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|[()\[\]]|[^\\()\[\]:]+|[\\:]")
_BRACKETS = re.compile(r"([()\[\]\\])")


@dataclass(frozen=True, slots=True)
class Weighted:
    """A prompt in pieces, each with its weight."""

    pieces: tuple[tuple[str, float], ...]

    def spelled(self, spell: Callable[[str], str]) -> Weighted:
        """The same with each piece spelled otherwise."""
        return Weighted(tuple((spell(text), weight) for text, weight in self.pieces))


Spoken = str | Weighted
"""What an encoder reads: a caption, or a prompt with weights."""


def words(spoken: Spoken) -> str:
    """The words alone, for encoders that know no weights."""
    return spoken if isinstance(spoken, str) else "".join(text for text, _ in spoken.pieces)


def read(prompt: str) -> Spoken:
    """A prompt with its weights; plain text where there are none, with brackets that are escaped as brackets.

    A bracket that is never closed lasts to the end; one that was never opened is a bracket.
    """
    if not any(sign in prompt for sign in "()[]\\"):
        return prompt
    pieces: list[list[str | float]] = []
    rounds: list[int] = []
    squares: list[int] = []

    def times(start: int, factor: float) -> None:
        for piece in pieces[start:]:
            piece[1] = float(piece[1]) * factor

    for part in _PART.finditer(prompt):
        text = part[0]
        if text == "(":
            rounds.append(len(pieces))
        elif text == "[":
            squares.append(len(pieces))
        elif part[1] is not None and rounds:
            times(rounds.pop(), float(part[1]))
        elif text == ")" and rounds:
            times(rounds.pop(), ROUND)
        elif text == "]" and squares:
            times(squares.pop(), SQUARE)
        else:
            pieces.append([text[1:] if len(text) > 1 and text[0] == "\\" else text, 1.0])
    for start in rounds:
        times(start, ROUND)
    for start in squares:
        times(start, SQUARE)
    return _joined([(str(text), float(weight)) for text, weight in pieces])


def _joined(pieces: list[tuple[str, float]]) -> Spoken:
    """Neighbours of one weight as one piece, so that words are cut into tokens as they stand."""
    whole: list[tuple[str, float]] = []
    for text, weight in pieces:
        if whole and whole[-1][1] == weight:
            whole[-1] = whole[-1][0] + text, weight
        else:
            whole.append((text, weight))
    if all(weight == 1.0 for _, weight in whole):
        return "".join(text for text, _ in whole)
    return Weighted(tuple(whole))


def with_trigger(prompt: str, trigger: str, weights: bool) -> str:
    """A prompt with the trigger in place of `{trigger}`; brackets of the trigger are no weights."""
    return prompt.replace("{trigger}", escaped(trigger) if weights else trigger)


def escaped(text: str) -> str:
    """Text as a prompt that says just this: its brackets are no weights."""
    return _BRACKETS.sub(r"\\\1", text)


def plain(prompt: str) -> str:
    """What a prompt says, without its weights."""
    spoken = read(prompt)
    return spoken if isinstance(spoken, str) else "".join(text for text, _ in spoken.pieces)
