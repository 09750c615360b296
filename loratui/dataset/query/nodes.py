"""What a filter is made of: the table of fields, the tree, and its text form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from loratui.errors import DatasetError

FieldKind = Literal["tag", "text", "whole", "codes", "number", "flag"]


@dataclass(frozen=True, slots=True)
class Field:
    """One name that can stand before the colon.

    Attributes:
        name: as typed.
        kind: `tag` whole tags; `text` contains; `whole` the whole value; `codes` any of several short names;
            `number`; `flag`.
        help: one line for the help of the filter.
        exact: for numbers, whether the value is an integer (others compare equal within 0.005).
    """

    name: str
    kind: FieldKind
    help: str
    exact: bool = True


_ROWS: tuple[Field, ...] = (
    Field("tag", "tag", "a whole tag of the caption, * and ? allowed"),
    Field("caption", "text", "text anywhere in the caption"),
    Field("name", "text", "text anywhere in the file name"),
    Field("path", "text", "text anywhere in the path"),
    Field("source", "text", "text anywhere in the name of the source folder"),
    Field("bucket", "codes", "the bucket, as 512x768"),
    Field("kind", "whole", "tags or prose"),
    Field("problem", "codes", "short name of a finding (blurry, dark, trigger-missing...)"),
    Field("tags", "number", "number of tags"),
    Field("chars", "number", "characters in the caption"),
    Field("tokens", "number", "CLIP tokens in the caption"),
    Field("width", "number", "width in px as shown"),
    Field("height", "number", "height in px as shown"),
    Field("side", "number", "the shorter side in px"),
    Field("area", "number", "width times height in px"),
    Field("aspect", "number", "width / height; 16:9 is taken too", exact=False),
    Field("megapixels", "number", "width times height in millions", exact=False),
    Field("size", "number", "size of the file in bytes; 500k and 2M are taken too"),
    Field("score", "number", "score given by a scorer", exact=False),
    Field("stars", "number", "stars given by hand, 0 to 5"),
    Field("weight", "number", "weight of its loss, given by hand; 1 unless"),
    Field("repeats", "number", "how often the picture counts in an epoch"),
    Field("dup", "number", "pictures in its group of near-duplicates, 0 when it stands alone"),
    Field("sharpness", "number", "0 to about 1; under 0.29 counts as blurred", exact=False),
    Field("face", "number", "height of the largest face, 0 to 1 of the picture's; 0 for none", exact=False),
    Field("blur", "flag", "counts as blurred, by sharpness or by the width of its edges"),
    Field("mask", "flag", "has a mask"),
    Field("framed", "flag", "turned, mirrored or cropped by hand"),
    Field("edited", "flag", "its caption was changed in this project"),
    Field("captioned", "flag", "has a caption that is not empty"),
    Field("pinned", "flag", "its caption was written by hand and is kept from batches"),
    Field("marked", "flag", "is marked"),
)
FIELDS: dict[str, Field] = {f.name: f for f in _ROWS}

KINDS = ("tags", "prose")
PROBLEMS = (
    *("animated", "blurry", "caption-bom", "caption-from-folder", "caption-lines", "caption-not-utf8"),
    *("corrupt-image", "dark", "duplicate-tags", "empty-caption", "fused-token", "identical-captions"),
    *("light", "long-caption", "low-information", "missing-caption", "name-not-utf8", "near-duplicate"),
    *("odd-aspect", "shared-caption", "short-caption", "similar-captions", "similar-pictures", "small-image"),
    *("tiny-face", "too-large", "too-many-tokens", "trigger-missing", "trigger-misspelt"),
    *("trigger-position", "truncated-image", "unreadable-caption", "unreadable-file", "unreadable-image"),
)
"""Short names of what is found of pictures and captions, for suggestions."""

TextOp = Literal["glob", "exact", "re"]
COMPARISONS: tuple[str, ...] = ("!=", "<=", ">=", "=", "<", ">")


@dataclass(frozen=True, slots=True)
class Term:
    r"""One test.

    Attributes:
        field: a name of `FIELDS`, or empty for a bare word.
        op: `glob`, `exact`, `re` for text; a comparison for numbers; `is` for yes and no.
        value: the pattern (in a glob each `\` stands before `*`, `?` or `\`), the number, or the flag.
    """

    field: str
    op: str
    value: str | float | bool


@dataclass(frozen=True, slots=True)
class Not:
    """Everything its part does not select."""

    part: Node


@dataclass(frozen=True, slots=True)
class And:
    """What all of its two or more parts select."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """What at least one of its two or more parts selects."""

    parts: tuple[Node, ...]


Node = Term | Not | And | Or


class QueryError(DatasetError):
    """A filter that cannot be read: where, why, and what was probably meant.

    Attributes:
        text: the filter.
        position: index of the character the error points at.
        suggestion: a text to type instead of the wrong part, or empty.
    """

    def __init__(self, text: str, position: int, message: str, suggestion: str = "") -> None:
        advice = f"Did you mean {suggestion} ?" if suggestion else ""
        super().__init__(f"filter, character {position + 1}: {message}", advice)
        self.text = text
        self.position = position
        self.reason = message
        self.suggestion = suggestion

    def pointer(self) -> str:
        """The filter and, on a line below, a caret under the character."""
        return f"{self.text}\n{' ' * self.position}^"


def escape_glob(text: str) -> str:
    r"""`text` as a pattern that matches only itself."""
    return re.sub(r"([*?\\])", r"\\\1", text)


def canonical_glob(pattern: str) -> str:
    r"""The pattern with each lone backslash doubled, so that one has one spelling."""
    return re.sub(r"\\([*?\\])|\\", lambda m: m.group(0) if m.group(1) else r"\\", pattern)


def canonical_regex(pattern: str) -> str:
    r"""The expression with `\"` spelled `"`, which means the same."""
    return re.sub(r"\\(.)", lambda m: '"' if m.group(1) == '"' else m.group(0), pattern, flags=re.DOTALL)


_PLAIN = re.compile(r"[^\W_][\w*?./\-]*")
_KEYWORDS = frozenset({"and", "or", "not"})


def to_text(node: Node) -> str:
    """The filter as text; parsing it gives the same tree."""
    if isinstance(node, Term):
        return _term_text(node)
    if isinstance(node, Not):
        return f"NOT {_inside(node.part, (And, Or))}"
    if isinstance(node, And):
        return " AND ".join(_inside(p, (And, Or)) for p in node.parts)
    return " OR ".join(_inside(p, (Or,)) for p in node.parts)


def _inside(node: Node, wrapped: tuple[type, ...]) -> str:
    text = to_text(node)
    return f"({text})" if isinstance(node, wrapped) else text


def number_text(value: float) -> str:
    """A number without a needless `.0`."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _term_text(term: Term) -> str:
    head = f"{term.field}:" if term.field else ""
    if term.op == "is":
        return head + ("yes" if term.value else "no")
    if isinstance(term.value, float | int) and not isinstance(term.value, bool):
        return f"{head}{term.op}{number_text(float(term.value))}"
    value = str(term.value)
    if term.op == "exact":
        quoted = re.sub(r'(["\\])', r"\\\1", value)
        return f'{head}="{quoted}"'
    if term.op == "re":
        quoted = re.sub(r'(\\.)|"', lambda m: m.group(1) or r"\"", value, flags=re.DOTALL)
        return f'{head}re:"{quoted}"'
    yes_no = value.lower() in {"yes", "no"} and bool(term.field)
    if _PLAIN.fullmatch(value) and value.lower() not in _KEYWORDS and not yes_no:
        return head + value
    quoted = value.replace('"', r"\"")
    return f'{head}"{quoted}"'
