"""From the text of a filter to its tree, with the place of the first mistake."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable

from loratui.dataset.query.nodes import (
    COMPARISONS,
    FIELDS,
    KINDS,
    PROBLEMS,
    And,
    Field,
    Node,
    Not,
    Or,
    QueryError,
    Term,
    canonical_glob,
    canonical_regex,
)

_DEPTH = 60
_NAME = re.compile(r"[A-Za-z_]+")
_KEYWORD = re.compile(r"(AND|OR|NOT)(?=[\s()]|$)", re.IGNORECASE)
_COMPARE = re.compile("|".join(COMPARISONS))
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)([kKmMgG]?)(?:[:/](\d+\.?\d*))?")
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_YES = {"yes": True, "true": True, "any": True, "no": False, "false": False, "none": False}


def parse(text: str) -> Node:
    """The tree of a filter.

    Raises:
        QueryError: it cannot be read; the error knows the character and what was probably meant.
    """
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over the text itself, so that each error has an exact place."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def fail(self, position: int, message: str, suggestion: str = "") -> QueryError:
        return QueryError(self.text, position, message, suggestion)

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def keyword(self) -> str:
        found = _KEYWORD.match(self.text, self.at)
        return found.group(1).upper() if found else ""

    def whole(self) -> Node:
        self.skip()
        if self.at == len(self.text):
            raise self.fail(0, "the filter is empty", "")
        node = self.either()
        if self.at < len(self.text):
            if self.text[self.at] == ")":
                raise self.fail(self.at, "this ) closes nothing")
            raise self.missing_operator()
        return node

    def missing_operator(self) -> QueryError:
        before = self.text[: self.at].rstrip()
        rest = re.match(r"[^\s()]+", self.text[self.at :])
        word = rest.group(0) if rest else self.text[self.at]
        last = re.search(r"(?:([A-Za-z]+):)?([^\s():\"']+)$", before)
        suggestion = f"{before} AND {word}"
        if last and _NAME.match(word) and ":" not in word and not self.keyword():
            head = f"{last.group(1)}:" if last.group(1) else ""
            suggestion = f'{head}"{last.group(2)} {word}"'
        return self.fail(self.at, "AND or OR is missing before this", suggestion)

    def either(self) -> Node:
        return self.joined("OR", self.both, Or)

    def both(self) -> Node:
        return self.joined("AND", self.negated, And)

    def joined(self, word: str, part: Callable[[], Node], make: type[And] | type[Or]) -> Node:
        parts = [part()]
        while True:
            self.skip()
            if self.keyword() != word:
                return parts[0] if len(parts) == 1 else make(tuple(parts))
            self.at += len(word)
            parts.append(part())

    def negated(self) -> Node:
        self.skip()
        if self.keyword() != "NOT":
            return self.primary()
        start = self.at
        self.at += 3
        self.deeper(start)
        node = Not(self.negated())
        self.depth -= 1
        return node

    def deeper(self, start: int) -> None:
        self.depth += 1
        if self.depth > _DEPTH:
            raise self.fail(start, f"nested deeper than {_DEPTH} levels")

    def primary(self) -> Node:
        self.skip()
        start = self.at
        if start == len(self.text):
            raise self.fail(start, "something to look for is missing at the end")
        if word := self.keyword():
            raise self.fail(
                start, f"{word} needs something before it", f'"{self.text[start : start + len(word)]}"'
            )
        if self.text[start] == ")":
            raise self.fail(start, "something to look for is missing before this )")
        if self.text[start] != "(":
            return self.term()
        self.at += 1
        self.deeper(start)
        node = self.either()
        self.depth -= 1
        self.skip()
        if self.at == len(self.text):
            raise self.fail(start, "this ( is never closed")
        if self.text[self.at] != ")":
            raise self.missing_operator()
        self.at += 1
        return node

    def term(self) -> Node:
        start = self.at
        name = _NAME.match(self.text, start)
        after = name.end() if name else start
        following = self.text[after : after + 1]
        word = name.group(0).lower() if name else ""
        if name and following == ":" and word != "re":
            field = FIELDS.get(word)
            if field is None:
                raise self.unknown_field(name.group(0), start)
            self.at = after + 1
            return self.field_value(field)
        if word in FIELDS and _COMPARE.match(self.text, after) and FIELDS[word].kind == "number":
            self.at = after
            return self.field_value(FIELDS[word])
        op, value = self.text_value("a word")
        return Term("", op, value)

    def unknown_field(self, word: str, start: int) -> QueryError:
        near = difflib.get_close_matches(word.lower(), list(FIELDS), n=1, cutoff=0.6)
        if near:
            return self.fail(start, f"there is no field {word}", f"{near[0]}:")
        rest = re.match(r"[^\s()]+", self.text[start:])
        whole = rest.group(0) if rest else word
        return self.fail(
            start, f"there is no field {word}; quote it to look for the text itself", f'"{whole}"'
        )

    def field_value(self, field: Field) -> Term:
        start = self.at
        if field.kind == "flag":
            return Term(field.name, "is", self.yes_no(field))
        if field.kind == "number":
            return self.number(field)
        bare = re.compile(r"(yes|no)(?=[\s()]|$)", re.IGNORECASE).match(self.text, start)
        if bare and field.kind != "tag" and field.name != "kind":
            self.at = bare.end()
            return Term(field.name, "is", bare.group(1).lower() == "yes")
        op, value = self.text_value(f"what {field.name}: is to be")
        if op == "glob":
            self.check_name(field, value, start)
        return Term(field.name, op, value)

    def check_name(self, field: Field, value: str, start: int) -> None:
        """A value that is one of a few names and is misspelt would select nothing, without a word."""
        names = {"kind": KINDS, "problem": PROBLEMS}.get(field.name)
        word = value.lower()
        if names is None or word in names or re.search(r"[*?\\]", value):
            return
        near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
        if near:
            begun = self.at == len(self.text) and near[0].startswith(word)
            message = f"there is no {field.name} called {value}"
            raise self.fail(self.at if begun else start, message, f"{field.name}:{near[0]}")
        if field.name == "kind":
            raise self.fail(start, "kind is tags or prose", "kind:tags")

    def bare_word(self) -> str:
        found = re.compile(r"[^\s()]+").match(self.text, self.at)
        return found.group(0) if found else ""

    def yes_no(self, field: Field) -> bool:
        word = self.bare_word()
        if word.lower() not in _YES:
            raise self.fail(self.at, f"{field.name}: takes yes or no", f"{field.name}:yes")
        self.at += len(word)
        return _YES[word.lower()]

    def number(self, field: Field) -> Term:
        word = self.bare_word()
        if word.lower() in _YES:
            self.at += len(word)
            return Term(field.name, "is", _YES[word.lower()])
        compare = _COMPARE.match(self.text, self.at)
        op = compare.group(0) if compare else "="
        at = self.at = compare.end() if compare else self.at
        self.skip()
        if self.text[self.at : self.at + 1] in ("=", "<", ">", "!"):
            raise self.fail(at, "this comparison is not known", f"{field.name}:>=")
        found = _NUMBER.match(self.text, self.at)
        word = self.bare_word()
        if not found or found.group(0) != word:
            raise self.fail(
                self.at, f"{field.name} takes a number", f"{field.name}:{op if compare else '>='}512"
            )
        value = float(found.group(1)) * _SCALE[found.group(2).lower()]
        if found.group(3):
            if float(found.group(3)) == 0:
                raise self.fail(self.at, "division by zero")
            value /= float(found.group(3))
        if not math.isfinite(value):
            raise self.fail(self.at, "this number is too large")
        self.at = found.end()
        return Term(field.name, op, value)

    def text_value(self, what: str) -> tuple[str, str]:
        """One of: `re:...`, `=...`, a quoted or a bare pattern."""
        op = "glob"
        if self.text.startswith("re:", self.at):
            op, self.at = "re", self.at + 3
        elif self.text.startswith("=", self.at) and self.text[self.at + 1 : self.at + 2].strip():
            op, self.at = "exact", self.at + 1
        start = self.at
        quote = self.text[start : start + 1]
        raw = self.quoted(quote, op) if quote in ('"', "'") and quote else self.bare(op == "re")
        if not raw and op != "exact":
            raise self.fail(start, f"{what} is missing here")
        if op == "glob":
            return op, canonical_glob(raw)
        if op == "re":
            raw = canonical_regex(raw)
            try:
                re.compile(raw)
            except (re.error, OverflowError, RecursionError) as error:
                inside = getattr(error, "pos", None) or 0
                at = start + inside + (quote in ('"', "'"))
                raise self.fail(at, f"the regular expression cannot be read: {error}") from None
        return op, raw

    def quoted(self, quote: str, op: str) -> str:
        start = self.at
        out: list[str] = []
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == quote:
                self.at += 1
                if self.at < len(self.text) and not (
                    self.text[self.at].isspace() or self.text[self.at] in "()"
                ):
                    raise self.missing_operator()
                return "".join(out)
            if char == "\\" and self.at + 1 < len(self.text):
                following = self.text[self.at + 1]
                drop = following == quote or (op == "exact" and following == "\\")
                out.append(following if drop else char + following)
                self.at += 2
                continue
            out.append(char)
            self.at += 1
        raise self.fail(start, f"this {quote} is never closed")

    def bare(self, any_start: bool) -> str:
        """Up to a space, or a parenthesis that was not opened inside the word (`hat_(clothing)`)."""
        start = self.at
        open_inside = 0
        while self.at < len(self.text):
            char = self.text[self.at]
            if char.isspace() or (char == "(" and self.at == start and not any_start):
                break
            if char == ")" and not open_inside:
                break
            open_inside += (char == "(") - (char == ")")
            self.at += 1
        if open_inside and not any_start:
            opened = self.text.index("(", start)
            raise self.fail(opened, "this ( is never closed", f'"{self.text[start : self.at]}"')
        return self.text[start : self.at]
